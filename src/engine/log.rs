//! The engine's interface to a log. The local files are one implementation.
//!
//! A log keeps batches in order, says when one is durable, and can be sealed, so that a snapshot can replace
//! everything before the seal. Only the thread that commits uses it, with calls for a batch, never for an
//! operation. A log that other machines write, too, brings a [`Gate`]: it says whether what this process has in
//! memory may be shown.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{Changed, Text};
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
    fn commit(&mut self, grows: bool) -> Result<Option<Duration>, NotCommitted>;

    /// Whether a batch that changes nothing may be answered. A write that happens to change nothing (DEL of no
    /// key) must not succeed on a server that could not have made the change, nor show what may be outdated.
    fn confirm(&mut self) -> Result<(), NotCommitted>;

    /// A batch ends when its records and replies have this many bytes, so that a small write is not held up by many
    /// large ones. (RocksDB caps its write groups at the same 1 MiB.)
    fn batch_bytes(&self) -> usize {
        1 << 20
    }

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
    fn seal(&mut self) -> Result<Option<Sealed>, NotCommitted>;

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

/// Why a batch is not committed.
#[derive(Clone, Debug)]
pub enum NotCommitted {
    /// The log takes no more writes.
    Closed(Failure),
    /// There is no room for it, for this reason. Nothing was written, and the log stays open.
    NoRoom(Arc<str>),
    /// Others may have written to the log meanwhile, so that nothing may be shown that the commands have found
    /// in the store, either. This is the reply to all of them; whether the batch is durable it says.
    Withheld(Text),
}

impl From<Refused> for NotCommitted {
    fn from(refused: Refused) -> NotCommitted {
        match refused {
            Refused::Closed(failure) => NotCommitted::Closed(failure),
            Refused::NoRoom(reason) => NotCommitted::NoRoom(reason),
        }
    }
}

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotCommitted::Closed(Failure(why)) | NotCommitted::NoRoom(why) => why,
            NotCommitted::Withheld(reply) => reply,
        })
    }
}

/// Says whether what the store holds is all that is in the log, where others may write to that.
///
/// A read asks twice, because it could begin while this process follows another one, and end after it has taken
/// over: it shows what it has found if both answers are of the same term.
pub trait Gate: Send + Sync {
    /// The term in which this process alone writes to the log, for a moment yet; or the reply to a read.
    fn term(&self) -> Result<u64, Text>;
}

/// A place in the log between two batches: everything before it is in the store.
#[derive(Clone, Copy)]
pub struct Sealed {
    /// The segment that begins there.
    pub following: SegmentHeader,
    /// Bytes logged before it.
    pub logged: u64,
}
