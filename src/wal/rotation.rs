//! From one segment to the next, between two batches.
//!
//! Promise 4 holds here at every line; `Wal::rotate` says what a crash leaves.

use std::io;
use std::sync::Arc;

use super::block::BLOCK_BYTES;
use super::disk::DiskFile;
use super::frame::{FIRST_FRAME, SegmentHeader};
use super::options::Options;
use super::preparer::Preparer;
use super::segment::Segment;
use super::{Refused, Wal};

const SEGMENT_GROWTH: u64 = 4;

impl Wal {
    /// Begins a new segment, so that a snapshot can replace all before it, and returns its header.
    /// `None` if this would have to wait for the segment to be prepared. If none can be prepared,
    /// this is refused, and writing goes on.
    pub fn seal(&mut self) -> Result<Option<SegmentHeader>, Refused> {
        if self.segment.tail().end != FIRST_FRAME
            && let Some(preparer) = self.preparer.take()
        {
            let sealed = match preparer.try_take() {
                Ok(Some(file)) => {
                    let rotated = self.unless_failed(|wal| {
                        wal.finish_segment()?;
                        wal.rotate(file, &preparer)
                    });
                    rotated.map_err(Refused::Closed).and_then(|rotated| rotated.map(|()| true))
                }
                Ok(None) => Ok(false),
                Err(why) => Err(Refused::NoRoom(why)),
            };
            self.preparer = Some(preparer);
            if !sealed? {
                return Ok(None);
            }
        }
        self.unless_failed(|wal| Ok(Some(wal.segment.tail().header))).map_err(Refused::Closed)
    }

    /// Makes sure that the batch being built has room, before a byte of it is written. If there is
    /// none, the log stays open, and as it was. If no other segment can follow, a batch that
    /// `grows` the data leaves the end of this one to removals.
    pub(super) fn make_room(&mut self, grows: bool) -> Result<(), Refused> {
        if let Some(failure) = self.failure() {
            return Err(failure.clone().into());
        }
        let bytes = self.frame.len();
        let tail = self.options.tail_bytes(self.segment.file_bytes());
        if self.segment.has_room(bytes + tail) {
            return Ok(());
        }
        if let Some(preparer) = self.preparer.take() {
            let made = self.move_on(&preparer, bytes, grows);
            self.preparer = Some(preparer);
            made?;
        }
        if self.segment.has_room(bytes) {
            return Ok(());
        }
        self.make_larger(bytes)
    }

    /// Goes on in the next segment, unless this one will do.
    fn move_on(&mut self, preparer: &Preparer, bytes: u64, grows: bool) -> Result<(), Refused> {
        let may_stay = self.segment.has_room(bytes) || self.segment.tail().end == FIRST_FRAME;
        if grows {
            preparer.expect().map_err(Refused::NoRoom)?;
        }
        if may_stay {
            return Ok(());
        }
        // The next segment may still be in the making meanwhile.
        self.unless_failed(Wal::finish_segment)?;
        if FIRST_FRAME + bytes > preparer.next_bytes().map_err(Refused::NoRoom)? {
            self.check_larger(self.larger_by(bytes))?;
        }
        let file = preparer.take().map_err(Refused::NoRoom)?;
        self.unless_failed(|wal| wal.rotate(file, preparer))?
    }

    /// Makes the empty active segment larger, for a batch that is larger than a segment.
    fn make_larger(&mut self, bytes: u64) -> Result<(), Refused> {
        let bytes = self.larger_by(bytes);
        self.check_larger(bytes)?;
        self.segment.grow(bytes).map_err(|error| self.too_large(error.to_string()))?;
        Ok(self.unless_failed(|wal| wal.segment.sync())?)
    }

    /// How much room is made for such a batch.
    fn larger_by(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(BLOCK_BYTES as u64)
            + self.options.tail_bytes(self.options.largest_segment_bytes)
    }

    /// Fails if there is no such room: asked before a segment is begun for it.
    fn check_larger(&mut self, bytes: u64) -> Result<(), Refused> {
        match self.reserve.spendable(&*self.disk, &self.names) {
            Ok((free, _)) if bytes <= free => Ok(()),
            Ok((free, kept)) => {
                let path = self.names.active().display();
                Err(self.too_large(format!(
                    "{path}: {bytes} bytes are needed, and {free} are free beside {kept} for a snapshot"
                )))
            }
            Err(error) => Err(self.too_large(error.to_string())),
        }
    }

    /// Smaller batches may have room, so the log counts as short of it, not full, until one that
    /// adds data has been committed.
    fn too_large(&mut self, why: String) -> Refused {
        let why = Arc::from(why);
        self.health.is_short(&why);
        self.refused_large = true;
        Refused::NoRoom(why)
    }

    /// The header of the segment that is being written.
    pub fn active(&self) -> &SegmentHeader {
        &self.segment.tail().header
    }

    /// Bytes of batches in it.
    pub fn active_bytes(&self) -> u64 {
        self.segment.tail().end - FIRST_FRAME
    }

    /// Goes on in the prepared segment. A crash at any line leaves a log that starts by itself:
    /// before the first rename the prepared file counts for nothing, between the two it is
    /// recognised by its header. The directory is synced after each, because without a journal the
    /// second rename could reach the disk alone, and take the old segment's only name. If the
    /// directory has no space for the first new name, nothing has changed, and the log goes on.
    fn rotate(
        &mut self,
        next: Box<dyn DiskFile>,
        preparer: &Preparer,
    ) -> io::Result<Result<(), Refused>> {
        let old = *self.segment.tail();
        assert_eq!(
            self.durable_lsn + 1,
            old.next_lsn,
            "a segment is durable before the next begins"
        );
        let next = Segment::begin(next, old.following()?)?;
        let archived = self.names.archived(old.header.sequence);
        match self.disk.rename(self.names.active(), &archived) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let why = Arc::from(error.to_string());
                self.health.is_full(&why);
                // The prepared file has a header by now, so another is made.
                drop(next);
                preparer.again(self.next_segment_bytes());
                return Ok(Err(Refused::NoRoom(why)));
            }
            renamed => renamed?,
        }
        self.disk.sync_directory(self.names.directory())?;
        self.disk.rename(&self.names.next(), self.names.active())?;
        self.disk.sync_directory(self.names.directory())?;

        assert_eq!(next.tail().next_lsn, old.next_lsn, "no LSN is left out between two segments");
        let full = std::mem::replace(&mut self.segment, next);
        // The old segment's lock ends here; from now on its mark says that it is not the last one.
        let content = full.mark_followed().unwrap_or_else(|error| {
            log::warn!("{}: has no mark that another segment follows: {error}", archived.display());
            old.end
        });
        preparer.next(self.next_segment_bytes(), (archived, content));
        Ok(Ok(()))
    }

    /// Makes all of the active segment durable, as has to be done before a rotation.
    fn finish_segment(&mut self) -> io::Result<()> {
        self.finish_sync()?;
        self.segment.sync()?;
        self.durable_lsn = self.segment.tail().next_lsn - 1;
        Ok(())
    }

    pub(super) fn next_segment_bytes(&self) -> u64 {
        let Options { first_segment_bytes: first, largest_segment_bytes: largest, .. } =
            self.options;
        self.segment.file_bytes().saturating_mul(SEGMENT_GROWTH).clamp(first, largest.max(first))
    }
}
