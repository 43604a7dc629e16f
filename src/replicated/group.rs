//! Whole nodes on an etcd in memory, and the way to it, which can be cut: what the tests of whole nodes share.

#[cfg(test)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::{Client, Lost, Reply as Answered, Request, Sent, Transport};
use super::fake::FakeEtcd;
use super::members::Members;
use super::url::Url;
use super::{Opened, Options, open};
use crate::command::{Command, Dialect, Nodes, Passing, Reply, RespVersion, Role, SetOptions};
use crate::engine::{self, Allowance, Collected, Engine, Fsync, Operation, Recipient, Submission};
use crate::entry::Entry;
use crate::metrics::{Info, Metrics};
use crate::upkeep::Snapshots;
use crate::{store, upkeep};

pub const RESP: Dialect = Dialect::Resp(RespVersion::V2);
pub const LEASE: Duration = Duration::from_millis(600);
/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node's way to etcd, which can be cut.
#[derive(Clone)]
pub struct Way {
    pub etcd: Arc<Mutex<FakeEtcd>>,
    pub is_cut: Arc<AtomicBool>,
    /// Replies are lost, requests arrive.
    pub is_mute: Arc<AtomicBool>,
    /// Both are for batches alone, so that a renewal of the lease cannot meet them in a batch's place.
    pub is_for_batches: Arc<AtomicBool>,
    /// Changes of the head arrive, and their replies are held back, but for so many of them.
    pub is_held: Arc<AtomicBool>,
    pub let_through: Arc<AtomicUsize>,
    pub held: Arc<AtomicUsize>,
    /// How many requests were made.
    pub asked: Arc<AtomicUsize>,
}

/// How the keys of batches begin, `/shop/log`, as requests have it; and how that of the head does.
pub const LOG_IN_BASE64: &str = "L3Nob3AvbG9n";
pub const HEAD_IN_BASE64: &str = "L3Nob3AvaGVh";

/// Whether a transaction names such a key.
pub fn has(request: &Request<'_>, key: &str) -> bool {
    request.path.ends_with("txn") && String::from_utf8_lossy(request.body).contains(key)
}

impl Way {
    pub fn to(etcd: &Arc<Mutex<FakeEtcd>>) -> Way {
        Way {
            etcd: etcd.clone(),
            is_cut: Arc::default(),
            is_mute: Arc::default(),
            is_for_batches: Arc::default(),
            is_held: Arc::default(),
            let_through: Arc::default(),
            held: Arc::default(),
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

    /// Only batches are cut off or get no answer.
    pub fn only_batches(&self) {
        self.is_for_batches.store(true, Ordering::SeqCst);
    }

    pub fn is_met(&self, fault: &AtomicBool, request: &Request<'_>) -> bool {
        let is_for_all = !self.is_for_batches.load(Ordering::SeqCst);
        fault.load(Ordering::SeqCst) && (is_for_all || has(request, LOG_IN_BASE64))
    }

    pub fn wait_for_release(&self) {
        let number = self.held.fetch_add(1, Ordering::SeqCst);
        let is_through = || number < self.let_through.load(Ordering::SeqCst);
        while self.is_held.load(Ordering::SeqCst) && !is_through() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the reply through that waits longest, and waits until the next is held back.
    pub fn let_one_through(&self) {
        let held = self.held.load(Ordering::SeqCst);
        self.let_through.store(held, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) == held {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn mute(&self, is_mute: bool) {
        self.is_mute.store(is_mute, Ordering::SeqCst);
    }

    pub fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::SeqCst);
    }
}

impl Transport for Way {
    fn post(&mut self, request: &Request<'_>, _: Duration) -> Result<Answered, Lost> {
        let lost = |sent| Err(Lost { sent, why: "cut off".into() });
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_met(&self.is_cut, request) {
            return lost(Sent::Perhaps);
        }
        let (status, body) = self.etcd.lock().handle(request.path, request.token, request.body);
        if has(request, HEAD_IN_BASE64) {
            self.wait_for_release();
        }
        match self.is_met(&self.is_mute, request) {
            true => lost(Sent::Perhaps),
            false => Ok(Answered { status, body }),
        }
    }
}

/// A node whose threads do not run yet.
pub fn opened(way: &Way, port: u16, quota: u64) -> Opened<Way> {
    let options = Options {
        url: Url::parse("etcd://a:1/shop").expect("an address"),
        announce: format!("127.0.0.1:{port}"),
        lease: LEASE,
        quota,
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
    open(&options, connect, &engine_options, store, metrics).expect("a node")
}

pub struct Running {
    pub engine: Arc<Engine>,
    pub nodes: Arc<dyn Nodes>,
    pub way: Way,
    pub snapshots: Arc<dyn Snapshots>,
    /// How often the lead has passed on.
    pub passed: Arc<AtomicUsize>,
}

impl Running {
    pub fn start(etcd: &Arc<Mutex<FakeEtcd>>, port: u16) -> Running {
        Running::with_quota(etcd, port, 1 << 30)
    }

    pub fn with_quota(etcd: &Arc<Mutex<FakeEtcd>>, port: u16, quota: u64) -> Running {
        let way = Way::to(etcd);
        let opened = opened(&way, port, quota);
        let policy = upkeep::Policy { percent: 0, least_bytes: 0 };
        upkeep::start_with(&opened.engine, policy, Some(opened.snapshots())).expect("threads");
        let snapshots = opened.snapshots();
        let (nodes, passed) = (opened.nodes(), Arc::<AtomicUsize>::default());
        let counter = passed.clone();
        let count = Box::new(move |change| {
            counter.fetch_add(usize::from(change == Passing::Ended), Ordering::SeqCst);
        });
        let engine = opened.engine.clone();
        opened.run(count).expect("threads");
        Running { engine, nodes, way, snapshots, passed }
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

    /// Bytes of the last snapshot, and of the log after it, as INFO shows them.
    pub fn sizes(&self) -> (u64, u64) {
        let sections = ["persistence".to_owned()];
        let mut info = Info::new(&sections);
        self.engine.show_persistence(&mut info);
        let text = info.into_text();
        let field = |name: &str| -> u64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is shown");
            value.parse().expect("a number")
        };
        let base = field("aof_base_size:");
        (base, field("aof_current_size:") - base)
    }

    pub fn run(&self, command: Command) -> Reply<'static> {
        self.run_all(vec![command]).remove(0)
    }

    /// What a client sends at once.
    pub fn run_all(&self, commands: Vec<Command>) -> Vec<Reply<'static>> {
        let (sender, replies) = channel();
        let count = commands.len();
        let operations = commands.into_iter().map(|it| Operation::new(it, RESP, None)).collect();
        let submission = Submission::new(Arc::new(Asking(sender)), operations);
        assert!(self.engine.submit(submission).is_ok(), "it is not closed");
        (0..count).map(|_| replies.recv().expect("an answer")).collect()
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
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        answered.iter().for_each(|it| self.0.send(it.reply.clone()).expect("the test waits"));
    }
}

pub fn error_of(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Error(text) => text.to_string(),
        other => panic!("{other:?} is no error"),
    }
}
