//! Snapshots as the compactor sees them: what they may take up, and how one is written. The local files are one
//! implementation, [`Space`](super::space::Space).
//!
//! A snapshot rebuilds everything before a seal of the log, and the log before that seal can go once it is
//! finished (promise 4). Only the compactor's thread calls any of this.

use crate::engine::Room;
use crate::engine::log::Sealed;
use crate::record;
use crate::store::Store;

/// A snapshot takes more than the entries in memory (padding of its frames, a block for each 256 KiB, and
/// numbers in its records): by this part of them, and this many bytes.
const SNAPSHOT_PART: u64 = 16;
const SNAPSHOT_LEAST: u64 = 64 << 10;

/// Whether a compaction may give up the space that is kept in reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// All of it.
    Reserve,
    /// Nothing.
    Nothing,
}

/// The bytes by which a compaction decides.
#[derive(Clone, Copy)]
pub struct Size {
    /// About the most bytes that a snapshot of the store will take.
    pub need: u64,
    /// Bytes of the last snapshot.
    pub snapshot: u64,
    /// Bytes of the log after it.
    pub since: u64,
}

impl Size {
    /// Of a compaction of this store, with the bytes of the last snapshot and of the log after it.
    pub fn of(store: &dyn Store, (snapshot, since): (u64, u64)) -> Size {
        let bytes = store.bytes() as u64;
        let need = bytes + bytes / SNAPSHOT_PART + SNAPSHOT_LEAST;
        Size { need, snapshot, since }
    }

    /// Bytes of snapshot and log before the compaction.
    pub fn before(&self) -> u64 {
        self.snapshot + self.since
    }
}

/// The place for snapshots.
pub trait Snapshots: Send + Sync {
    /// Bytes of the snapshot that was read at the start.
    fn bytes_at_start(&self) -> u64;

    /// Bytes of the last snapshot, and of the log after it, if another machine may have written it; `None` if only the
    /// compactor itself does.
    fn last(&self) -> Option<(u64, u64)> {
        None
    }

    /// Whether space is so short that a compaction has to begin early. Has `size.need` left free from now on.
    fn is_due_early(&self, size: Size, least_bytes: u64, room: &Room) -> bool;

    /// Whether a compaction that begins by itself may give up the reserve.
    fn frees_enough(&self, size: Size) -> Spend;

    /// Fails if a snapshot has no room; makes some before, if that may be spent.
    fn make_room(&self, need: u64, room: &Room, spend: Spend) -> anyhow::Result<()>;

    /// Whether a snapshot that failed with this error may succeed now, because something was given up for it.
    fn make_more_room(&self, need: u64, error: &anyhow::Error) -> anyhow::Result<bool>;

    /// Begins a snapshot of everything before the seal, which may take this many bytes.
    fn begin(&self, sealed: &Sealed, room: u64) -> anyhow::Result<Box<dyn Snapshot + '_>>;

    /// Removes unfinished snapshots, and what a finished one covers: all before this seal.
    fn remove_leftovers(&self, sealed: Option<&Sealed>) -> anyhow::Result<()>;

    /// Keeps room for the next one.
    fn keep_room(&self, need: u64);
}

/// A snapshot that is being written.
pub trait Snapshot {
    /// Adds a record.
    fn push(&mut self, record: record::New<'_>);

    /// Whether there is enough to be written.
    fn is_full(&self) -> bool;

    /// Writes what was added.
    fn flush(&mut self) -> anyhow::Result<()>;

    /// Ends the snapshot: once this returns, a start reads it. Returns its length. Calls `go_on` now and then, and
    /// gives up if that fails.
    fn finish(self: Box<Self>, go_on: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<u64>;
}
