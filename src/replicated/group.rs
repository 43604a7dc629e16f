//! Whole nodes on an etcd in memory: tests of what a group does when one of them is gone, cut off, or slow.

#[cfg(test)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::{Client, Lost, Reply as Answered, Request, Sent, Transport};
use super::fake::FakeEtcd;
use super::keys::Keys;
use super::kv::{Condition, Kv, Op, Txn};
use super::members::Members;
use super::url::Url;
use super::{Options, open};
use crate::command::{Command, Dialect, Nodes, Passing, Reply, RespVersion, Role, SetOptions};
use crate::engine::{self, Allowance, Collected, Engine, Fsync, Operation, Recipient, Submission};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::{store, upkeep};

const RESP: Dialect = Dialect::Resp(RespVersion::V2);
pub const LEASE: Duration = Duration::from_millis(600);
/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node's way to etcd, which can be cut.
#[derive(Clone)]
pub struct Way {
    etcd: Arc<Mutex<FakeEtcd>>,
    is_cut: Arc<AtomicBool>,
    /// Replies are lost, requests arrive.
    is_mute: Arc<AtomicBool>,
    /// How many requests were made.
    asked: Arc<AtomicUsize>,
}

impl Way {
    pub fn to(etcd: &Arc<Mutex<FakeEtcd>>) -> Way {
        Way {
            etcd: etcd.clone(),
            is_cut: Arc::default(),
            is_mute: Arc::default(),
            asked: Arc::default(),
        }
    }

    pub fn client(&self) -> Client<Way> {
        Client::new(self.clone(), Members::new(vec!["a:1".into()], None), None)
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }
}

impl Transport for Way {
    fn post(&mut self, request: &Request<'_>, _: Duration) -> Result<Answered, Lost> {
        let lost = |sent| Err(Lost { sent, why: "cut off".into() });
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_cut.load(Ordering::SeqCst) {
            return lost(Sent::Perhaps);
        }
        let (status, body) = self.etcd.lock().handle(request.path, request.token, request.body);
        match self.is_mute.load(Ordering::SeqCst) {
            true => lost(Sent::Perhaps),
            false => Ok(Answered { status, body }),
        }
    }
}

pub struct Running {
    pub engine: Arc<Engine>,
    pub nodes: Arc<dyn Nodes>,
    pub way: Way,
    /// How often the lead has passed on.
    passed: Arc<AtomicUsize>,
}

impl Running {
    pub fn start(etcd: &Arc<Mutex<FakeEtcd>>, port: u16) -> Running {
        let way = Way::to(etcd);
        let options = Options {
            url: Url::parse("etcd://a:1/shop").expect("an address"),
            announce: format!("127.0.0.1:{port}"),
            lease: LEASE,
            quota: 1 << 30,
        };
        let engine_options = engine::Options {
            fsync: Fsync::Always,
            max_value: 1 << 20,
            max_reply: 1 << 20,
            max_memory: None,
            databases: 16,
        };
        let connect = || Ok(way.client());
        let (store, metrics) = (store::new(2, 0), Arc::new(Metrics::default()));
        let opened = open(&options, connect, &engine_options, store, metrics).expect("a node");
        let policy = upkeep::Policy { percent: 0, least_bytes: 0 };
        upkeep::start_with(&opened.engine, policy, Some(opened.snapshots())).expect("threads");
        let (nodes, passed) = (opened.nodes(), Arc::<AtomicUsize>::default());
        let counter = passed.clone();
        let count = Box::new(move |change| {
            counter.fetch_add(usize::from(change == Passing::Ended), Ordering::SeqCst);
        });
        let engine = opened.engine.clone();
        opened.run(count).expect("threads");
        Running { engine, nodes, way, passed }
    }

    /// A client of its own on this node's way.
    pub fn client(&self) -> Client<Way> {
        self.way.client()
    }

    pub fn wait_until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:?}", self.nodes.group());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn leads(&self) -> bool {
        self.nodes.group().role == Role::Leading
    }

    /// Does the same as a process that is killed: says nothing to etcd any more.
    pub fn kill(self) {
        self.way.is_cut.store(true, Ordering::SeqCst);
        // Its close asks etcd for as long as clients would wait; nothing here waits for that.
        std::thread::spawn(move || drop(self));
    }

    pub fn run(&self, command: Command) -> Reply<'static> {
        let (sender, replies) = channel();
        let operations = vec![Operation::new(command, RESP, None)];
        let submission = Submission { recipient: Arc::new(Asking(sender)), operations };
        assert!(self.engine.submit(submission).is_ok(), "it is not closed");
        replies.recv().expect("an answer")
    }

    pub fn set(&self, key: &str, value: &str) -> Reply<'static> {
        let entry = Entry::new(key.as_bytes(), value.as_bytes());
        self.run(Command::Set(entry, SetOptions::default()))
    }

    pub fn get(&self, key: &str) -> Result<Reply<'static>, String> {
        let mut room = Allowance::new(usize::MAX, RESP);
        let mut answer = Collected::new(&mut room);
        let get = Command::Get(key.as_bytes().into());
        let (outcome, _) = self.engine.read(&get, 0, None, &mut answer);
        outcome.map_err(|why| why.text().into_owned())?;
        Ok(answer.into_reply())
    }
}

struct Asking(Sender<Reply<'static>>);

impl Recipient for Asking {
    fn deliver(self: Arc<Self>, answered: &[Operation]) {
        self.0.send(answered[0].reply.clone()).expect("the test waits");
    }
}

pub fn error_of(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Error(text) => text.to_string(),
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn one_node_leads_and_the_others_have_what_it_wrote_when_it_is_killed() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    for number in 0..100 {
        assert_eq!(first.set(&format!("key{number}"), &format!("value{number}")), Reply::Ok);
    }
    second.wait_until("it follows", |node| node.nodes.group().lsn == 100);
    assert_eq!(second.nodes.group().leader.map(|leader| leader.port), Some(1001));
    assert!(second.get("key1").expect_err("it does not lead").starts_with("READONLY"));
    assert!(error_of(&second.set("key1", "other")).starts_with("READONLY"));
    first.kill();
    second.wait_until("it leads", Running::leads);
    for number in 0..100 {
        let expected = Reply::bulk(format!("value{number}").as_bytes());
        assert_eq!(second.get(&format!("key{number}")), Ok(expected));
    }
    assert_eq!(second.set("key1", "other"), Reply::Ok);
    assert_eq!(second.nodes.group().term, 3);
}

#[test]
fn an_orderly_stop_hands_the_lead_over_at_once() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().role == Role::Following);
    assert!(first.engine.close(), "in order");
    let value = etcd.lock().value("/shop/head").expect("a head");
    second.wait_until("it leads", Running::leads);
    assert!(String::from_utf8_lossy(&value).ends_with(" free"), "{value:?}");
    assert!(first.get("key").is_err(), "what is given back is not shown");
}

#[test]
fn a_leader_that_is_cut_off_shows_nothing_once_another_may_lead_and_follows_when_it_is_back() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    assert_eq!(first.set("key", "1"), Reply::Ok);
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 1);
    first.way.is_cut.store(true, Ordering::SeqCst);
    second.wait_until("it leads", Running::leads);
    assert!(first.get("key").is_err(), "its lease was over before the other's began");
    assert_eq!(second.set("key", "2"), Reply::Ok);
    // By then it may have found out by itself, when it renewed its lease.
    let refused = error_of(&first.set("key", "3"));
    let unknown = refused.contains("not known whether this was done");
    assert!(unknown || refused.starts_with("READONLY"), "{refused}");
    first.way.is_cut.store(false, Ordering::SeqCst);
    first.wait_until("it follows", |node| node.nodes.group().lsn == 2);
    assert_eq!(first.passed.load(Ordering::SeqCst), 1);
    assert_eq!(first.nodes.group().leader.map(|leader| leader.port), Some(1002));
    second.kill();
    first.wait_until("it leads again", Running::leads);
    assert_eq!(first.get("key"), Ok(Reply::bulk(b"2")));
}

#[test]
fn a_write_whose_answer_never_came_is_applied_only_as_the_log_has_it() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "1"), Reply::Ok);
    node.way.is_mute.store(true, Ordering::SeqCst);
    let refused = error_of(&node.set("key", "2"));
    assert!(refused.contains("not known whether this was done"), "{refused}");
    assert!(node.get("key").is_err(), "nobody can tell");
    node.way.is_mute.store(false, Ordering::SeqCst);
    node.wait_until("it leads again", Running::leads);
    assert_eq!(node.get("key"), Ok(Reply::bulk(b"2")), "it was done");
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_for_a_node_that_comes_later() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let value = "x".repeat(10_000);
    for number in 0..200 {
        assert_eq!(first.set(&format!("key{number}"), &value), Reply::Ok);
    }
    assert_eq!(first.engine.compact(), Ok(()));
    let done = |node: &Running| node.engine.metrics().compaction.done.get() == 1;
    first.wait_until("a snapshot", done);
    assert_eq!(first.set("after", "it"), Reply::Ok);
    // All that the snapshot covers; a group that has run for a while has trimmed it.
    let mut client = first.client();
    let covered = Keys::new("shop").batches(1, 201);
    assert_eq!(client.delete_range(&covered, PATIENCE), Ok(200));
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 201);
    first.kill();
    second.wait_until("it leads", Running::leads);
    assert_eq!(second.get("after"), Ok(Reply::bulk(b"it")));
    for number in 0..200 {
        assert_eq!(second.get(&format!("key{number}")), Ok(Reply::bulk(value.as_bytes())));
    }
}

#[test]
fn leftovers_of_earlier_snapshots_go_and_pieces_of_a_later_leader_stay() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "value"), Reply::Ok);
    let (keys, mut client) = (Keys::new("shop"), node.client());
    let (earlier, later) = (keys.piece(5, 1, 0), keys.piece(5, 99, 0));
    let put = |key: &String| Op::Put(key.clone(), vec![1]);
    let txn = Txn::new(Condition::Always, vec![put(&earlier), put(&later)], Vec::new());
    assert!(client.txn(&txn, PATIENCE).is_ok());
    assert_eq!(node.engine.compact(), Ok(()));
    node.wait_until("a snapshot", |node| node.engine.metrics().compaction.done.get() == 1);
    assert_eq!(etcd.lock().value(&earlier), None);
    assert_eq!(
        etcd.lock().value(&later),
        Some(vec![1]),
        "this leader may be one that was stopped for a while"
    );
}

#[test]
fn a_log_whose_head_is_gone_is_not_begun_anew() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    assert_eq!(first.set("key", "value"), Reply::Ok);
    let mut client = Way::to(&etcd).client();
    first.kill();
    let gone = vec![Op::Delete(Keys::new("shop").head())];
    assert!(client.txn(&Txn::new(Condition::Always, gone, Vec::new()), PATIENCE).is_ok());
    let second = Running::start(&etcd, 1002);
    second.wait_until("it asks often", |node| node.way.asked() > 30);
    assert_eq!(etcd.lock().value("/shop/head"), None);
    assert!(!second.leads());
}

#[test]
fn a_leader_that_cannot_renew_its_lease_for_lack_of_space_shows_nothing() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "value"), Reply::Ok);
    etcd.lock().quota = 1;
    node.wait_until("its lease is over", |node| node.get("key").is_err());
    let refused = error_of(&node.run(Command::Del(vec![b"other"[..].into()])));
    assert!(refused.starts_with("TRYAGAIN"), "{refused}");
    etcd.lock().disarm();
    node.wait_until("it leads again", |node| node.get("key").is_ok());
    node.wait_until("it has seen that there is space", |node| {
        node.set("key", "other") == Reply::Ok
    });
}
