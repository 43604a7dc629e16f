//! Clients of an engine on the double, without sockets: they send, note what was acknowledged, and
//! hold what a restart finds against it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::{self, Thread};

use parking_lot::{Condvar, Mutex};
use post_gres_rs::command::{Command, Dialect, LineEnd, Reply, SetOptions};
use post_gres_rs::engine::{
    Allowance, Collected, Engine, Fsync, Operation, Options, Policy, Recipient, Submission,
};
use post_gres_rs::entry::Entry;
use post_gres_rs::metrics::Metrics;
use post_gres_rs::store;
use post_gres_rs::tools;
use post_gres_rs::wal::{self, disk::Disk};

use super::DoubleDisk;

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

const KEYS: u64 = 6;
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
    // The tests say themselves when the log is to be compacted.
    let compaction = Policy { factor: 1, least_bytes: u64::MAX };
    let engine =
        Options { fsync, compaction, max_value: 1 << 20, max_reply: 1 << 30, max_memory: None };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    tools::import::run(&disk, &log)?;
    Engine::open(disk, log, &engine, store, metrics)
}

/// Gathers replies.
#[derive(Default)]
pub struct Inbox {
    replies: Mutex<Vec<Reply<'static>>>,
    /// Who has brought the last one.
    bringer: Mutex<Option<Thread>>,
    came: Condvar,
}

impl Recipient for Inbox {
    fn deliver(self: Arc<Self>, answered: &[Operation]) {
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

    /// Whether the last reply was brought by the calling thread.
    pub fn is_from_here(&self) -> bool {
        self.bringer.lock().as_ref().map(Thread::id) == Some(thread::current().id())
    }

    /// Whether it was brought by the thread of this name.
    pub fn is_from(&self, name: &str) -> bool {
        self.bringer.lock().as_ref().and_then(Thread::name) == Some(name)
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
    let sent = engine.submit(Submission { recipient: inbox.clone(), operations });
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
    engine.read(command, None, &mut answer).expect("there is room");
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

pub fn del(key: &str) -> Command {
    Command::Del(vec![key.as_bytes().into()])
}

/// What was asked of each key, in order, and how much of it was acknowledged.
#[derive(Clone, Default)]
pub struct History {
    /// For each key the values it was given, `None` for DEL; and the number of acknowledged ones.
    keys: BTreeMap<String, (Vec<Option<String>>, usize)>,
}

impl History {
    /// Notes an operation before it is sent.
    pub fn sent(&mut self, key: &str, value: Option<String>) {
        self.keys.entry(key.to_owned()).or_default().0.push(value);
    }

    /// Notes that an operation was not done: the last one that was sent to this key, or the last but one, ...
    pub fn never(&mut self, key: &str, from_last: usize) {
        let (values, _) = self.keys.get_mut(key).expect("it was sent");
        values.remove(values.len() - from_last);
    }

    /// Notes that everything sent to this key so far is acknowledged.
    pub fn acknowledged(&mut self, key: &str) {
        let (values, acknowledged) = self.keys.get_mut(key).expect("it was sent");
        *acknowledged = values.len();
    }

    /// Holds what a restart finds against it: each key has its last acknowledged value or one that
    /// was sent later, and nothing else is there. Says what is wrong.
    pub fn check(&self, engine: &Engine) -> Result<(), String> {
        for (key, (values, acknowledged)) in &self.keys {
            let found = value(engine, key);
            let first_possible = acknowledged.saturating_sub(1);
            let possible = || values[first_possible..].iter();
            let never_acknowledged = *acknowledged == 0 && found.is_none();
            if !never_acknowledged && !possible().any(|value| *value == found) {
                return Err(format!(
                    "{key} is {found:?}, acknowledged was {:?} of {values:?}",
                    acknowledged.checked_sub(1).map(|last| &values[last])
                ));
            }
        }
        Ok(())
    }

    /// What a client knows to be there.
    pub fn acknowledged_values(&self) -> HashMap<&str, Option<&str>> {
        let last = |(values, acknowledged): &(Vec<Option<String>>, usize)| {
            acknowledged.checked_sub(1).and_then(|last| values[last].as_deref().map(str::to_owned))
        };
        let mut map = HashMap::new();
        for (key, history) in &self.keys {
            if last(history).is_some() || history.1 > 0 {
                map.insert(key.as_str(), history.0[history.1 - 1].as_deref());
            }
        }
        map
    }
}

/// Sends a few rounds of operations, and notes what was acknowledged; `between` is called before each
/// round.
pub fn work(engine: &Engine, history: &mut History, seed: u64, between: &mut dyn FnMut(u64)) {
    let mut random = Random(seed);
    let mut refused = false;
    for round in 0..ROUNDS {
        between(round);
        let mut asked = Vec::new();
        let mut commands = Vec::new();
        for part in 0..=random.below(3) {
            let key = format!("key{}", random.below(KEYS));
            let padding = "x".repeat(random.below(4000) as usize);
            let new = (random.below(4) > 0).then(|| format!("{round}.{part} {padding}"));
            history.sent(&key, new.clone());
            commands.push(new.map_or_else(|| del(&key), |new| set(&key, &new)));
            asked.push(key);
        }
        let count = commands.len();
        let replies = send(engine, commands).wait_for(count);
        // For which there was no room was never there: it is not in any batch.
        for place in (0..count).rev().filter(|&place| is_without_room(&replies[place])) {
            history.never(
                &asked[place],
                asked[place..].iter().filter(|key| **key == asked[place]).count(),
            );
            asked.remove(place);
        }
        let mut others = replies.iter().filter(|reply| !is_without_room(reply));
        let all_refused = others.clone().all(|reply| matches!(reply, Reply::NotDurable(_)));
        let none_refused = !others.any(|reply| matches!(reply, Reply::NotDurable(_)));
        assert!(all_refused || none_refused, "a submission is in one batch: {replies:?}");
        assert!(!refused || all_refused, "acknowledged after a failure");
        refused |= !none_refused;
        if none_refused {
            asked.iter().for_each(|key| history.acknowledged(key));
        }
    }
}

/// Whether that is what is answered where there is no room for the log.
pub fn is_without_room(reply: &Reply<'_>) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("MISCONF ") && text.contains("no room"))
}

/// Starts on the disk as it may be found, in several ways, and holds it against what is known.
pub fn check_restarts(disk: &DoubleDisk, history: &History, seed: u64) -> usize {
    let mut random = Random(seed);
    let cut = |survives: &mut dyn FnMut() -> bool| disk.after_power_cut(survives);
    let found = [
        cut(&mut || false),
        cut(&mut || true),
        cut(&mut || random.below(2) == 0),
        cut(&mut || random.below(8) == 0),
        cut(&mut || random.below(8) > 0),
    ];
    let count = found.len();
    for (number, found) in found.into_iter().enumerate() {
        let engine = open(&found, Fsync::Always)
            .unwrap_or_else(|error| panic!("seed {seed}, image {number}: {error:#}"));
        history.check(&engine).unwrap_or_else(|what| panic!("seed {seed}, image {number}: {what}"));
        // What a restart shows must stay, whatever happens next.
        let seen: Vec<_> = (0..KEYS).map(|key| value(&engine, &format!("key{key}"))).collect();
        let again = open(&found.after_power_cut(&mut || false), Fsync::Always).expect("again");
        let later: Vec<_> = (0..KEYS).map(|key| value(&again, &format!("key{key}"))).collect();
        assert!(seen == later, "seed {seed}, image {number}: what was seen is gone");
    }
    count
}

/// Numbers that look random and are the same for the same seed (SplitMix64, Steele et al. 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
