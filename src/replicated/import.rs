//! Fills a name in etcd that has no log yet, with a snapshot.
//!
//! ```text
//! claim    if there is no head, no format and no snapshot   { head = "importing <process>.0" }
//! piece n  if head == "importing <process>.<n>"             { snap/… = piece, head = "importing <process>.<n + 1>" }
//! finish   if head == "importing <process>.<n>"             { snapshot = pointer, format, head = a head of LSN and term 1 }
//! ```
//!
//! So an import never mixes with another one, nor with a server that begins a log: each changes the head, on the condition
//! that it is as this one left it. A server takes no such head, and says why. An import that was interrupted leaves one
//! that changes no more, and the next import replaces it, as a server replaces a leader that is gone; should the first only
//! have been slow, it finds that out by its next transaction. The log is there with the last one, whole, or not at all.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use super::client::{Client, MOST_BATCHES, Transport};
use super::clock::Clock;
use super::format;
use super::head::{Head, History, IMPORTING, Node};
use super::json::Freshness;
use super::keys::{Keys, Range};
use super::kv::{Answer, Condition, Held, Kv, Op, Refusal, Trouble, Txn};
use super::log::LONGEST_ENTRY;
use super::pieces::{PIECE_BYTES, Pieces, read_back};
use super::pointer::Pointer;
use super::reader::{TIME, insist};
use crate::record;
use crate::wal::chain::random;

/// An import whose mark has not changed for this long was interrupted. It writes one with every piece, and each of
/// these takes milliseconds.
const INTERRUPTED_AFTER: Duration = Duration::from_secs(10);

/// Between two looks at it.
const REST: Duration = Duration::from_millis(500);

/// A step is tried again for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The term of an import; the first server leads in the one after it.
const TERM: u64 = 1;

/// An import that has claimed its name.
///
/// - `mark` is what it has written to the head.
pub struct Import<T, C> {
    client: Client<T>,
    clock: C,
    keys: Keys,
    pieces: Pieces,
    process: u64,
    checksum: u32,
    mark: Vec<u8>,
    steps: u64,
}

impl<T: Transport, C: Clock> Import<T, C> {
    /// Claims a name, for a log that ends with the record `lsn`.
    pub fn begin(
        client: Client<T>,
        clock: C,
        name: &str,
        lsn: u64,
    ) -> anyhow::Result<Import<T, C>> {
        ensure!(lsn < u64::MAX, "LSN {lsn} is the last that there is");
        let process = random().context("no random numbers")?;
        // That of no batch, and not 0, which only an empty log has.
        let checksum = if lsn == 0 { 0 } else { process as u32 | 1 };
        let (keys, mark) = (Keys::new(name), Vec::new());
        let pieces = Pieces::new(lsn, checksum, TERM);
        let mut import = Import { client, clock, keys, pieces, process, checksum, mark, steps: 0 };
        import.claim()?;
        Ok(import)
    }

    fn claim(&mut self) -> anyhow::Result<()> {
        let (head, keys) = (self.keys.head(), self.keys.clone());
        let get = |client: &mut Client<T>| client.get(&head, Freshness::Current, TIME);
        let found = insist(&mut self.client, get)?;
        match found {
            Some(mark) if mark.starts_with(IMPORTING.as_bytes()) => {
                self.wait_for_the_end_of(&mark)?;
                let condition = Condition::Value(head, mark);
                return self.step(condition, vec![Op::DeleteRange(keys.all_pieces())]);
            }
            Some(_) => bail!(
                "{head}: a log of this name has begun. Nothing was changed. Import into another name"
            ),
            None => {}
        }
        for range in [keys.batches_from(0), keys.all_pieces()] {
            let read = |client: &mut Client<T>| client.range(&range, 1, Freshness::Current, TIME);
            if let Some((key, _)) = insist(&mut self.client, read)?.pairs.first() {
                bail!(
                    "{key}: this is left of a log of this name. Nothing was changed. Import into another name, or delete it"
                );
            }
        }
        let missing = vec![head, keys.format(), keys.snapshot()];
        self.step(Condition::Missing(missing), Vec::new())
    }

    /// Waits until an import that has left this mark cannot be running any more.
    fn wait_for_the_end_of(&mut self, mark: &[u8]) -> anyhow::Result<()> {
        let (head, began) = (self.keys.head(), self.clock.now());
        while self.clock.now().since(began) < INTERRUPTED_AFTER {
            self.clock.rest(REST);
            let get = |client: &mut Client<T>| client.get(&head, Freshness::Current, TIME);
            let found = insist(&mut self.client, get)?;
            ensure!(
                found.as_deref() == Some(mark),
                "{head}: another import into this name is under way. Nothing was changed"
            );
        }
        log::warn!("{head}: an import was interrupted; this one takes its place");
        Ok(())
    }

    /// Adds a record to the snapshot.
    pub fn push(&mut self, record: record::New<'_>) -> anyhow::Result<()> {
        self.pieces.push(record);
        if self.pieces.is_full() { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let Some((key, value)) = self.pieces.cut(&self.keys) else { return Ok(()) };
        self.step(self.is_mine(), vec![Op::Put(key, value)])
    }

    /// Reads everything back, and makes it the log.
    pub fn finish(&mut self) -> anyhow::Result<Pointer> {
        self.write()?;
        let (pointer, client) = (*self.pieces.pointer(), &mut self.client);
        let page = |range: &Range| {
            insist(client, |client| client.range(range, MOST_BATCHES, Freshness::Current, TIME))
        };
        read_back(&self.keys, &pointer, page)
            .context("what was written is not what etcd gives back")?;
        let store = random().context("no random numbers")?.max(1);
        let node = Node::new(IMPORTER, IMPORTER).map_err(|why| anyhow!(why))?;
        let history = History { store, checksum: self.checksum };
        let head = Head::imported(node, self.process, history, pointer.lsn);
        let ops = vec![
            Op::Put(self.keys.snapshot(), pointer.to_string().into_bytes()),
            Op::Put(self.keys.format(), format::value(store)),
        ];
        self.replace(self.is_mine(), ops, head.to_string().into_bytes())?;
        Ok(pointer)
    }

    /// Removes what was written: the name has no log, as before.
    pub fn give_up(&mut self) -> anyhow::Result<()> {
        let ops = vec![Op::DeleteRange(self.keys.all_pieces()), Op::Delete(self.keys.head())];
        let txn = Txn::new(self.is_mine(), ops, Vec::new());
        insist(&mut self.client, |client| client.txn(&txn, TIME)).map(drop)
    }

    fn is_mine(&self) -> Condition {
        Condition::Value(self.keys.head(), self.mark.clone())
    }

    fn step(&mut self, condition: Condition, ops: Vec<Op>) -> anyhow::Result<()> {
        let mark = format!("{IMPORTING}{:016x}.{}", self.process, self.steps);
        self.steps += 1;
        self.replace(condition, ops, mark.into_bytes())
    }

    /// Replaces the head, if it still is as it was, until that is known to be done: a transaction that was done has removed its own condition.
    fn replace(
        &mut self,
        condition: Condition,
        mut ops: Vec<Op>,
        head: Vec<u8>,
    ) -> anyhow::Result<()> {
        let key = self.keys.head();
        ops.push(Op::Put(key.clone(), head.clone()));
        let txn = Txn::new(condition, ops, vec![Op::Get(key.clone())]);
        let began = self.clock.now();
        loop {
            match self.client.txn(&txn, TIME) {
                Ok(Answer { condition: Held::Yes, .. }) => break,
                Ok(Answer { found, .. }) if found.first() == Some(&Some(head.clone())) => break,
                Ok(_) => bail!("{key}: another import, or a server, was faster"),
                Err(Trouble::NoSpace) => {
                    bail!("etcd has no space left: see its --quota-backend-bytes")
                }
                Err(Trouble::Refused(why @ Refusal::ForGood(_))) => bail!("etcd refuses it: {why}"),
                Err(trouble) if self.clock.now().since(began) > PATIENCE => {
                    bail!("etcd does not answer: {trouble:?}")
                }
                Err(_) => self.clock.rest(Duration::from_millis(50)),
            }
        }
        self.mark = head;
        Ok(())
    }
}

/// The longest value in a log in etcd: a batch with one more is a transaction that etcd takes.
pub const LONGEST_VALUE: u64 = 1 << 20;

/// The longest record, which has to fit into a piece with others.
pub const LONGEST_RECORD: u64 = LONGEST_ENTRY as u64 - PIECE_BYTES - 1024;

/// The longest key, which has to fit into a record with the longest value.
pub const LONGEST_KEY: u64 = LONGEST_RECORD - LONGEST_VALUE;

/// The node of a head that no server has written, and its address.
pub const IMPORTER: &str = "import";

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::client::{Lost, Reply, Request};
    use super::super::decide::{Decision, Found, Outcome, decide};
    use super::super::fake::FakeEtcd;
    use super::super::members::Members;
    use super::super::reader::{LogReader, Piece};
    use super::super::scripted::{Fault, Hands, Way, client};
    use super::*;
    use crate::command::{FIRST, Mutation};
    use crate::entry::Entry;

    /// Records of 10 kB: seven fill a piece.
    const RECORDS: usize = 20;
    const LSN: u64 = 1000;

    fn etcd() -> (Arc<Mutex<FakeEtcd>>, Hands) {
        (Arc::default(), Hands::at(Duration::from_secs(1)))
    }

    fn push_all<T: Transport>(import: &mut Import<T, Hands>, value: u8) -> anyhow::Result<()> {
        for number in 0..RECORDS {
            let entry = Entry::new(format!("k{number}").as_bytes(), &[value; 10_000]);
            import.push(record::New::In(FIRST, &Mutation::Set(entry)))?;
        }
        Ok(())
    }

    /// The number of records of the log, whose values all have this byte; `None` if there is no log.
    fn found(etcd: &Arc<Mutex<FakeEtcd>>, clock: &Hands, value: u8) -> Option<usize> {
        let opened = LogReader::open(client(etcd, clock, &[]), "shop").expect("a look");
        let (mut log, mut count) = (opened?, 0);
        assert_eq!(log.head().map(|head| (head.lsn, head.term)), Some((LSN, TERM)));
        let read = log.read(&mut |piece| {
            let Piece::Snapshot(_, batch) = piece else { panic!("a snapshot is all there is") };
            for record in record::cut(batch.payload(), batch.header.records) {
                record.expect("records were checked");
                count += 1;
            }
            assert!(batch.payload().windows(9000).any(|part| part.iter().all(|it| *it == value)));
            Ok(ControlFlow::Continue(()))
        });
        read.expect("it is whole");
        Some(count)
    }

    fn keys_left(etcd: &Arc<Mutex<FakeEtcd>>, clock: &Hands) -> usize {
        let all = Range { from: "\0".into(), to: "\u{7f}".into() };
        let page = client(etcd, clock, &[]).range(&all, 999, Freshness::Current, TIME);
        page.expect("an answer").pairs.len()
    }

    fn begin(
        etcd: &Arc<Mutex<FakeEtcd>>,
        clock: &Hands,
        faults: &[Fault],
    ) -> anyhow::Result<Import<Way, Hands>> {
        Import::begin(client(etcd, clock, faults), clock.clone(), "shop", LSN)
    }

    #[test]
    fn an_import_is_done_once_whatever_happens_to_one_of_its_requests() {
        let (status, body) = Fault::error("etcdserver: leader changed");
        let kinds = [
            Fault::NoConnection,
            Fault::Lost,
            Fault::ReplyLost,
            Fault::Late(1),
            Fault::Late(3),
            Fault::DoneBut(status, body),
        ];
        for kind in kinds {
            for place in 0..12 {
                let (etcd, clock) = etcd();
                let faults = [vec![Fault::None; place], vec![kind.clone()]].concat();
                let mut import = begin(&etcd, &clock, &faults).expect("it is empty");
                push_all(&mut import, b'a').expect("pieces");
                import.finish().expect("done");
                assert_eq!(found(&etcd, &clock, b'a'), Some(RECORDS), "{kind:?} at {place}");
                let left = keys_left(&etcd, &clock);
                assert_eq!(left, 3 + 3, "head, format, snapshot and pieces: {kind:?} at {place}");
            }
        }
    }

    #[test]
    fn before_its_end_an_import_is_no_log_and_given_up_it_leaves_nothing() {
        let (etcd, clock) = etcd();
        let mut import = begin(&etcd, &clock, &[]).expect("it is empty");
        push_all(&mut import, b'a').expect("pieces");
        let refused =
            LogReader::open(client(&etcd, &clock, &[]), "shop").err().expect("no log yet");
        assert!(refused.to_string().contains("has begun and not ended"), "{refused}");
        import.give_up().expect("an answer");
        assert_eq!((found(&etcd, &clock, b'a'), keys_left(&etcd, &clock)), (None, 0));
    }

    #[test]
    fn an_import_and_a_server_that_begins_a_log_do_not_mix() {
        let (keys, node) = (Keys::new("shop"), Node::new("n1", "h:1").expect("a node"));
        let format = || vec![Op::Put(keys.format(), format::value(7))];
        let first = Head::first(node, 7, 7);
        let settle = |etcd: &Arc<Mutex<FakeEtcd>>, clock: &Hands| {
            let mut create = Decision::new(&keys, None, first.clone(), format());
            let until = clock.now() + TIME;
            decide(&mut create, &mut client(etcd, clock, &[]), clock, TIME, until)
        };
        let (etcd, clock) = etcd();
        let import = begin(&etcd, &clock, &[]).expect("it is empty");
        let outcome = settle(&etcd, &clock);
        let Ok(Outcome::Fenced { by: Found::Strange(why), .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(why.contains("an import into this log has begun"), "{why}");
        drop(import);

        let (etcd, clock) = self::etcd();
        assert!(matches!(settle(&etcd, &clock), Ok(Outcome::Done { .. })));
        let refused = begin(&etcd, &clock, &[]).err().expect("there is a log").to_string();
        assert!(refused.contains("a log of this name has begun"), "{refused}");
    }

    #[test]
    fn leftovers_of_a_log_are_not_mixed_with_an_import() {
        for key in [Keys::new("shop").batch(4), Keys::new("shop").piece(3, 2, 1)] {
            let (etcd, clock) = etcd();
            let put = vec![Op::Put(key.clone(), b"left".to_vec())];
            let put = Txn::new(Condition::Always, put, Vec::new());
            client(&etcd, &clock, &[]).txn(&put, TIME).expect("an answer");
            let refused = begin(&etcd, &clock, &[]).err().expect("it is not empty").to_string();
            assert!(refused.starts_with(&key), "{refused}");
            assert_eq!(keys_left(&etcd, &clock), 1);
        }
    }

    #[test]
    fn an_import_takes_the_place_of_one_that_was_interrupted_and_that_one_ends_should_it_go_on() {
        let (etcd, clock) = etcd();
        let mut first = begin(&etcd, &clock, &[]).expect("it is empty");
        push_all(&mut first, b'a').expect("pieces");
        let mut second = begin(&etcd, &clock, &[]).expect("the first one does nothing");
        let refused = first.finish().expect_err("it lost its place").to_string();
        assert!(refused.contains("was faster"), "{refused}");
        first.give_up().expect("an answer");
        push_all(&mut second, b'b').expect("pieces");
        second.finish().expect("done");
        assert_eq!(found(&etcd, &clock, b'b'), Some(RECORDS));
        assert_eq!(keys_left(&etcd, &clock), 3 + 3);
    }

    /// Does something else just before one of its requests.
    struct Meddling {
        way: Way,
        requests_left: usize,
        act: Box<dyn FnMut() + Send>,
    }

    impl Transport for Meddling {
        fn post(&mut self, request: &Request<'_>, time: Duration) -> Result<Reply, Lost> {
            if self.requests_left == 0 {
                (self.act)();
            }
            self.requests_left = self.requests_left.wrapping_sub(1);
            self.way.post(request, time)
        }
    }

    #[test]
    fn of_two_imports_the_one_that_comes_second_is_refused() {
        let (etcd, clock) = etcd();
        let mut first = begin(&etcd, &clock, &[]).expect("it is empty");
        // It is slow, and goes on.
        let act = move || first.step(first.is_mine(), Vec::new()).expect("a step");
        let refused = meddled(&etcd, &clock, 2, Box::new(act));
        assert!(refused.contains("another import into this name is under way"), "{refused}");
        // Both have found the name empty.
        let (etcd, clock) = self::etcd();
        let (other, time) = (etcd.clone(), clock.clone());
        let act = move || drop(begin(&other, &time, &[]).expect("it is empty"));
        let refused = meddled(&etcd, &clock, 3, Box::new(act));
        assert!(refused.contains("was faster"), "{refused}");
    }

    /// Why an import is refused that is met by something after so many requests.
    fn meddled(
        etcd: &Arc<Mutex<FakeEtcd>>,
        clock: &Hands,
        requests_left: usize,
        act: Box<dyn FnMut() + Send>,
    ) -> String {
        let meddling = Meddling { way: Way::new(etcd, clock), requests_left, act };
        let client = Client::new(meddling, Members::new(vec!["a:1".into()], None), None);
        let refused = Import::begin(client, clock.clone(), "shop", LSN);
        refused.err().expect("another one is there").to_string()
    }

    #[test]
    fn the_longest_record_fits_into_a_piece_with_others() {
        let (etcd, clock) = etcd();
        let mut import = begin(&etcd, &clock, &[]).expect("it is empty");
        let small = Entry::new(b"small", &vec![0; PIECE_BYTES as usize - 200]);
        let long = Entry::new(b"k", &vec![0; LONGEST_RECORD as usize - 1]);
        for entry in [small, long] {
            import.push(record::New::Entry(FIRST, &entry)).expect("it fits");
        }
        assert_eq!(import.finish().expect("done").pieces, 1);
    }
}
