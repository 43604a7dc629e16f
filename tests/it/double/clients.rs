//! Clients of an engine on the double, without sockets: they send, note what was acknowledged, and
//! hold what a restart finds against it.

use std::sync::Arc;
use std::thread::{self, Thread};

use parking_lot::{Condvar, Mutex};
use post_gres_rs::command::{Command, Dialect, LineEnd, Reply, SetOptions};
use post_gres_rs::commands;
use post_gres_rs::engine::{
    Allowance, Collected, Engine, Fsync, Operation, Options, Recipient, Submission,
};
use post_gres_rs::entry::Entry;
use post_gres_rs::metrics::Metrics;
use post_gres_rs::store;
use post_gres_rs::tools;
use post_gres_rs::upkeep::{self, Policy};
use post_gres_rs::wal::{self, disk::Disk};

use super::DoubleDisk;
use crate::common::Rng;
use crate::durability::history::{Change, History, NOW};

/// Segments of 32 KiB: a handful of batches, so that a short run changes segment often.
pub fn options() -> wal::Options {
    wal::Options {
        path: "/log/wal_file".into(),
        sync: wal::SyncPolicy::Always,
        first_segment_bytes: 32 << 10,
        largest_segment_bytes: 32 << 10,
        lock: None,
    }
}

const KEYS: usize = 6;
const ROUNDS: u64 = 24;

/// An engine on this disk.
pub fn open(disk: &DoubleDisk, fsync: Fsync) -> anyhow::Result<Engine> {
    open_counted(disk, fsync, Arc::default())
}

/// The same, with its counters.
pub fn open_counted(
    disk: &DoubleDisk,
    fsync: Fsync,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Engine> {
    open_with(disk, options(), fsync, metrics)
}

/// The same, with segments of other lengths.
pub fn open_with(
    disk: &DoubleDisk,
    log: wal::Options,
    fsync: Fsync,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Engine> {
    let store = store::new(2, 0);
    let (max_value, max_reply, max_memory, databases) = (1 << 20, 1 << 30, None, 16);
    let options = Options { fsync, max_value, max_reply, max_memory, databases };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    tools::import::run(&disk, &log)?;
    let engine = Engine::open(disk, log, &options, store, metrics)?;
    // Never by itself: the tests say when the log is to be compacted.
    upkeep::start(&engine, Policy { percent: 100, least_bytes: u64::MAX })?;
    Ok(engine)
}

/// Gathers replies.
#[derive(Default)]
pub struct Inbox {
    replies: Mutex<Vec<Reply<'static>>>,
    /// The thread that delivered the last one.
    bringer: Mutex<Option<Thread>>,
    came: Condvar,
}

impl Recipient for Inbox {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        *self.bringer.lock() = Some(thread::current());
        self.replies.lock().extend(answered.iter().map(|operation| operation.reply.clone()));
        self.came.notify_all();
    }
}

impl Inbox {
    /// Waits for that many replies.
    pub fn wait_for(&self, count: usize) -> Vec<Reply<'static>> {
        let mut replies = self.replies.lock();
        while replies.len() < count {
            self.came.wait(&mut replies);
        }
        replies.clone()
    }

    /// Whether the calling thread delivered the last reply.
    pub fn is_from_here(&self) -> bool {
        self.bringer.lock().as_ref().map(Thread::id) == Some(thread::current().id())
    }

    /// How many replies there are now.
    pub fn count(&self) -> usize {
        self.replies.lock().len()
    }
}

/// Sends commands as one submission, and commits them if the engine has nothing else to do.
pub fn send(engine: &Engine, commands: Vec<Command>) -> Arc<Inbox> {
    let inbox = Arc::<Inbox>::default();
    send_to(&inbox, engine, commands);
    inbox
}

/// Sends commands on a thread of its own, without waiting.
pub fn send_beside(engine: &Arc<Engine>, commands: Vec<Command>) -> Arc<Inbox> {
    let (engine, inbox) = (engine.clone(), Arc::<Inbox>::default());
    let for_thread = inbox.clone();
    thread::spawn(move || send_to(&for_thread, &engine, commands));
    inbox
}

fn send_to(inbox: &Arc<Inbox>, engine: &Engine, commands: Vec<Command>) {
    let dialect = Dialect::Text(LineEnd::Lf);
    let operations =
        commands.into_iter().map(|command| Operation::new(command, dialect, None)).collect();
    let sent = engine.submit(Submission::new(inbox.clone(), operations));
    assert!(sent.is_ok(), "the engine is open");
}

/// Sends one command and waits for its reply.
pub fn ask(engine: &Engine, command: Command) -> Reply<'static> {
    send(engine, vec![command]).wait_for(1).remove(0)
}

/// The reply to a read, as a client's thread has it.
pub fn read(engine: &Engine, command: &Command) -> Reply<'static> {
    let mut room = Allowance::new(usize::MAX, Dialect::Text(LineEnd::Lf));
    let mut answer = Collected::new(&mut room);
    engine.read(command, 0, None, &mut answer).0.expect("there is room");
    answer.into_reply()
}

/// The value of a key, read as a client's thread reads it.
pub fn value(engine: &Engine, key: &str) -> Option<String> {
    match read(engine, &Command::Get(key.as_bytes().into())) {
        Reply::Bulk(value) => Some(String::from_utf8_lossy(&value).into_owned()),
        Reply::Null => None,
        other => panic!("GET answered {other:?}"),
    }
}

pub fn set(key: &str, value: &str) -> Command {
    Command::Set(Entry::new(key.as_bytes(), value.as_bytes()), SetOptions::default())
}

/// A command on data, as its words are.
pub fn command(words: &[&str]) -> Command {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    commands::command(&words).expect("a command on data")
}

pub fn del(key: &str) -> Command {
    Command::Del(vec![key.as_bytes().into()])
}

/// A history of the keys that [`work`] works on, at their beginning.
pub fn history() -> History {
    History::of_single_keys(0, (0..KEYS).map(|key| format!("key{key}")))
}

/// Compares an engine with a history: which operation each register shows, or what is wrong.
pub fn shown(history: &History, engine: &Engine) -> Result<Vec<usize>, String> {
    history.shown(NOW, |key| value(engine, key))
}

/// Fails unless an engine shows what was acknowledged, and nothing else.
pub fn shows_acknowledged_alone(history: &History, engine: &Engine, when: &str) {
    for register in &history.registers {
        let key = &register.keys[0];
        let expected = register.value(register.last_acknowledged(NOW));
        assert_eq!(value(engine, key), expected, "{when}: {key}");
    }
}

/// Sends a few rounds of operations, and notes what was acknowledged; `between` is called before each
/// round.
pub fn work(engine: &Engine, history: &mut History, seed: u64, between: &mut dyn FnMut(u64)) {
    let mut rng = Rng::new(seed);
    let mut refused = false;
    for round in 0..ROUNDS {
        between(round);
        let mut asked = Vec::new();
        let mut commands = Vec::new();
        for _ in 0..=rng.below(3) {
            let key = rng.below(KEYS);
            let length = rng.below(4000);
            let change = match rng.below(8) {
                0 | 1 => Change::Delete,
                2..5 => Change::Patch(length / 8),
                _ => Change::Set(length),
            };
            let register = &mut history.registers[key];
            let number = register.send(change, NOW);
            let (words, _) = register.request(number);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            commands.push(match words[..] {
                ["SET", key, value] => set(key, value),
                ["DEL", key] => del(key),
                _ => command(&words),
            });
            asked.push((key, number));
        }
        let replies = send(engine, commands).wait_for(asked.len());
        let asked = asked.into_iter().zip(&replies);
        let (without_room, others): (Vec<_>, Vec<_>) =
            asked.partition(|(_, reply)| is_without_room(reply));
        for ((key, number), _) in without_room {
            history.registers[key].refuse(number);
        }
        let closed = |reply: &&Reply<'_>| matches!(reply, Reply::NotDurable(_));
        let all_refused = others.iter().all(|(_, reply)| closed(reply));
        let none_refused = !others.iter().any(|(_, reply)| closed(reply));
        assert!(all_refused || none_refused, "a submission is in one batch: {replies:?}");
        assert!(!refused || all_refused, "acknowledged after a failure");
        refused |= !none_refused;
        for ((key, number), _) in others.into_iter().filter(|_| none_refused) {
            history.registers[key].acknowledge(number, NOW);
        }
    }
}

/// Whether this reply says that there is no room for the log.
pub fn is_without_room(reply: &Reply<'_>) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("MISCONF ") && text.contains("no room"))
}

/// Starts on the disk as it may be found, in several ways, and compares it with the history.
pub fn check_restarts(disk: &DoubleDisk, history: &History, seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let cut = |survives: &mut dyn FnMut() -> bool| disk.after_power_cut(survives);
    let found = [
        cut(&mut || false),
        cut(&mut || true),
        cut(&mut || rng.below(2) == 0),
        cut(&mut || rng.below(8) == 0),
        cut(&mut || rng.below(8) > 0),
    ];
    let count = found.len();
    for (number, found) in found.into_iter().enumerate() {
        let engine = open(&found, Fsync::Always)
            .unwrap_or_else(|error| panic!("seed {seed}, image {number}: {error:#}"));
        let seen = shown(history, &engine)
            .unwrap_or_else(|what| panic!("seed {seed}, image {number}: {what}"));
        // The state that a restart shows must stay, even after a power cut.
        let again = open(&found.after_power_cut(&mut || false), Fsync::Always).expect("again");
        assert!(
            Ok(seen) == shown(history, &again),
            "seed {seed}, image {number}: what was seen is gone"
        );
    }
    count
}
