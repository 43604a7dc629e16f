//! Batches as they happen, for those who watch: a sample of them, each with the times of its steps.
//!
//! While nobody watches, the committing thread pays one atomic load for a batch, and a client one for a submission.
//! While somebody does, the committer reads the clock a few times for one batch in a [`BETWEEN_SAMPLES`], and leaves
//! what it saw in a ring of [`KEPT`] places. It never waits for the ring's lock: a sample for which that is taken is
//! lost. No key and no value is in a sample.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::number::Histogram;
use crate::command::CommandId;

/// A person can follow ten batches a second at most; a busy server commits thousands.
pub const BETWEEN_SAMPLES: Duration = Duration::from_millis(100);

/// Samples that are kept: those of three seconds, so that a watcher that was late by one look misses none.
const KEPT: usize = 32;

/// The clients of which a sample tells apart what they asked for: as many as a page has room for.
pub const MOST_CLIENTS: usize = 48;

/// The steps of a batch, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its oldest submission has waited for its turn.
    Waited,
    /// Its commands were carried out against the store and what the batch had changed so far.
    Evaluated,
    /// Its changes became records with checksums.
    Framed,
    /// The log has made them durable.
    Synced,
    /// They were made visible to readers.
    Applied,
    /// The replies were handed to the sockets.
    Answered,
}

/// How many steps there are.
pub const STEPS: usize = Step::Answered as usize + 1;

/// Which thread committed a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// The committer's own.
    #[default]
    Committer,
    /// That of the only client that had something to write.
    Client,
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Its changes were made.
    #[default]
    Committed,
    /// There was no room for them.
    NoRoom,
    /// The log is closed.
    Closed,
    /// Another machine may lead.
    Withheld,
}

/// The part of one client in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The client's number; 0 if it is none.
    pub client: u64,
    /// How many operations.
    pub operations: usize,
    /// The command of the first.
    pub command: Option<CommandId>,
}

/// A batch, as it was seen.
#[derive(Clone, Debug, Default)]
pub struct BatchSeen {
    /// Places it among the samples; the first is 1.
    pub number: u64,
    /// When its evaluation began, after the start of the server.
    pub at: Duration,
    /// The thread that committed it.
    pub leader: Leader,
    /// The first [`MOST_CLIENTS`] clients.
    pub clients: Vec<Brought>,
    /// How many clients there were.
    pub client_count: usize,
    /// Operations of all of them.
    pub operations: usize,
    /// Records that were logged.
    pub records: u64,
    /// Bytes that were logged, padding too.
    pub bytes: u64,
    /// The time of each step that it went through.
    pub steps: [Option<Duration>; STEPS],
    /// How it ended.
    pub ending: Ending,
    /// Clients that have come meanwhile, and wait for the next batch.
    pub meanwhile: usize,
}

/// The samples, and who watches.
#[derive(Debug, Default)]
pub struct Batches {
    watchers: AtomicUsize,
    recent: Mutex<Recent>,
    /// Nanoseconds from a client's submission to its replies; counted only while somebody watches.
    pub waits: Histogram,
}

#[derive(Debug, Default)]
struct Recent {
    last: u64,
    samples: VecDeque<Arc<BatchSeen>>,
}

impl Batches {
    /// Whether anybody watches.
    pub fn are_watched(&self) -> bool {
        self.watchers.load(Relaxed) > 0
    }

    /// Has batches sampled as long as the result lives.
    pub fn watch(&self) -> Watching<'_> {
        self.watchers.fetch_add(1, Relaxed);
        Watching(self)
    }

    /// Keeps a sample, unless somebody looks at the others right now.
    pub fn keep(&self, sample: BatchSeen) {
        let Some(mut recent) = self.recent.try_lock() else { return };
        recent.last += 1;
        let number = recent.last;
        if recent.samples.len() == KEPT {
            recent.samples.pop_front();
        }
        recent.samples.push_back(Arc::new(BatchSeen { number, ..sample }));
    }
}

/// Somebody watches.
#[derive(Debug)]
pub struct Watching<'a>(&'a Batches);

impl Watching<'_> {
    /// The number of the last sample.
    pub fn last(&self) -> u64 {
        self.0.recent.lock().last
    }

    /// The samples after that number which are kept, oldest first.
    pub fn after(&self, number: u64) -> Vec<Arc<BatchSeen>> {
        let recent = self.0.recent.lock();
        recent.samples.iter().filter(|sample| sample.number > number).cloned().collect()
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_sees_each_sample_once_and_no_more_are_kept_than_there_are_places() {
        let batches = Batches::default();
        assert!(!batches.are_watched());
        let watching = batches.watch();
        assert!(batches.are_watched());
        (0..3).for_each(|_| batches.keep(BatchSeen::default()));
        let numbers = |after| -> Vec<u64> {
            watching.after(after).iter().map(|sample| sample.number).collect()
        };
        assert_eq!((numbers(0), numbers(2), numbers(3)), (vec![1, 2, 3], vec![3], vec![]));
        (0..100).for_each(|_| batches.keep(BatchSeen::default()));
        assert_eq!((numbers(0).len(), watching.last()), (KEPT, 103));
        drop(watching);
        assert!(!batches.are_watched());
    }

    #[test]
    fn the_committer_does_not_wait_for_one_who_looks() {
        let batches = Batches::default();
        let looking = batches.recent.lock();
        batches.keep(BatchSeen::default());
        drop(looking);
        assert_eq!(batches.watch().last(), 0, "the sample is lost, and nobody has waited");
    }
}
