//! Many writes and reads, and what must hold of them: a key whose only writer counts up shows no number below one that
//! was acknowledged before it was asked for, and none that was never sent.
//!
//! Readers ask every server, each on its own machine, all the time: a follower, and a leader that others cannot reach.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::network::{MACHINES, Network};
use super::session::{Patience, Session, Told, Wants};
use crate::common::Rng;
use crate::common::wire::{Value, request};

/// Each has a key of its own.
pub const WRITERS: usize = 4;

/// After each operation that succeeded, so that the machine is busy with faults and not with load.
pub const PACE: Duration = Duration::from_millis(3);

/// How much of what is wrong is shown.
const WRONGS_SHOWN: usize = 10;

/// What all threads of the load share.
#[derive(Default)]
pub struct Load {
    keys: [Counted; WRITERS],
    tally: Mutex<Tally>,
    stops: AtomicBool,
}

/// The numbers that were written to a key.
#[derive(Default)]
struct Counted {
    acknowledged: AtomicU64,
    sent: AtomicU64,
}

/// What was seen since the last fault began.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub acknowledged: u64,
    pub reads: u64,
    pub refused: u64,
    /// By the machine that was asked on itself.
    pub refused_by: [u64; MACHINES],
    pub reads_by: [u64; MACHINES],
    pub lost: u64,
    pub stale: u64,
    /// The longest time without an acknowledged write.
    pub longest: Duration,
    last: Option<Instant>,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Tally {
    fn acknowledge(&mut self) {
        self.note_gap();
        self.acknowledged += 1;
        self.last = Some(Instant::now());
    }

    /// Fails if something is wrong.
    pub fn assert_well(&self) {
        let (count, first) = (self.wrong.len(), self.wrong.iter().take(WRONGS_SHOWN));
        assert!(count == 0, "{count} things are wrong: {:#?}", first.collect::<Vec<_>>());
    }

    fn note_gap(&mut self) {
        let gap = self.last.map_or(Duration::ZERO, |last| last.elapsed());
        self.longest = self.longest.max(gap);
    }
}

impl Load {
    /// Begins to count anew, and returns what was counted.
    pub fn take(&self) -> Tally {
        let mut tally = self.tally.lock().expect("no panic");
        tally.note_gap();
        let last = tally.last;
        std::mem::replace(&mut *tally, Tally { last, ..Tally::default() })
    }

    pub fn look(&self) -> Tally {
        self.tally.lock().expect("no panic").clone()
    }

    /// The same, if nothing is wrong so far.
    pub fn look_well(&self) -> Tally {
        let tally = self.look();
        tally.assert_well();
        tally
    }

    pub fn stop(&self) {
        self.stops.store(true, SeqCst);
    }

    pub fn stops(&self) -> bool {
        self.stops.load(SeqCst)
    }

    /// Notes what must not be.
    pub fn complain(&self, what: String) {
        self.tally.lock().expect("no panic").wrong.push(what);
    }

    /// A refusal that no fault explains.
    pub fn note_refusal(&self, text: &str, by: Option<usize>) {
        let mut tally = self.tally.lock().expect("no panic");
        if !EXPECTED.iter().any(|part| text.contains(part)) {
            tally.wrong.push(format!("refused: {text}"));
        }
        tally.refused += 1;
        if let Some(at) = by {
            tally.refused_by[at] += 1;
        }
    }

    /// Writes until the load stops.
    pub fn write(&self, network: &Network, writer: usize) {
        let patience = if writer.is_multiple_of(2) { Patience::Short } else { Patience::Long };
        let mut session = Session::new(network, Wants::Leader, patience);
        let Counted { acknowledged, sent } = &self.keys[writer];
        while !self.stops() {
            let number = sent.fetch_add(1, SeqCst) + 1;
            match session.ask(&request(["SET", &key(writer), &number.to_string()])) {
                Told::Reply(value) if value == Value::ok() => {
                    acknowledged.store(number, SeqCst);
                    self.tally.lock().expect("no panic").acknowledge();
                    thread::sleep(PACE);
                }
                Told::Reply(other) => self.complain(format!("SET answers {other:?}")),
                Told::Refused(text) => self.note_refusal(&text, None),
                Told::Unknown => {}
            }
        }
    }

    /// Reads on one machine until the load stops.
    pub fn read(&self, network: &Network, at: usize, mut rng: Rng) {
        let mut session = Session::new(network, Wants::Own(at), Patience::Short);
        while !self.stops() {
            let writer = rng.below(WRITERS);
            let before = self.acknowledged(writer);
            match session.ask(&request(["GET", &key(writer)])) {
                Told::Reply(value) => {
                    self.judge(writer, before, &value, at);
                    thread::sleep(PACE);
                }
                Told::Refused(text) => self.note_refusal(&text, Some(at)),
                Told::Unknown => {}
            }
        }
    }

    fn judge(&self, writer: usize, before: u64, value: &Value, at: usize) {
        let (read, sent) = (number(value), self.keys[writer].sent.load(SeqCst));
        let mut tally = self.tally.lock().expect("no panic");
        tally.reads += 1;
        tally.reads_by[at] += 1;
        if read < before {
            tally.stale += 1;
            tally.wrong.push(format!("stale: machine {at} shows {read} after {before}"));
        }
        if read > sent {
            tally.wrong.push(format!("machine {at} shows {read}, and {sent} was the last"));
        }
    }

    /// Looks for every acknowledged write at the leader.
    pub fn find_all(&self, network: &Network) {
        let mut session = Session::new(network, Wants::Leader, Patience::Short);
        for writer in 0..WRITERS {
            let before = self.acknowledged(writer);
            let value = ask_until_told(&mut session, &request(["GET", &key(writer)]));
            let read = number(&value);
            if read < before {
                let mut tally = self.tally.lock().expect("no panic");
                tally.lost += before - read;
                tally.wrong.push(format!("lost: {read} is there, and {before} was acknowledged"));
            }
        }
    }

    fn acknowledged(&self, writer: usize) -> u64 {
        self.keys[writer].acknowledged.load(SeqCst)
    }
}

/// Asks until there is a reply; only for what changes nothing.
pub fn ask_until_told(session: &mut Session, request: &[u8]) -> Value {
    let began = Instant::now();
    loop {
        if let Told::Reply(value) = session.ask(request) {
            return value;
        }
        assert!(began.elapsed() < LONGEST_WAIT, "no server answers");
    }
}

/// Refusals that some fault explains.
const EXPECTED: [&str; 6] = [
    "READONLY",
    "LOADING",
    "TRYAGAIN",
    "nothing was done",
    "no room, and nothing was changed",
    "there is no server",
];

const LONGEST_WAIT: Duration = Duration::from_secs(60);

fn key(writer: usize) -> String {
    format!("counted{writer}")
}

/// The number that a reply to GET is.
fn number(value: &Value) -> u64 {
    match value {
        Value::NullBulk => 0,
        Value::Bulk(text) => {
            String::from_utf8_lossy(text).parse().unwrap_or_else(|_| panic!("{value:?}"))
        }
        other => panic!("GET answers {other:?}"),
    }
}
