//! Two engines over one log in memory, of which one leads at a time, under thousands of schedules: the gate against a
//! takeover; see [`crate::sync`].
//!
//! Times are left out. A lease is over before another node takes over, which `replicated` proves for its clocks, and a
//! node leads once the whole log is in its store, which it has emptied first. Everything in between is open: a read that
//! begins in one term and ends in another, a batch whose leader is replaced before it is written, or before its answer
//! is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::log::{Gate, Log, NotCommitted, Sealed};
use super::{Allowance, Collected, Engine, Fsync, Operation, Options, Recipient, Submission};
use crate::command::{Changed, Command, Dialect, Reply, RespVersion, Text};
use crate::metrics::Metrics;
use crate::sync::{Condvar, Mutex, check_schedules, thread};
use crate::wal::Failure;
use crate::wal::frame::SegmentHeader;
use crate::wal::health::Health;
use crate::{record, store};

const RESP: Dialect = Dialect::Resp(RespVersion::V2);
const FOLLOWS: &str = "READONLY another one leads";

/// Of one reader: the checker may prefer it to the threads that it would have to wait for.
const MOST_READS: usize = 50;

/// What etcd is for both.
#[derive(Default)]
struct Written {
    leader: usize,
    term: u64,
    /// Each batch, and how many records it has.
    batches: Vec<(Vec<u8>, u32)>,
}

/// One of the two.
struct Node {
    id: usize,
    written: Arc<Mutex<Written>>,
    /// The term in which it may show what it has.
    lease: Mutex<Option<u64>>,
}

impl Gate for Node {
    fn term(&self) -> Result<u64, Text> {
        let term = *self.lease.lock();
        // Anything may happen before the caller goes on.
        drop(self.written.lock());
        term.ok_or_else(|| FOLLOWS.into())
    }
}

struct NodeLog {
    node: Arc<Node>,
    frame: (Vec<u8>, u32),
    framed_in: Option<u64>,
}

impl Log for NodeLog {
    fn frame(&mut self, changed: &Changed) {
        self.framed_in = *self.node.lease.lock();
        for new in record::of(changed) {
            new.encode(|piece| self.frame.0.extend_from_slice(piece));
            self.frame.1 += 1;
        }
    }

    fn commit(&mut self, _grows: bool) -> Result<Option<Duration>, NotCommitted> {
        let mut written = self.node.written.lock();
        // Its lease may be over: the condition of the transaction counts.
        if written.leader != self.node.id || self.framed_in != Some(written.term) {
            return Err(NotCommitted::Withheld(FOLLOWS.into()));
        }
        written.batches.push(std::mem::take(&mut self.frame));
        Ok(None)
    }

    fn confirm(&mut self) -> Result<(), NotCommitted> {
        self.node.term().map(drop).map_err(NotCommitted::Withheld)
    }

    fn discard(&mut self) {
        self.frame = Default::default();
    }

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

/// A node with its engine, and the greatest number that any node has acknowledged.
#[derive(Clone)]
struct Running {
    node: Arc<Node>,
    engine: Arc<Engine>,
    acknowledged: Arc<AtomicI64>,
    is_over: Arc<AtomicBool>,
}

impl Running {
    fn pair() -> [Running; 2] {
        let written = Arc::new(Mutex::new(Written { leader: 0, term: 1, ..Written::default() }));
        let (acknowledged, is_over) = (Arc::<AtomicI64>::default(), Arc::<AtomicBool>::default());
        [0, 1].map(|id| {
            let lease = Mutex::new((id == 0).then_some(1));
            let node = Arc::new(Node { id, written: written.clone(), lease });
            let log = NodeLog { node: node.clone(), frame: Default::default(), framed_in: None };
            let options = Options {
                fsync: Fsync::Always,
                max_value: 1000,
                max_reply: 1 << 20,
                max_memory: None,
                databases: 16,
            };
            let (store, metrics) = (store::new(1, 0), Arc::new(Metrics::default()));
            let engine = Engine::over(Box::new(log), node.clone(), &options, store, metrics);
            let engine = Arc::new(engine.expect("nothing can fail"));
            let (acknowledged, is_over) = (acknowledged.clone(), is_over.clone());
            Running { node, engine, acknowledged, is_over }
        })
    }

    /// Counts up, and says whether that was acknowledged.
    fn count(&self) -> bool {
        let client = Arc::<Client>::default();
        let incr = crate::commands::command(&[b"incr", b"key"]).expect("a command");
        let operations = vec![Operation::new(incr, RESP, None)];
        let submission = Submission::new(client.clone(), operations);
        assert!(self.engine.submit(submission).is_ok(), "it is not closed");
        match client.wait() {
            Reply::Integer(number) => {
                self.acknowledged.fetch_max(number, Ordering::SeqCst);
                true
            }
            Reply::Error(text) => {
                assert_eq!(text, FOLLOWS);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reads, if this node may show anything: never less than was acknowledged before.
    fn read(&self) {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let mut room = Allowance::new(usize::MAX, RESP);
        let mut answer = Collected::new(&mut room);
        let get = Command::Get(b"key"[..].into());
        let (outcome, _) = self.engine.read(&get, 0, None, &mut answer);
        if outcome.is_ok() {
            let number = match answer.into_reply() {
                Reply::Null => 0,
                Reply::Bulk(text) => String::from_utf8_lossy(&text).parse().expect("a number"),
                other => panic!("{other:?}"),
            };
            assert!(number >= before, "shown {number} after {before} was acknowledged");
        }
    }

    /// Has the committing thread do something between two batches, and waits for it as the checker sees it.
    fn errand<R: Send + 'static>(&self, act: impl FnOnce() -> R + Send + 'static) -> R {
        let done = Arc::new((Mutex::new(None), Condvar::new()));
        let answer = done.clone();
        self.engine.shared().queue.push_errand(Box::new(move |_| {
            *answer.0.lock() = Some(act());
            answer.1.notify_all();
        }));
        let mut done_by_now = done.0.lock();
        while done_by_now.is_none() {
            done.1.wait(&mut done_by_now);
        }
        done_by_now.take().expect("just seen")
    }

    fn store(&self, payload: Vec<u8>, records: u32) {
        let engine = self.engine.clone();
        let stored =
            self.errand(move || super::store_batch(engine.store(), &payload, records).is_ok());
        assert!(stored);
    }

    /// Reads the log from its beginning.
    fn reload(&self, batches: Vec<(Vec<u8>, u32)>) {
        let mut all_gone = Vec::new();
        record::New::ClearAll.encode(|piece| all_gone.extend_from_slice(piece));
        self.store(all_gone, 1);
        batches.into_iter().for_each(|(payload, records)| self.store(payload, records));
    }

    /// Takes over from the other one, which begins to read the log anew, as one does that was behind.
    fn take_over_from(&self, other: &Running) {
        *other.node.lease.lock() = None;
        other.reload(Vec::new());
        let (term, batches) = {
            let mut written = self.node.written.lock();
            (written.leader, written.term) = (self.node.id, written.term + 1);
            (written.term, written.batches.clone())
        };
        self.reload(batches);
        let node = self.node.clone();
        self.errand(move || *node.lease.lock() = Some(term));
    }
}

/// Waits for one reply.
#[derive(Default)]
struct Client {
    reply: Mutex<Option<Reply<'static>>>,
    changed: Condvar,
}

impl Recipient for Client {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        *self.reply.lock() = Some(answered[0].reply.clone());
        self.changed.notify_all();
    }
}

impl Client {
    fn wait(&self) -> Reply<'static> {
        let mut reply = self.reply.lock();
        while reply.is_none() {
            self.changed.wait(&mut reply);
        }
        reply.take().expect("just seen")
    }
}

#[test]
fn no_read_shows_less_than_another_node_has_acknowledged() {
    check_schedules("gate against takeover", 2_000, || {
        let pair = Running::pair();
        let start = |node: &Running, work: fn(&Running)| {
            let node = node.clone();
            thread::spawn(move || work(&node))
        };
        let [first, second] = &pair;
        let mut threads: Vec<_> = pair
            .iter()
            .map(|node| {
                start(node, |node| {
                    let goes_on = |_: &usize| !node.is_over.load(Ordering::SeqCst);
                    (0..MOST_READS).take_while(goes_on).for_each(|_| node.read());
                })
            })
            .collect();
        threads.push(start(first, |node| {
            (0..2).for_each(|_| {
                node.count();
            });
        }));
        second.take_over_from(first);
        assert!(second.count(), "nobody takes over from it");
        first.take_over_from(second);
        assert!(first.count(), "nor from this one");
        first.is_over.store(true, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        first.read();
        pair.iter().for_each(|node| assert!(node.engine.close()));
    });
}
