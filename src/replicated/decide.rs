//! Append, renew, take over: one decision, which replaces the head if it is still the one expected.
//!
//! ```text
//! if head == expected { head = new, and whatever goes with it } else { what is head? }
//!
//! done                          → done; the lease runs from the time this attempt was sent
//! not done, head is new         → an earlier attempt did it: done, and the lease runs from when that was sent
//! not done, head is another     → fenced. The batch may be in the log all the same, read what is at its LSN
//! refused, for certain          → this attempt did nothing; that says nothing about those before it
//! anything else                 → unknown: the same again, with the next member
//! ```
//!
//! It may be repeated for ever, because it cannot be done twice: it removes its own condition, and no head is
//! ever written again. What an attempt changes is seen by the next, since a transaction that may write goes
//! through etcd's own log. A decision whose outcome is not known is kept, and settled before any other.

use std::time::Duration;

use super::clock::{Clock, Moment};
use super::head::Head;
use super::keys::Keys;
use super::kv::{Answer, Condition, Held, Kv, Op, Refusal, Trouble, Txn};

/// Between two attempts, from the second failure on. etcd needs 1 to 2.3 s for a leader of its own, and an attempt
/// that is refused at once must not become a loop without a rest.
const REST: Duration = Duration::from_millis(50);

/// The time for one attempt: below a third of the TTL, so that a leader that renews each quarter can lose one
/// attempt, and ask another member, before its lease ends.
pub fn attempt_time(ttl: Duration) -> Duration {
    ttl * 3 / 10
}

/// How a decision ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head is the new one, and everything with it is written.
    Done {
        /// The lease runs from here.
        sent: Moment,
    },
    /// Nothing of it was done, and nothing ever will be.
    Refused(Refusal),
    /// Another value is in its place: this process does not lead, and never will by this decision.
    Fenced {
        /// The value that is there.
        by: Found,
        /// Whether the batch is in the log.
        batch: Batch,
    },
    /// The head is older than one that this process has seen written: etcd was restored from a backup, and
    /// acknowledged writes are gone from it.
    WentBack(Head),
}

/// What stands in the place of the expected head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The head of another term or, after an attempt that was done later, a later one.
    Head(Head),
    /// No key.
    Nothing,
    /// A value that no server writes.
    Strange(String),
}

/// Whether a batch whose decision was fenced is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// It is: an earlier attempt did it, before another node took over.
    Done,
    /// It is not, and never will be. Also if the decision had no batch.
    NotDone,
    /// The log begins after it by now.
    Unknown,
}

/// A change of the head that is on its way.
///
/// - All attempts are the same transaction.
/// - `doubt` is the time at which the first attempt was sent whose end is not known.
pub struct Decision {
    expected: Option<Head>,
    new: Head,
    txn: Txn,
    head_key: String,
    /// Read to learn something through etcd's own log.
    nothing_key: String,
    /// The key of its batch, and its place among the operations.
    batch: Option<(String, usize)>,
    doubt: Option<Moment>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// To be tried.
    Open,
    /// One attempt met a full etcd when it was sent at this time: done or not done, but over.
    Full { sent: Moment },
    /// Its place is taken; whether its batch is in the log is to be read.
    Fenced(Found),
}

/// The decision is still open, for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// For a person.
    pub why: String,
    last: Trouble,
}

impl Decision {
    /// Replaces `expected` (`None`: there must be no log yet) with `new`, and carries out `ops` with it. If
    /// `new` goes further, the batch is among these, under the LSN after the expected one.
    pub fn new(keys: &Keys, expected: Option<&Head>, new: Head, ops: Vec<Op>) -> Decision {
        let is_later = expected.is_none_or(|expected| expected.is_before(&new));
        assert!(is_later, "{new} does not follow {expected:?}");
        let lsn = expected.map_or(0, |head| head.lsn);
        let key = keys.batch(lsn + 1);
        let is_batch = |op: &Op| matches!(op, Op::Put(other, _) if *other == key);
        let at = ops.iter().position(is_batch);
        assert_eq!(at.is_some(), new.lsn > lsn, "the head goes as far as the log, and no further");
        let condition = match expected {
            Some(head) => Condition::Value(keys.head(), head.to_string().into_bytes()),
            // Nor what a log leaves whose head alone was deleted.
            None => Condition::Missing(vec![keys.head(), keys.format()]),
        };
        let mut success = ops;
        success.push(Op::Put(keys.head(), new.to_string().into_bytes()));
        Decision {
            expected: expected.cloned(),
            new,
            txn: Txn::new(condition, success, vec![Op::Get(keys.head())]),
            head_key: keys.head(),
            nothing_key: keys.nothing(),
            batch: at.map(|at| (key, at)),
            doubt: None,
            state: State::Open,
        }
    }

    /// The head it is to become.
    pub fn head(&self) -> &Head {
        &self.new
    }

    /// Whether nothing of it was done if it is given up now.
    pub fn is_certain(&self) -> bool {
        self.doubt.is_none() && matches!(self.state, State::Open)
    }

    /// One attempt to settle it, of at most `time`.
    pub fn step(
        &mut self,
        kv: &mut impl Kv,
        clock: &impl Clock,
        time: Duration,
    ) -> Result<Outcome, Unsettled> {
        let settled = match self.state.clone() {
            State::Open => self.attempt(kv, clock, time)?,
            State::Full { sent } => self.look(kv, sent, time)?,
            State::Fenced(by) => Some(self.search(kv, by, time)?),
        };
        match settled {
            Some(outcome) => Ok(outcome),
            // The next question follows at once: it is another one.
            None => self.step(kv, clock, time),
        }
    }

    fn attempt(
        &mut self,
        kv: &mut impl Kv,
        clock: &impl Clock,
        time: Duration,
    ) -> Result<Option<Outcome>, Unsettled> {
        // Before the first byte leaves: another node may see the head from then on.
        let sent = clock.now();
        match kv.txn(&self.txn, time) {
            Ok(Answer { condition: Held::Yes, .. }) => Ok(Some(Outcome::Done { sent })),
            Ok(Answer { condition: Held::No, found }) => {
                let found = found.into_iter().next().expect("one for each read of the transaction");
                if self.expected.is_some() && found == self.expected_value() {
                    let why = "etcd says that the head is another, and shows the same".to_owned();
                    self.doubt.get_or_insert(sent);
                    return Err(unsettled(Trouble::Unknown(why)));
                }
                Ok(self.judge(found, sent))
            }
            Err(Trouble::NoSpace) => {
                self.state = State::Full { sent };
                Ok(None)
            }
            Err(Trouble::Refused(refusal @ (Refusal::ForGood(_) | Refusal::NoSpace)))
                if self.doubt.is_none() =>
            {
                Ok(Some(Outcome::Refused(refusal)))
            }
            Err(refused @ Trouble::Refused(_)) => Err(unsettled(refused)),
            Err(unknown @ Trouble::Unknown(_)) => {
                self.doubt.get_or_insert(sent);
                Err(unsettled(unknown))
            }
        }
    }

    /// etcd is full: all transactions that write are answered so from now on, and only a read tells whether the
    /// one that filled it was this.
    fn look(
        &mut self,
        kv: &mut impl Kv,
        sent: Moment,
        time: Duration,
    ) -> Result<Option<Outcome>, Unsettled> {
        let found = self.read(kv, self.head_key.clone(), time)?;
        self.state = State::Open;
        if found != self.expected_value() {
            return Ok(self.judge(found, sent));
        }
        match self.doubt {
            None => Ok(Some(Outcome::Refused(Refusal::NoSpace))),
            // An attempt before may still be on its way, and there may be space when it arrives.
            Some(_) => Err(unsettled(Trouble::NoSpace)),
        }
    }

    /// Settles it by a head that is not the one expected.
    fn judge(&mut self, found: Option<Vec<u8>>, sent: Moment) -> Option<Outcome> {
        let by = match found {
            None => Found::Nothing,
            Some(value) if value == self.new.to_string().as_bytes() => {
                return Some(Outcome::Done { sent: self.doubt.unwrap_or(sent) });
            }
            Some(value) => match Head::parse(&value) {
                Ok(head) if self.expected.as_ref().is_some_and(|own| head.is_before(own)) => {
                    return Some(Outcome::WentBack(head));
                }
                Ok(head) => Found::Head(head),
                Err(why) => Found::Strange(why),
            },
        };
        if self.batch.is_none() {
            return Some(Outcome::Fenced { by, batch: Batch::NotDone });
        }
        self.state = State::Fenced(by);
        None
    }

    /// Looks for the batch in the log: an attempt that had no answer may have been done before another node took
    /// over.
    fn search(&self, kv: &mut impl Kv, by: Found, time: Duration) -> Result<Outcome, Unsettled> {
        let (key, at) = self.batch.as_ref().expect("only a decision with a batch gets here");
        let Op::Put(_, frame) = &self.txn.ops(Held::Yes)[*at] else { unreachable!("see new") };
        let found = self.read(kv, key.clone(), time)?;
        let lsn = self.expected.as_ref().map_or(0, |head| head.lsn) + 1;
        let batch = match (found, &by) {
            // The term and the checksum of the batch before are in the frame: no other node writes the same.
            (Some(found), _) if found == *frame => Batch::Done,
            (Some(_), _) => Batch::NotDone,
            (None, Found::Head(head)) if head.first_log_lsn <= lsn => Batch::NotDone,
            (None, _) => Batch::Unknown,
        };
        Ok(Outcome::Fenced { by, batch })
    }

    /// Reads a key, so that every transaction that was applied before is seen.
    fn read(
        &self,
        kv: &mut impl Kv,
        key: String,
        time: Duration,
    ) -> Result<Option<Vec<u8>>, Unsettled> {
        let answer = kv.txn(&Txn::read(key, self.nothing_key.clone()), time).map_err(unsettled)?;
        Ok(answer.found.into_iter().next().expect("one for each read of the transaction"))
    }

    fn expected_value(&self) -> Option<Vec<u8>> {
        self.expected.as_ref().map(|head| head.to_string().into_bytes())
    }
}

fn unsettled(last: Trouble) -> Unsettled {
    let why = match &last {
        Trouble::Refused(refusal) => refusal.to_string(),
        Trouble::NoSpace => Refusal::NoSpace.to_string(),
        Trouble::Unknown(why) => why.clone(),
    };
    Unsettled { why, last }
}

/// Tries to settle a decision until a time. What is unsettled then may be tried again later, by the same call.
pub fn decide(
    decision: &mut Decision,
    kv: &mut impl Kv,
    clock: &impl Clock,
    time: Duration,
    until: Moment,
) -> Result<Outcome, Unsettled> {
    for round in 0_u64.. {
        let unsettled = match decision.step(kv, clock, time) {
            Ok(outcome) => return Ok(outcome),
            Err(unsettled) => unsettled,
        };
        if clock.now() >= until {
            return match unsettled.last {
                Trouble::Refused(refusal) if decision.is_certain() => Ok(Outcome::Refused(refusal)),
                _ => Err(unsettled),
            };
        }
        // The first may have been a connection that the member had closed long ago.
        if round > 0 {
            clock.rest(REST);
        }
    }
    unreachable!("the rounds never end")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::client::Client;
    use super::super::fake::FakeEtcd;
    use super::super::head::{Node, Tenure};
    use super::super::kv::MOST_TXN_OPS;
    use super::super::scripted::{Fault, Hands, Way, client};
    use super::*;

    /// A log with one batch, whose leader is the first node.
    struct Fixture {
        etcd: Arc<Mutex<FakeEtcd>>,
        clock: Hands,
        keys: Keys,
        head: Head,
    }

    const TIME: Duration = Duration::from_secs(1);
    const FRAME: &[u8] = b"the second batch";

    fn node(id: &str) -> Node {
        Node::new(id, "h:1").unwrap()
    }

    impl Fixture {
        fn new() -> Fixture {
            let etcd = Arc::new(Mutex::new(FakeEtcd::default()));
            let (clock, keys) = (Hands::at(Duration::from_secs(1000)), Keys::new("shop"));
            let first = Head::first(node("n1"), 1, 9);
            let mut it = Fixture { etcd, clock, keys, head: first.clone() };
            let mut create = Decision::new(&it.keys, None, first.clone(), vec![]);
            it.done(&mut create);
            it.head = first.appended(3, 1, 1);
            let batch = Op::Put(it.keys.batch(1), b"the first batch".to_vec());
            let mut append = Decision::new(&it.keys, Some(&first), it.head.clone(), vec![batch]);
            it.done(&mut append);
            it
        }

        fn client(&self, faults: &[Fault]) -> Client<Way> {
            client(&self.etcd, &self.clock, faults)
        }

        /// Settles a decision without faults.
        fn done(&self, decision: &mut Decision) {
            let outcome = self.decide(decision, &[]);
            assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
        }

        fn decide(&self, decision: &mut Decision, faults: &[Fault]) -> Result<Outcome, Unsettled> {
            let until = self.clock.now() + TIME * 30;
            decide(decision, &mut self.client(faults), &self.clock, TIME, until)
        }

        /// The batch of the records 4 to 7.
        fn append(&self) -> Decision {
            let batch = Op::Put(self.keys.batch(4), FRAME.to_vec());
            let new = self.head.appended(7, 1, 2);
            Decision::new(&self.keys, Some(&self.head), new, vec![batch])
        }

        /// What the head is in etcd.
        fn found(&self) -> Head {
            let value = self.etcd.lock().value(&self.keys.head());
            Head::parse(&value.unwrap()).unwrap()
        }

        fn has_batch(&self) -> bool {
            self.etcd.lock().value(&self.keys.batch(4)).as_deref() == Some(FRAME)
        }

        /// Another node takes over from whatever is there, and appends a batch if it is to.
        fn rival(&self, appends: bool) -> Head {
            let found = self.found();
            let mut head = found.taken_over(node("n2"), 2, 0);
            self.done(&mut Decision::new(&self.keys, Some(&found), head.clone(), vec![]));
            if appends {
                let next = head.appended(head.lsn + 5, 1, 1);
                let batch = Op::Put(self.keys.batch(head.lsn + 1), b"of another".to_vec());
                self.done(&mut Decision::new(&self.keys, Some(&head), next.clone(), vec![batch]));
                head = next;
            }
            head
        }
    }

    fn faults() -> Vec<Fault> {
        let changed = Fault::error("etcdserver: leader changed");
        let many = Fault::error("etcdserver: too many requests");
        let header = r#"{"header":{"cluster_id":"3","revision":"7"}}"#;
        vec![
            Fault::None,
            Fault::NoConnection,
            Fault::Lost,
            Fault::ReplyLost,
            Fault::Late(1),
            Fault::Late(2),
            Fault::Instead(changed.0, changed.1.clone()),
            Fault::DoneBut(changed.0, changed.1),
            Fault::Instead(429, many.1),
            Fault::Instead(200, "{}".into()),
            Fault::Instead(200, header.into()),
            Fault::DoneBut(502, "<html>Bad Gateway</html>".into()),
        ]
    }

    #[test]
    fn whatever_happens_to_its_attempts_a_decision_says_what_is_in_the_log() {
        let kinds = faults();
        let all = (0..kinds.len().pow(3)).flat_map(|n| (0..8).map(move |rival| (n, rival)));
        let mut ends = std::collections::BTreeMap::<String, usize>::new();
        for (n, rival) in all {
            let of = |place: u32| kinds[n / kinds.len().pow(place) % kinds.len()].clone();
            let faults = [of(0), of(1), of(2)];
            let it = Fixture::new();
            let (mut kv, mut decision) = (it.client(&faults), it.append());
            let began = it.clock.now();
            let mut outcome = None;
            for round in 0..12 {
                // A rival comes before one of the first four attempts, and appends or not; or there is none.
                if rival > 0 && round == rival / 2 {
                    it.rival(rival % 2 == 0);
                }
                if let Ok(settled) = decision.step(&mut kv, &it.clock, TIME) {
                    outcome = Some(settled);
                    break;
                }
            }
            let case = format!("{faults:?}, rival {rival}: {outcome:?}");
            let outcome = outcome.unwrap_or_else(|| panic!("{case}"));
            // What is late must change nothing any more.
            let settled = (it.found(), it.has_batch());
            let mut later = it.client(&[]);
            for _ in 0..3 {
                let read = Txn::read(it.keys.head(), it.keys.nothing());
                later.txn(&read, TIME).unwrap();
                // This one brings the late ones with it, and may meet a fault itself.
                let _ = kv.txn(&read, TIME);
            }
            assert_eq!(settled, (it.found(), it.has_batch()), "{case}");
            *ends.entry(format!("{outcome:?}").chars().take(8).collect()).or_default() += 1;
            match outcome {
                Outcome::Done { sent } => {
                    assert!(it.has_batch(), "{case}");
                    assert!(began <= sent && sent < it.clock.now(), "{case}");
                }
                Outcome::Fenced { by, batch } => {
                    assert_eq!(by, Found::Head(it.found()), "{case}");
                    let told = if it.has_batch() { Batch::Done } else { Batch::NotDone };
                    assert_eq!(batch, told, "{case}");
                }
                Outcome::Refused(_) | Outcome::WentBack(_) => panic!("{case}"),
            }
        }
        assert!(ends.len() == 2 && ends.values().all(|count| *count > 1000), "{ends:?}");
    }

    #[test]
    fn a_lease_runs_from_the_time_at_which_the_attempt_was_sent_that_did_it() {
        let it = Fixture::new();
        let began = it.clock.now();
        let outcome = it.decide(&mut it.append(), &[Fault::NoConnection]);
        assert_eq!(outcome, Ok(Outcome::Done { sent: began + TIME }), "no doubt about the first");

        let it = Fixture::new();
        let began = it.clock.now();
        let outcome = it.decide(&mut it.append(), &[Fault::Lost]);
        assert_eq!(outcome, Ok(Outcome::Done { sent: began + TIME }), "the second did it");

        let it = Fixture::new();
        let began = it.clock.now();
        let outcome = it.decide(&mut it.append(), &[Fault::ReplyLost, Fault::Lost]);
        assert_eq!(outcome, Ok(Outcome::Done { sent: began }), "the first did it, or the second");
    }

    #[test]
    fn a_batch_that_was_done_before_another_node_took_over_is_found_in_the_log() {
        let it = Fixture::new();
        let (mut kv, mut append) = (it.client(&[Fault::ReplyLost]), it.append());
        assert!(append.step(&mut kv, &it.clock, TIME).is_err());
        let by = Found::Head(it.rival(true));
        // The search itself may fail, and is made again.
        let mut kv = it.client(&[Fault::None, Fault::Lost, Fault::Lost]);
        assert!(append.step(&mut kv, &it.clock, TIME).is_err());
        assert!(!append.is_certain());
        assert!(append.step(&mut kv, &it.clock, TIME).is_err());
        let outcome = append.step(&mut kv, &it.clock, TIME);
        assert_eq!(outcome, Ok(Outcome::Fenced { by, batch: Batch::Done }));
    }

    #[test]
    fn a_batch_whose_place_was_trimmed_meanwhile_is_neither_done_nor_not_done() {
        let it = Fixture::new();
        let mut append = it.append();
        let head = it.rival(true);
        let trimmed = head.trimmed(head.lsn + 1, 2);
        let drop = vec![Op::DeleteRange(it.keys.batches(1, head.lsn + 1))];
        it.done(&mut Decision::new(&it.keys, Some(&head), trimmed.clone(), drop));
        let by = Found::Head(trimmed);
        assert_eq!(it.decide(&mut append, &[]), Ok(Outcome::Fenced { by, batch: Batch::Unknown }));
    }

    #[test]
    fn what_is_unsettled_at_the_end_of_the_time_is_settled_later_by_the_same_decision() {
        let it = Fixture::new();
        let mut append = it.append();
        let mut down = vec![Fault::ReplyLost];
        down.extend(vec![Fault::Lost; 40]);
        let began = it.clock.now();
        let unsettled = it.decide(&mut append, &down).unwrap_err();
        assert_eq!(unsettled.why, "b:1: timeout: global");
        let took = it.clock.now().since(began);
        assert!(took >= TIME * 30 && took < TIME * 32, "{took:?}");
        assert!(!append.is_certain());
        assert_eq!(it.decide(&mut append, &[]), Ok(Outcome::Done { sent: began }));
    }

    #[test]
    fn only_what_never_left_this_machine_is_refused_when_its_time_is_over() {
        let it = Fixture::new();
        let outcome = it.decide(&mut it.append(), &vec![Fault::NoConnection; 99]);
        assert!(matches!(outcome, Ok(Outcome::Refused(Refusal::ForNow(_)))), "{outcome:?}");
        let mut faults = vec![Fault::NoConnection; 99];
        faults[3] = Fault::Lost;
        let outcome = it.decide(&mut it.append(), &faults);
        assert!(outcome.is_err(), "{outcome:?}");
    }

    #[test]
    fn what_etcd_refuses_for_good_was_not_done_unless_an_attempt_before_is_in_doubt() {
        let too_large = Fault::Instead(400, Fault::error("etcdserver: request is too large").1);
        let it = Fixture::new();
        let outcome = it.decide(&mut it.append(), std::slice::from_ref(&too_large));
        assert!(matches!(outcome, Ok(Outcome::Refused(Refusal::ForGood(_)))), "{outcome:?}");
        let outcome = it.decide(&mut it.append(), &[Fault::ReplyLost, too_large]);
        assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
    }

    #[test]
    fn a_batch_that_fills_etcd_to_its_quota_is_done_though_etcd_answers_with_an_error() {
        let it = Fixture::new();
        it.etcd.lock().quota = 1;
        let began = it.clock.now();
        assert_eq!(it.decide(&mut it.append(), &[]), Ok(Outcome::Done { sent: began }));
        assert!(it.has_batch());
    }

    #[test]
    fn a_batch_for_which_a_full_etcd_has_no_space_is_refused_and_not_done() {
        let it = Fixture::new();
        it.etcd.lock().quota = 1;
        it.done(&mut Decision::new(&it.keys, Some(&it.head), it.head.renewed(2), vec![]));
        let head = it.head.renewed(2);
        let batch = Op::Put(it.keys.batch(4), FRAME.to_vec());
        let mut append = Decision::new(&it.keys, Some(&head), head.appended(7, 1, 3), vec![batch]);
        assert_eq!(it.decide(&mut append, &[]), Ok(Outcome::Refused(Refusal::NoSpace)));
        assert!(!it.has_batch());
        // With an attempt in doubt it stays so, until there is space.
        assert!(it.decide(&mut append, &[Fault::Lost]).is_err());
        it.etcd.lock().disarm();
        assert!(matches!(it.decide(&mut append, &[]), Ok(Outcome::Done { .. })));
    }

    #[test]
    fn an_etcd_that_went_back_in_time_is_noticed() {
        let it = Fixture::new();
        let old = it.head.clone();
        it.done(&mut it.append());
        let now = old.appended(7, 1, 2);
        // Restored from a backup: what was written since is gone.
        let put = |value: &Head| Op::Put(it.keys.head(), value.to_string().into_bytes());
        let restore = Txn::new(Condition::Always, vec![put(&old)], vec![]);
        it.client(&[]).txn(&restore, TIME).unwrap();
        let mut renew = Decision::new(&it.keys, Some(&now), now.renewed(3), vec![]);
        assert_eq!(it.decide(&mut renew, &[]), Ok(Outcome::WentBack(old)));
    }

    #[test]
    fn a_head_that_is_gone_or_strange_fences() {
        let it = Fixture::new();
        let strange =
            Txn::new(Condition::Always, vec![Op::Put(it.keys.head(), b"x".into())], vec![]);
        it.client(&[]).txn(&strange, TIME).unwrap();
        let outcome = it.decide(&mut it.append(), &[]);
        let is_strange = |by: &Found| matches!(by, Found::Strange(_));
        assert!(
            matches!(&outcome, Ok(Outcome::Fenced { by, batch: Batch::Unknown }) if is_strange(by)),
            "{outcome:?}"
        );
        let gone = Txn::new(Condition::Always, vec![Op::Delete(it.keys.head())], vec![]);
        it.client(&[]).txn(&gone, TIME).unwrap();
        let outcome = it.decide(&mut it.append(), &[]);
        let by = Found::Nothing;
        assert_eq!(outcome, Ok(Outcome::Fenced { by, batch: Batch::Unknown }));
    }

    #[test]
    fn a_log_is_not_created_where_one_is_left_without_its_head() {
        let it = Fixture::new();
        let mut client = it.client(&[]);
        let left = vec![Op::Delete(it.keys.head()), Op::Put(it.keys.format(), b"v2 9".into())];
        client.txn(&Txn::new(Condition::Always, left, vec![]), TIME).unwrap();
        let mut create = Decision::new(&it.keys, None, Head::first(node("n2"), 2, 8), vec![]);
        let outcome = it.decide(&mut create, &[]);
        let by = Found::Nothing;
        assert_eq!(outcome, Ok(Outcome::Fenced { by, batch: Batch::NotDone }));
        assert_eq!(it.etcd.lock().value(&it.keys.head()), None);
    }

    #[test]
    fn two_nodes_that_create_a_log_do_not_both_succeed() {
        let it = Fixture::new();
        let mut create = Decision::new(&it.keys, None, Head::first(node("n2"), 2, 8), vec![]);
        let by = Found::Head(it.head.clone());
        assert_eq!(it.decide(&mut create, &[]), Ok(Outcome::Fenced { by, batch: Batch::NotDone }));
        let freed = it.head.freed(2);
        it.done(&mut Decision::new(&it.keys, Some(&it.head), freed, vec![]));
        assert_eq!(it.found().tenure, Tenure::Free);
    }

    #[test]
    fn an_attempt_takes_less_than_a_third_of_the_ttl() {
        let ttl = Duration::from_secs(3);
        assert!(attempt_time(ttl) < ttl / 3 && attempt_time(ttl) > ttl / 4);
        assert_eq!(MOST_TXN_OPS, 128, "a head beside at most 127 others");
    }

    #[test]
    #[should_panic = "the head goes as far as the log, and no further"]
    fn a_head_that_goes_further_without_a_batch_is_a_bug() {
        let it = Fixture::new();
        Decision::new(&it.keys, Some(&it.head), it.head.appended(7, 1, 2), vec![]);
    }
}
