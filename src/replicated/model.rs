//! For tests: three nodes that lead and follow by turns in a world full of faults, and what must never happen.
//!
//! - What was acknowledged is in the log for ever, and what was said not to be done never is.
//! - The log has no gap, and no LSN two values.
//! - No node shows what it has once another has taken over, even if it is stopped in the middle of a read, and
//!   though no two clocks go at the same rate.

#[cfg(test)]
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::candidate::{Candidate, Seen};
use super::client::Client;
use super::clock::Clock;
use super::decide::{Batch, Decision, Found, Outcome, attempt_time, decide};
use super::head::{Head, History, Node, Tenure};
use super::history;
use super::json::{Freshness, Rest};
use super::keys::Keys;
use super::kv::Op;
use super::lease::Lease;
use super::members::Members;
use super::world::{Place, World};

const NODES: usize = 3;
const TTL: Duration = Duration::from_secs(3);
/// A world's time: enough for some ten changes of the leader.
const LASTS: Duration = Duration::from_secs(90);
/// A batch that is not settled after this time would be answered as unknown.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the nodes said to their clients.
#[derive(Default)]
struct Said {
    done: BTreeMap<u64, Vec<u8>>,
    not_done: Vec<(u64, Vec<u8>)>,
    shown: u64,
    withheld: u64,
    terms: u64,
    fenced_done: u64,
}

/// What the threads of a node share.
struct Shared {
    lease: Lease,
    applied: AtomicU64,
}

struct Life<'a> {
    place: &'a Place,
    client: Client<&'a Place>,
    keys: Keys,
    node: Node,
    process: u64,
    beat: u64,
    /// Of the last batch that it has applied.
    checksum: u32,
    shared: &'a Shared,
    said: &'a Mutex<Said>,
}

impl Life<'_> {
    fn time(&self) -> Duration {
        attempt_time(TTL)
    }

    fn next_beat(&mut self) -> u64 {
        self.beat += 1;
        self.beat
    }

    fn applied(&self) -> u64 {
        self.shared.applied.load(Ordering::SeqCst)
    }

    /// Reads the log up to `lsn`, if it is there to be read. Each batch ends where the next one begins.
    fn catch_up(&mut self, lsn: u64, freshness: Freshness) -> bool {
        while self.applied() < lsn {
            let range = self.keys.batches(self.applied() + 1, lsn + 1);
            let Ok(page) = self.client.range(&range, 8, freshness, self.time()) else {
                return false;
            };
            let (mut at, before) = (self.applied(), self.checksum);
            for (key, value) in &page.pairs {
                assert_eq!(self.keys.lsn_of_batch(key), Some(at + 1), "a gap");
                at += records(value);
                self.checksum = checksum(self.checksum, value);
            }
            if page.pairs.is_empty() || (page.rest == Rest::None && at < lsn) {
                // A member that lags; one that does not would break the promise.
                self.checksum = before;
                assert_eq!(freshness, Freshness::AnyAge, "the head goes further than the log");
                return false;
            }
            self.shared.applied.store(at, Ordering::SeqCst);
        }
        true
    }

    fn follow(&mut self) {
        let mut candidate = Candidate::new(TTL, self.node.id());
        while self.place.goes_on() {
            self.place.rest(Duration::from_millis(50 + self.place.below(50)));
            let read = self.client.get(&self.keys.head(), Freshness::AnyAge, self.time());
            let Ok(Some(value)) = read else { continue };
            let seen = candidate.see(Head::parse(&value).expect("a head"), self.place.now());
            assert!(!matches!(seen, Seen::Foreign(_)), "there is one log here: {seen:?}");
            let head = candidate.head().expect("it was just seen").clone();
            self.catch_up(head.lsn, Freshness::AnyAge);
            let has_read_this = history::compare_end(&head, self.applied(), self.checksum);
            assert_eq!(has_read_this, Ok(()), "there is one log here");
            let may = candidate.may_stand(self.applied(), self.place.now());
            if let Some(head) = may.then(|| self.stand(&head)).flatten() {
                self.lead(head);
                candidate = Candidate::new(TTL, self.node.id());
            }
        }
    }

    /// Tries to take over; the new head if it did, and has read all there is.
    fn stand(&mut self, seen: &Head) -> Option<Head> {
        let beat = self.next_beat();
        let new = seen.taken_over(self.node.clone(), self.process, beat);
        let mut take = Decision::new(&self.keys, Some(seen), new.clone(), vec![]);
        let until = self.place.now() + TTL;
        let (place, time) = (self.place, self.time());
        let outcome = decide(&mut take, &mut self.client, &place, time, until);
        let Ok(Outcome::Done { sent }) = outcome else { return None };
        while !self.catch_up(new.lsn, Freshness::Current) {
            self.place.goes_on().then_some(())?;
        }
        assert!(self.applied() == new.lsn, "it follows no further than the log went");
        assert_eq!(new.history, Some(History { store: 9, checksum: self.checksum }), "of this log");
        self.said.lock().terms += 1;
        self.shared.lease.begin(new.term, sent);
        Some(new)
    }

    fn lead(&mut self, mut head: Head) {
        while self.place.goes_on() {
            self.place.rest(Duration::from_millis(self.place.below(300)));
            let beat = self.next_beat();
            let (new, ops) = match self.place.below(100) {
                0 => {
                    self.shared.lease.end();
                    (head.freed(beat), vec![])
                }
                1..30 => (head.renewed(beat), vec![]),
                more => {
                    let records = 1 + more % 7;
                    let value = format!("{records} of {} {beat}", self.process).into_bytes();
                    let checksum = checksum(self.checksum, &value);
                    let batch = Op::Put(self.keys.batch(head.lsn + 1), value);
                    (head.appended(head.lsn + records, checksum, beat), vec![batch])
                }
            };
            let mut decision = Decision::new(&self.keys, Some(&head), new.clone(), ops.clone());
            match self.settle(&mut decision) {
                Some(Outcome::Done { sent }) => {
                    self.answer(&head, &ops, Batch::Done);
                    self.note_done(&new);
                    if decision.head().tenure == Tenure::Free {
                        return;
                    }
                    self.shared.lease.extend(sent);
                    head = new;
                }
                Some(Outcome::Refused(_)) => self.answer(&head, &ops, Batch::NotDone),
                Some(Outcome::Fenced { by, batch }) => {
                    self.shared.lease.end();
                    assert!(matches!(by, Found::Head(by) if by.term > head.term));
                    self.answer(&head, &ops, batch);
                    if batch == Batch::Done && !ops.is_empty() {
                        self.said.lock().fenced_done += 1;
                        self.note_done(&new);
                    }
                    return;
                }
                Some(Outcome::WentBack(head)) => panic!("back to {head}"),
                None => return self.shared.lease.end(),
            }
        }
    }

    /// Settles a decision, however long that takes; `None` if the world ends before.
    fn settle(&mut self, decision: &mut Decision) -> Option<Outcome> {
        loop {
            let until = self.place.now() + PATIENCE;
            let (place, time) = (self.place, self.time());
            let outcome = decide(decision, &mut self.client, &place, time, until);
            match outcome {
                Ok(outcome) => return Some(outcome),
                Err(_) => self.place.goes_on().then_some(())?,
            }
        }
    }

    fn note_done(&mut self, new: &Head) {
        self.shared.applied.store(new.lsn, Ordering::SeqCst);
        self.checksum = new.history.expect("of version 2").checksum;
    }

    fn answer(&self, head: &Head, ops: &[Op], batch: Batch) {
        let [Op::Put(_, value)] = ops else { return };
        let (lsn, mut said) = (head.lsn + 1, self.said.lock());
        match batch {
            Batch::Done => {
                let before = said.done.insert(lsn, value.clone());
                assert!(before.is_none(), "{lsn} was acknowledged twice");
            }
            Batch::NotDone => said.not_done.push((lsn, value.clone())),
            Batch::Unknown => panic!("nothing is trimmed here"),
        }
    }
}

/// That of a batch, chained to the one before.
fn checksum(before: u32, value: &[u8]) -> u32 {
    crc32c::crc32c_append(before, value)
}

/// The number of records in a batch of these tests.
fn records(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("text");
    text.split(' ').next().and_then(|it| it.parse().ok()).expect("a number")
}

/// Reads again and again, as clients do.
fn read(place: &Place, shared: &Shared, said: &Mutex<Said>, term_in_etcd: &AtomicU64) {
    while place.goes_on() {
        place.rest(Duration::from_millis(20 + place.below(60)));
        let before = shared.lease.term(&place);
        let value = shared.applied.load(Ordering::SeqCst);
        let acknowledged = said.lock().done.last_key_value().map_or(0, |(lsn, _)| *lsn);
        place.settle();
        let term_then = term_in_etcd.load(Ordering::SeqCst);
        place.stumble();
        let after = shared.lease.term(&place);
        let Some(term) = before.filter(|_| before == after) else {
            said.lock().withheld += 1;
            continue;
        };
        assert_eq!(term, term_then, "shown, though another node had taken over");
        assert!(value >= acknowledged, "shown {value} after {acknowledged} was acknowledged");
        said.lock().shown += 1;
    }
}

fn run(seed: u64) -> Said {
    let (keys, said) = (Keys::new("shop"), Mutex::new(Said::default()));
    let term_in_etcd = Arc::new(AtomicU64::new(0));
    let (witness, head_key) = (term_in_etcd.clone(), keys.head());
    let world = World::new(seed, 2 * NODES, LASTS, move |etcd| {
        let value = etcd.value(&head_key).unwrap_or_default();
        let Ok(head) = Head::parse(&value) else { return };
        let before = witness.swap(head.term, Ordering::SeqCst);
        assert!(before <= head.term, "the term goes back");
    });
    let node = |at: usize| Node::new(&format!("n{at}"), "h:1").expect("a node");
    let shared: Vec<Shared> =
        (0..NODES).map(|_| Shared { lease: Lease::new(TTL), applied: AtomicU64::new(0) }).collect();
    std::thread::scope(|scope| {
        for (at, shared) in shared.iter().enumerate() {
            let (world, said, term_in_etcd, keys) = (&world, &said, &term_in_etcd, &keys);
            scope.spawn(move || {
                let place = Place::new(world, 2 * at, at, seed);
                place.begin();
                let members = Members::new(vec!["a:1".into(), "b:1".into()], None);
                let client = Client::new(&place, members, None);
                let (place, process, beat, checksum) = (&place, 100 + at as u64, 0, 0);
                let (keys, node) = (keys.clone(), node(at));
                let mut life =
                    Life { place, client, keys, node, process, beat, checksum, shared, said };
                if at == 0 {
                    let first = Head::first(life.node.clone(), 99, 9);
                    let mut create = Decision::new(&life.keys, None, first.clone(), vec![]);
                    life.settle(&mut create);
                }
                life.follow();
            });
            scope.spawn(move || {
                let place = Place::new(world, 2 * at + 1, at, seed);
                place.begin();
                read(&place, shared, said, term_in_etcd);
            });
        }
    });
    let said = said.into_inner();
    world.etcd(|etcd| {
        let in_log = |lsn: u64| etcd.value(&keys.batch(lsn));
        for (lsn, value) in &said.done {
            assert_eq!(in_log(*lsn).as_ref(), Some(value), "{lsn} was acknowledged");
        }
        for (lsn, value) in &said.not_done {
            assert_ne!(in_log(*lsn).as_ref(), Some(value), "{lsn} was said not to be done");
        }
        let head = Head::parse(&etcd.value(&keys.head()).expect("a head")).expect("a head");
        let mut at = 0;
        while at < head.lsn {
            at += records(&in_log(at + 1).expect("no gap"));
        }
        assert_eq!(at, head.lsn, "the head goes as far as the log");
    });
    said
}

/// Worlds that are tried; SEED names a single one, and WORLDS another number of them.
const WORLDS: u64 = 24;

#[test]
fn nodes_that_take_over_from_each_other_lose_nothing_and_show_nothing_outdated() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let worlds = number("WORLDS").unwrap_or(WORLDS);
    let seeds = number("SEED").map_or(1..=worlds, |seed| seed..=seed);
    let mut total = Said::default();
    let (mut done, mut tried) = (0, 0);
    for seed in seeds {
        let said = std::panic::catch_unwind(|| run(seed));
        let said = said.unwrap_or_else(|_| panic!("it fails with SEED={seed}"));
        total.shown += said.shown;
        total.withheld += said.withheld;
        total.terms += said.terms;
        total.fenced_done += said.fenced_done;
        total.not_done.extend(said.not_done);
        (done, tried) = (done + said.done.len() as u64, tried + 1);
    }
    let Said { terms, fenced_done, shown, withheld, .. } = total;
    let not_done = total.not_done.len() as u64;
    println!(
        "{tried} worlds, {terms} terms; batches: {done} done, {fenced_done} of them as their leader was \
         replaced, {not_done} not done; reads: {shown} shown, {withheld} withheld"
    );
    if tried >= WORLDS {
        assert!(terms > 3 * tried && done > 50 * tried && shown > 200 * tried, "this shows little");
        assert!(fenced_done > tried / 4 && not_done > tried / 8, "this shows little");
    }
}
