//! Writing: batches, the marks after them, and the end of the log.
//!
//! The first error closes the log (promise 6): everything that writes goes through
//! `Wal::unless_failed`, which remembers it. If there is no room, nothing is written, and the log
//! stays open.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::block::{BLOCK_BYTES, BlockBuffer};
use super::frame::Kind;
use super::guard::reserve::Reserve;
use super::health::{Failure, Health, Room};
use super::options::SyncPolicy;
use super::{Committed, Refused, Wal};

/// Memory for frames that is kept from batch to batch.
const KEPT_FRAME_BYTES: usize = 4 << 20;

/// A commit that takes longer is reported: so slow a disk is about to fail, or overloaded.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

impl Wal {
    /// Adds a record to the batch that is being built: what `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut BlockBuffer)) {
        self.frame.push(write);
    }

    /// Memory in which a batch is built.
    pub fn buffer_bytes(&self) -> usize {
        self.frame.capacity()
    }

    /// Forgets the batch that is being built.
    pub fn discard(&mut self) {
        self.frame.clear(KEPT_FRAME_BYTES);
    }

    /// Writes the batch, and with [`SyncPolicy::Always`] makes it durable. The first error closes
    /// the log: it is returned from then on, and nothing is written. If there is no room for the
    /// batch, none of it is written. A refused batch stays for another try or for [`Wal::discard`].
    /// One that `grows` the data is refused sooner than one that only removes something.
    pub fn commit(&mut self, grows: bool) -> Result<Committed, Refused> {
        self.make_room(grows)?;
        let committed = self.unless_failed(Wal::try_commit)?;
        self.discard();
        if self.refused_large && grows {
            self.refused_large = false;
            self.preparer.iter().for_each(|preparer| preparer.note_room());
        }
        Ok(committed)
    }

    /// Waits until there may be room for more, but not longer than `time`.
    pub fn wait_for_room(&self, time: Duration) {
        self.preparer.iter().for_each(|preparer| preparer.wait(time));
    }

    /// Notes that space has been freed: the reserve can be made again, or a segment for which there
    /// was none.
    pub fn note_freed(&self) {
        self.preparer.iter().for_each(|preparer| preparer.look_again());
    }

    /// Makes all batches durable.
    pub fn sync(&mut self) -> Result<(), Failure> {
        self.unless_failed(|wal| {
            wal.finish_sync()?;
            wal.segment.sync()?;
            wal.durable_lsn = wal.segment.tail().next_lsn - 1;
            Ok(())
        })
    }

    /// Whether there are batches that a power cut could take.
    pub fn has_unsynced(&self) -> bool {
        self.durable_lsn + 1 < self.segment.tail().next_lsn
    }

    /// Says in the log that all of it is durable. Costs a write without a sync; call it when the
    /// log has been idle. The mark tells later damage to the last batch from a torn one.
    pub fn mark_idle(&mut self) {
        if self.marked || self.has_unsynced() {
            return;
        }
        // In a full segment the file grows by a block, which no batch uses, and which is cut off at
        // the rotation. On a full disk it cannot grow, and the log does without the mark.
        if !self.segment.has_room(BLOCK_BYTES as u64)
            && self.segment.allocate(BLOCK_BYTES as u64).is_err()
        {
            self.marked = true;
            return;
        }
        // A failure closes the log, and the next client that writes is told.
        if self.unless_failed(|wal| wal.mark(Kind::Idle).map(drop)).is_ok() {
            self.watch.iter().for_each(|watch| watch.note_idle());
        }
    }

    /// Whether [`Wal::mark_idle`] would have nothing to do.
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// Bytes of all frames that were read at the start and written since.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Why the log takes no more writes, if it does not.
    pub fn failure(&self) -> Option<&Failure> {
        self.health.failure()
    }

    /// What the log leaves free on its volume.
    pub fn reserve(&self) -> Arc<Reserve> {
        self.reserve.clone()
    }

    /// Whether the log takes writes; any thread may ask.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// The last LSN that is on disk.
    pub fn durable_lsn(&self) -> u64 {
        self.durable_lsn
    }

    /// Ends the log in order: everything durable, a mark that says so, and, unless room is short,
    /// no zeros after it.
    pub fn close(mut self) -> Result<(), Failure> {
        self.preparer = None;
        self.sync()?;
        // A start makes a new one in any case, and the mark may need the space of this one.
        if let Err(error) = self.disk.remove(&self.names.next()) {
            log::debug!("the prepared segment stays: {error}");
        }
        self.unless_failed(|wal| {
            let end = wal.mark(Kind::Closed)?;
            wal.segment.sync()?;
            // On a full disk the zeros stay, as room for deletes after the next start.
            if wal.health.room() == Room::Enough { wal.segment.cut(end) } else { Ok(()) }
        })
    }

    pub(super) fn unless_failed<T>(
        &mut self,
        act: impl FnOnce(&mut Wal) -> io::Result<T>,
    ) -> Result<T, Failure> {
        if let Some(failure) = self.health.failure() {
            return Err(failure.clone());
        }
        let done = act(self);
        if let Some(watch) = &self.watch {
            watch.note_durable(self.durable_lsn);
        }
        done.map_err(|error| self.health.fail(&error.to_string()))
    }

    fn try_commit(&mut self) -> io::Result<Committed> {
        let started = Instant::now();
        let (records, bytes) = (self.frame.records(), self.frame.len());
        let before = self.segment.tail().end;
        self.segment.append(&mut self.frame, self.durable_lsn, self.options.sync)?;
        let tail = self.segment.tail();
        self.total_bytes += tail.end - before;
        if let Some(preparer) = &self.preparer {
            preparer.note_used(tail.end, self.segment.file_bytes());
        }

        self.marked = false;
        if self.options.sync == SyncPolicy::Always {
            self.durable_lsn = tail.next_lsn - 1;
        }
        let elapsed = started.elapsed();
        if elapsed > SLOW_COMMIT {
            log::warn!("slow disk: a commit took {:.1} s", elapsed.as_secs_f64());
        }
        Ok(Committed { records, bytes, elapsed })
    }

    /// Writes a mark and returns where it ends.
    fn mark(&mut self, kind: Kind) -> io::Result<u64> {
        assert!(!self.has_unsynced(), "a mark says that all before it is durable");
        let end = self.segment.mark(kind)?;
        self.marked = true;
        Ok(end)
    }
}
