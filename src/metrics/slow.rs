//! Commands that took long: SLOWLOG's list, and what LATENCY tells.
//!
//! The time of a command is what it takes to be carried out, as in [`super::command`]: on its client's own thread, or
//! in its place in a batch; not the wait for its turn, nor for the disk. A command that is quick costs one
//! comparison here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::slow_messages::{Caller, Teller};
use crate::command::{Slow, Words};

/// Redis's defaults.
const MICROS: i64 = 10_000;
const MOST: usize = 128;

/// The most slow commands that may be kept, each with some 4 KiB of its words at most: 40 MB.
pub const MOST_SLOW: u64 = 10_000;

/// The most words that are kept of a command, and the most bytes of each: Redis's.
const WORDS: usize = 32;
const WORD_BYTES: usize = 128;

/// With a shorter threshold a command without much to do may be slow, and so the words of all have to be kept until
/// they are carried out.
const WORDS_BELOW: i64 = 1000;

/// Samples that are kept of an event: Redis's 160.
const SAMPLES: usize = 160;

/// See the head of this file.
#[derive(Debug)]
pub struct SlowCommands {
    /// Microseconds from which a command is slow; none is if negative.
    micros: AtomicI64,
    most: AtomicUsize,
    latency_millis: AtomicI64,
    /// The shorter of both in nanoseconds, the one comparison.
    least_nanos: AtomicI64,
    list: Mutex<List>,
    samples: Mutex<Samples>,
    /// Messages about them.
    pub messages: Teller,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    /// The latest first.
    commands: VecDeque<Slow>,
}

/// Seconds of Unix time and milliseconds, the longest of each second.
#[derive(Debug, Default)]
struct Samples {
    list: VecDeque<(i64, i64)>,
    longest: i64,
}

impl Default for SlowCommands {
    fn default() -> SlowCommands {
        let slow = SlowCommands {
            micros: MICROS.into(),
            most: MOST.into(),
            latency_millis: 0.into(),
            least_nanos: 0.into(),
            list: Mutex::default(),
            samples: Mutex::default(),
            messages: Teller::default(),
        };
        slow.set_least();
        slow
    }
}

impl SlowCommands {
    /// Whether a command that took this long is to be noted.
    pub fn is_slow(&self, elapsed: Duration) -> bool {
        elapsed.as_nanos() as i64 >= self.least_nanos.load(Relaxed)
    }

    /// Whether the words of a command have to be kept before it is known how long it takes.
    pub fn keeps_words(&self) -> bool {
        (0..WORDS_BELOW).contains(&self.micros.load(Relaxed))
    }

    /// Microseconds from which a command is slow; none is if negative.
    pub fn micros(&self) -> i64 {
        self.micros.load(Relaxed)
    }

    /// Sets that.
    pub fn set_micros(&self, micros: i64) {
        self.micros.store(micros, Relaxed);
        self.set_least();
    }

    /// The most slow commands that are kept.
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Sets that.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
        self.list.lock().commands.truncate(most);
    }

    /// Milliseconds from which a command is a sample of latency; none is if zero.
    pub fn latency_millis(&self) -> i64 {
        self.latency_millis.load(Relaxed)
    }

    /// Sets that.
    pub fn set_latency_millis(&self, millis: i64) {
        self.latency_millis.store(millis, Relaxed);
        self.set_least();
    }

    fn set_least(&self) {
        let (micros, millis) = (self.micros(), self.latency_millis());
        let slow = if micros < 0 { i64::MAX } else { micros.saturating_mul(1000) };
        let late = if millis == 0 { i64::MAX } else { millis.saturating_mul(1_000_000) };
        self.least_nanos.store(slow.min(late), Relaxed);
    }

    /// Notes a command, if it is slow.
    pub fn note(&self, elapsed: Duration, words: &Words<'_>, client: impl FnOnce() -> Caller) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let millis = elapsed.as_millis() as i64;
        let from = self.latency_millis();
        if from > 0 && millis >= from {
            self.samples.lock().add(now, millis);
        }
        let (micros, most) = (elapsed.as_micros() as i64, self.most());
        if !(0..=micros).contains(&self.micros()) {
            return;
        }
        let (caller, key) = (client(), self.messages.key_of(words).map(trimmed_word));
        let words = trimmed(words.iter().copied());
        let command = words.first().map(Vec::as_slice).unwrap_or_default();
        self.messages.tell(elapsed, command, key.as_deref(), &caller);
        if most == 0 {
            return;
        }
        let Caller { address, name, .. } = caller;
        let mut list = self.list.lock();
        let id = list.next;
        list.next += 1;
        list.commands.truncate(most - 1);
        list.commands.push_front(Slow { id, at: now, micros, words, address, name });
    }

    /// The latest slow commands, the last first.
    pub fn latest(&self, most: usize) -> Vec<Slow> {
        self.list.lock().commands.iter().take(most).cloned().collect()
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.list.lock().commands.len()
    }

    /// Forgets them; their numbers go on.
    pub fn reset(&self) {
        self.list.lock().commands.clear();
    }

    /// The samples of latency, the oldest first, and the longest ever.
    pub fn samples(&self) -> (Vec<(i64, i64)>, i64) {
        let samples = self.samples.lock();
        (samples.list.iter().copied().collect(), samples.longest)
    }

    /// Forgets the samples.
    pub fn reset_samples(&self) {
        *self.samples.lock() = Samples::default();
    }
}

impl Samples {
    fn add(&mut self, now: i64, millis: i64) {
        self.longest = self.longest.max(millis);
        match self.list.back_mut() {
            Some((second, longest)) if *second == now => *longest = millis.max(*longest),
            _ => self.list.push_back((now, millis)),
        }
        if self.list.len() > SAMPLES {
            self.list.pop_front();
        }
    }
}

/// Words as Redis trims them: the last place tells how many are missing.
fn trimmed<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let count = words.len();
    let kept = if count > WORDS { WORDS - 1 } else { count };
    let mut trimmed: Vec<Vec<u8>> = words.take(kept).map(trimmed_word).collect();
    if count > kept {
        trimmed.push(format!("... ({} more arguments)", count - kept).into_bytes());
    }
    trimmed
}

fn trimmed_word(word: &[u8]) -> Vec<u8> {
    match word.split_at_checked(WORD_BYTES) {
        Some((kept, rest)) if !rest.is_empty() => {
            [kept, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => word.to_vec(),
    }
}
