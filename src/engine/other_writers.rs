//! What the engine does over a log that other machines write, too: tests, on a log in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::log::{Gate, Log, NotCommitted, Sealed};
use super::{Allowance, Collected, Engine, Fsync, Operation, Options, Recipient, Submission};
use crate::command::{
    Changed, Command, Dialect, FIRST, Key, Mutation, Reply, RespVersion, SetOptions, Text, Watcher,
};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::record::New;
use crate::store;
use crate::wal::Failure;
use crate::wal::frame::SegmentHeader;
use crate::wal::health::Health;

const RESP: Dialect = Dialect::Resp(RespVersion::V2);
const NOT_LEADING: &str = "READONLY another one leads";

/// Takes every batch while this process leads.
#[derive(Clone, Default)]
struct SharedLog {
    follows: Arc<AtomicBool>,
    /// Counted up by each question for it, if that is how the test wants it.
    term: Arc<AtomicU64>,
    terms_pass: Arc<AtomicBool>,
    batches: Arc<AtomicU64>,
}

impl SharedLog {
    fn lead(&self) -> Result<(), NotCommitted> {
        match self.follows.load(Ordering::Relaxed) {
            true => Err(NotCommitted::Withheld(NOT_LEADING.into())),
            false => Ok(()),
        }
    }
}

impl Gate for SharedLog {
    fn term(&self) -> Result<u64, Text> {
        self.lead().map_err(|_| NOT_LEADING)?;
        let passes = u64::from(self.terms_pass.load(Ordering::Relaxed));
        Ok(self.term.fetch_add(passes, Ordering::Relaxed))
    }
}

impl Log for SharedLog {
    fn frame(&mut self, _: &Changed) {}

    fn commit(&mut self, _grows: bool) -> Result<Option<Duration>, NotCommitted> {
        self.lead()?;
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    fn confirm(&mut self) -> Result<(), NotCommitted> {
        self.lead()
    }

    fn discard(&mut self) {}

    fn wait_for_room(&self, _: Duration) {}

    fn health(&self) -> Arc<Health> {
        Arc::default()
    }

    fn total_bytes(&self) -> u64 {
        0
    }

    fn seal(&mut self) -> Result<Option<Sealed>, NotCommitted> {
        Ok(Some(self.last_seal()))
    }

    fn last_seal(&self) -> Sealed {
        let following = SegmentHeader {
            store_id: 1,
            sequence: 1,
            epoch: 1,
            first_lsn: 1,
            previous_epoch: 0,
            previous_checksum: 0,
            file_bytes: 0,
        };
        Sealed { following, logged: 0 }
    }

    fn sync(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn note_freed(&self) {}

    fn note_sync_ended(&mut self) {}

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn on_timer(&mut self, _: Instant) {}

    fn close(self: Box<Self>) {}
}

fn start(log: &SharedLog) -> Engine {
    let options = Options {
        fsync: Fsync::Always,
        max_value: 1000,
        max_reply: 1 << 20,
        max_memory: None,
        databases: 16,
    };
    let (store, metrics) = (store::new(2, 0), Arc::new(Metrics::default()));
    let (log, gate) = (Box::new(log.clone()), Arc::new(log.clone()));
    Engine::over(log, gate, &options, store, metrics).expect("a thread can be started")
}

struct Client(Sender<Vec<Reply<'static>>>);

impl Recipient for Client {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        let replies = answered.iter().map(|operation| operation.reply.clone()).collect();
        self.0.send(replies).expect("the test waits");
    }
}

/// The replies to commands that are submitted together.
fn submit(engine: &Engine, commands: Vec<Command>) -> Vec<Reply<'static>> {
    let (sender, replies) = channel();
    let operation = |command| Operation::new(command, RESP, None);
    let operations = commands.into_iter().map(operation).collect();
    let submission = Submission::new(Arc::new(Client(sender)), operations);
    assert!(engine.submit(submission).is_ok(), "it is not closed");
    replies.recv().expect("an answer")
}

fn read(engine: &Engine, command: &Command) -> Result<Reply<'static>, String> {
    let mut room = Allowance::new(usize::MAX, RESP);
    let mut answer = Collected::new(&mut room);
    let (outcome, _) = engine.read(command, 0, None, &mut answer);
    outcome.map_err(|why| why.text().into_owned())?;
    Ok(answer.into_reply())
}

fn set(key: &str, value: &str) -> Command {
    let entry = Entry::new(key.as_bytes(), value.as_bytes());
    Command::Set(entry, SetOptions::default())
}

fn get(key: &str) -> Command {
    Command::Get(key.as_bytes().into())
}

fn del(key: &str) -> Command {
    Command::Del(vec![key.as_bytes().into()])
}

#[test]
fn a_batch_of_one_that_does_not_lead_shows_nothing_and_changes_nothing() {
    let log = SharedLog::default();
    let engine = start(&log);
    assert_eq!(submit(&engine, vec![set("key", "1")]), [Reply::Ok]);
    log.follows.store(true, Ordering::Relaxed);
    let refusal = Reply::Error(NOT_LEADING.into());
    let transaction = Command::Transaction(vec![get("key")], None);
    let said = Command::Answered(Reply::Simple("PONG"));
    let all = vec![set("key", "2"), said, get("key"), transaction];
    let pong = Reply::Simple("PONG");
    let expected = [refusal.clone(), pong, refusal.clone(), refusal.clone()];
    assert_eq!(submit(&engine, all), expected);
    // Also if there is nothing to write.
    assert_eq!(submit(&engine, vec![del("other"), get("key")]), [refusal.clone(), refusal]);
    assert_eq!(log.batches.load(Ordering::Relaxed), 1);

    log.follows.store(false, Ordering::Relaxed);
    assert_eq!(
        submit(&engine, vec![del("other"), get("key")]),
        [Reply::Integer(0), Reply::bulk(b"1")]
    );
}

#[test]
fn a_client_that_was_told_that_it_does_not_watch_does_not() {
    let log = SharedLog::default();
    let engine = start(&log);
    let watcher = Arc::new(Watcher::new(7));
    let keys: Vec<Key> = vec![b"key"[..].into()];
    log.follows.store(true, Ordering::Relaxed);
    let watch = Command::Watch(keys, watcher.clone());
    assert_eq!(submit(&engine, vec![watch]), [Reply::Error(NOT_LEADING.into())]);
    log.follows.store(false, Ordering::Relaxed);
    assert_eq!(submit(&engine, vec![set("key", "1")]), [Reply::Ok]);
    let transaction = Command::Transaction(vec![get("key")], Some(watcher));
    assert_eq!(submit(&engine, vec![transaction]), [Reply::Array(vec![Reply::bulk(b"1")])]);
}

#[test]
fn a_read_shows_what_it_has_found_only_if_this_process_led_all_the_while() {
    let log = SharedLog::default();
    let engine = start(&log);
    assert_eq!(submit(&engine, vec![set("key", "1")]), [Reply::Ok]);
    assert_eq!(read(&engine, &get("key")), Ok(Reply::bulk(b"1")));
    log.follows.store(true, Ordering::Relaxed);
    assert_eq!(read(&engine, &get("key")), Err(NOT_LEADING.into()));
    let pong = Command::Answered(Reply::Simple("PONG"));
    assert_eq!(read(&engine, &pong), Ok(Reply::Simple("PONG")), "it is not about data");
    log.follows.store(false, Ordering::Relaxed);
    log.terms_pass.store(true, Ordering::Relaxed);
    let refused = read(&engine, &get("key")).expect_err("another term");
    assert!(refused.starts_with("LOADING"), "{refused}");
}

#[test]
fn what_an_errand_stores_is_what_the_next_batch_finds_with_the_order_of_databases() {
    let log = SharedLog::default();
    let engine = start(&log);
    let swapped = store::new(1, 0).order().swapped(0, 1);
    let mut payload = Vec::new();
    let entry = Mutation::Set(Entry::new(b"key", b"from another machine"));
    for record in [New::In(FIRST, &entry), New::Order(&swapped)] {
        record.encode(|piece| payload.extend_from_slice(piece));
    }
    let handle = engine.handle();
    let stored = engine.errand(move |_| super::store_batch(handle.store(), &payload, 2).is_ok());
    assert_eq!(stored, Some(true));
    // Number 0 stands for the second space now, in which there is no such key.
    assert_eq!(submit(&engine, vec![get("key"), set("key", "mine")]), [Reply::Null, Reply::Ok]);
    assert_eq!(read(&engine, &get("key")), Ok(Reply::bulk(b"mine")));
    let first = handle_value(&engine, 1);
    assert_eq!(first.as_deref(), Some(&b"from another machine"[..]));
}

fn handle_value(engine: &Engine, number: u16) -> Option<Vec<u8>> {
    let mut found = None;
    let of = crate::command::Database::Number(number);
    engine.store().get(of, b"key", &mut |entry| found = entry.map(|entry| entry.value().to_vec()));
    found
}
