//! Facts about the store and the log at a moment, for INFO and for all others that show them.
//!
//! Nothing here waits for the commit path. The sums of the store take the lock of each shard for as long as it takes
//! to copy four numbers, as a GET of one key does.

use std::sync::atomic::Ordering;

use super::{Handle, Shared};
use crate::store::Totals;
use crate::wal::Failure;
use crate::wal::health::Room;

/// The size of the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreFacts {
    /// Keys, and bytes of keys, values and their index.
    pub totals: Totals,
    /// The most bytes that were seen.
    pub peak_bytes: u64,
    /// The limit of these bytes, if there is one.
    pub most_bytes: Option<usize>,
}

/// The state of the log.
#[derive(Clone, Debug)]
pub struct LogFacts {
    /// Why it takes no more writes, if it is closed.
    pub failure: Option<Failure>,
    /// The room for further batches, as far as it is known.
    pub room: Room,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the log after it.
    pub bytes: u64,
    /// How many of those make it due for a compaction; `None` if it never is.
    pub due_at: Option<u64>,
    /// The number of the segment that is being written.
    pub segment: u64,
}

impl LogFacts {
    /// Its state in a word, and why it is not `ok`.
    pub fn status(&self) -> (&'static str, &str) {
        match (&self.failure, &self.room) {
            (Some(Failure(why)), _) => ("err", why),
            (None, Room::Enough) => ("ok", ""),
            (None, Room::Short(why)) => ("short", why),
            (None, Room::Full(why)) => ("full", why),
        }
    }
}

impl Handle {
    /// The size of the store now.
    pub fn store_facts(&self) -> StoreFacts {
        let Shared { store, metrics, .. } = self.shared();
        let totals = store.totals();
        metrics.peak_memory.raise(totals.bytes as u64);
        let (peak_bytes, most_bytes) = (metrics.peak_memory.get(), self.max_memory());
        StoreFacts { totals, peak_bytes, most_bytes }
    }

    /// The state of the log now, if there is one.
    pub fn log_facts(&self) -> Option<LogFacts> {
        let Shared { health, has_log, segment, .. } = self.shared();
        let compactor = self.shared().compactor();
        let (snapshot_bytes, bytes) =
            compactor.as_ref().map(|compactor| compactor.log_bytes()).unwrap_or_default();
        has_log.then(|| LogFacts {
            failure: health.failure().cloned(),
            room: health.room(),
            snapshot_bytes,
            bytes,
            due_at: compactor.and_then(|compactor| compactor.due_at()),
            segment: segment.load(Ordering::Relaxed),
        })
    }
}
