//! Where the log is and how it is kept.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::Access;
use super::lock::Lock;

/// Where the log is if no flag names another place.
pub const DEFAULT_PATH: &str = "./wal_files/wal_file";

/// A fresh server that holds three keys should not take up much: a first segment of 1 MiB, and
/// one of 4 MiB prepared.
pub const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Segments grow fourfold up to this size: a rotation costs four syncs, which is nothing among some
/// ten thousand batches.
pub const LARGEST_SEGMENT_BYTES: u64 = 64 << 20;

/// When a batch is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before the commit returns.
    Always,
    /// Whenever [`super::Wal::sync`] or [`super::Wal::begin_sync`] is called.
    Later,
}

/// Where the log is and how it is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The segment being written; the other files stand beside it.
    pub path: PathBuf,
    /// When a batch is made durable.
    pub sync: SyncPolicy,
    /// Length of the first segment.
    pub first_segment_bytes: u64,
    /// Length that no prepared segment exceeds.
    pub largest_segment_bytes: u64,
    /// The lock that a server holds on the log; a tool has none.
    pub lock: Option<Arc<Lock>>,
}

impl Options {
    /// Whether the lock file says that a log was here.
    pub fn has_served(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.has_served())
    }

    /// A log that is synced on every batch gains nothing from the page cache.
    pub(super) fn access(&self) -> Access {
        match self.sync {
            SyncPolicy::Always => Access::Direct,
            SyncPolicy::Later => Access::Buffered,
        }
    }
}
