//! From one segment to the next, between two batches.
//!
//! Promise 4 holds here at every line; what a crash leaves is said at each.

use std::io;

use super::frame::{FIRST_FRAME, SegmentHeader};
use super::preparer::Preparer;
use super::segment::Segment;
use super::{Failure, Options, Wal, random};

const SEGMENT_GROWTH: u64 = 4;

impl Wal {
    /// Begins a new segment, so that a snapshot can take the place of all before it, and returns its
    /// header. `None` if it would have to wait for the segment to be prepared. Where that cannot be
    /// prepared this is an error, and writing goes on.
    pub fn seal(&mut self) -> Result<Option<SegmentHeader>, Failure> {
        let is_empty = self.segment.end() == FIRST_FRAME;
        let ready = match &self.preparer {
            Some(preparer) if !is_empty => preparer.is_ready(),
            _ => Ok(is_empty),
        };
        if !ready.map_err(|why| Failure(why.into()))? {
            return Ok(None);
        }
        self.unless_failed(|wal| {
            if !is_empty && let Some(preparer) = wal.preparer.take() {
                let rotated = wal.rotate(&preparer);
                wal.preparer = Some(preparer);
                rotated?;
            }
            Ok(Some(*wal.segment.header()))
        })
    }

    /// The header of the segment that is being written.
    pub fn running(&self) -> &SegmentHeader {
        self.segment.header()
    }

    /// Bytes of batches in it.
    pub fn running_bytes(&self) -> u64 {
        self.segment.end() - FIRST_FRAME
    }

    /// Goes on in the prepared segment. A crash at any line leaves a log that starts by itself:
    /// before the first rename the prepared file counts for nothing, between the two it is
    /// recognised by its header. The directory is synced after each, because without a journal
    /// the second rename could reach the disk alone, and take the old segment's only name.
    pub(super) fn rotate(&mut self, preparer: &Preparer) -> io::Result<()> {
        self.finish_sync()?;
        self.segment.sync()?;
        self.durable_lsn = self.next_lsn - 1;
        let old = *self.segment.header();
        let header = SegmentHeader {
            store_id: old.store_id,
            sequence: old.sequence + 1,
            epoch: random()?,
            first_lsn: self.next_lsn,
            previous_epoch: old.epoch,
            previous_checksum: self.segment.last_checksum(),
            file_bytes: 0,
            hash_key: None,
        };
        let next = Segment::begin(preparer.take()?, header)?;
        let archived = self.names.archived(old.sequence);
        self.disk.rename(self.names.active(), &archived)?;
        self.disk.sync_directory(self.names.directory())?;
        self.disk.rename(&self.names.next(), self.names.active())?;
        self.disk.sync_directory(self.names.directory())?;

        let full = std::mem::replace(&mut self.segment, next);
        // Its lock ends here; from now on the mark says that it is not the last one.
        let content = full.seal(self.next_lsn).unwrap_or_else(|error| {
            log::warn!("{}: has no mark that another segment follows: {error}", archived.display());
            full.end()
        });
        preparer.next(self.next_segment_bytes(), (archived, content));
        Ok(())
    }

    pub(super) fn next_segment_bytes(&self) -> u64 {
        let Options { first_segment_bytes: first, largest_segment_bytes: largest, .. } =
            self.options;
        self.segment.file_bytes().saturating_mul(SEGMENT_GROWTH).clamp(first, largest.max(first))
    }
}
