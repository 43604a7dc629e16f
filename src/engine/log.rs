//! The engine's interface to a log. The local files are one implementation.
//!
//! A log keeps batches in order, says when one is durable, and can be sealed, so that a snapshot can replace
//! everything before the seal. Only the thread that commits uses it, with calls for a batch, never for an
//! operation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::Changed;
use crate::wal::frame::SegmentHeader;
use crate::wal::health::Health;
use crate::wal::{Failure, Refused};

/// Something to do with the log between two batches.
pub type Errand = Box<dyn FnOnce(&mut dyn Log) + Send>;

/// An ordered, durable list of batches.
///
/// - A batch is written whole or not at all, after all before it.
/// - After the first failure nothing is written any more; the log's health tells why.
pub trait Log: Send {
    /// Frames a batch. It is written by [`Log::commit`], or forgotten by [`Log::discard`].
    fn frame(&mut self, changed: &Changed);

    /// Writes the framed batch. Returns how long that took if it is durable then; with a weaker `-fsync` it is
    /// not. If there is no room for it, nothing of it is written, and it stays framed for another try. A batch
    /// that `grows` the data is refused sooner than one that only removes something.
    fn commit(&mut self, grows: bool) -> Result<Option<Duration>, Refused>;

    /// Forgets the framed batch.
    fn discard(&mut self);

    /// Waits until there may be room for more, but not longer than `time`.
    fn wait_for_room(&self, time: Duration);

    /// Its health, for all threads to ask.
    fn health(&self) -> Arc<Health>;

    /// Bytes of all batches that were read at the start and written since.
    fn total_bytes(&self) -> u64;

    /// Begins a new segment, so that a snapshot can replace everything before it. `None` if the caller
    /// would have to wait for one.
    fn seal(&mut self) -> Result<Option<Sealed>, Refused>;

    /// Where the segment that is being written begins.
    fn last_seal(&self) -> Sealed;

    /// Makes all batches durable.
    fn sync(&mut self) -> Result<(), Failure>;

    /// Space has been freed: a segment that there was no room for can be made.
    fn note_freed(&self);

    /// Takes notice of a sync beside the batches, if it has ended or takes too long.
    fn note_sync_ended(&mut self);

    /// The time at which the committer calls [`Log::on_timer`] even if no batch comes.
    fn next_timer(&self) -> Option<Instant>;

    /// Marks an idle log and begins a sync, each if its time has come.
    fn on_timer(&mut self, now: Instant);

    /// Ends the log in order: all of it durable, and marked so. Whether that succeeded stands in its health.
    fn close(self: Box<Self>);
}

/// A place in the log between two batches: everything before it is in the store.
#[derive(Clone, Copy)]
pub struct Sealed {
    /// The segment that begins there.
    pub following: SegmentHeader,
    /// Bytes logged before it.
    pub logged: u64,
}
