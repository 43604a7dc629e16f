//! One file of the log: how it is made, how frames are put into it.
//!
//! A segment is filled with zeros and synced before its first frame, so that a commit overwrites
//! blocks that exist and touches no metadata: one write and one flush. (Growing a file, or first
//! touching a block of one that was only reserved, makes ext4 commit its journal too: three writes
//! and two flushes.) A block of a durable batch is never written again.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::block::{BLOCK_BYTES, Block, BlockBuffer};
use super::chain::{Frame, Tail};
use super::disk::{Access, Disk, DiskFile};
use super::frame::{FIRST_FRAME, Kind, MAGIC, SegmentHeader};
use super::lock;
use super::options::SyncPolicy;

/// Blocks of zeros written at a time if no commit uses the disk meanwhile, or if the zeros are
/// needed soon: large enough to be quick.
pub const LARGE_PIECE: usize = 64;

/// Blocks of zeros written at a time beside commits: the most that a commit's flush has to wait for.
pub const SMALL_PIECE: usize = 16;

static ZEROS: [Block; LARGE_PIECE] = [Block::ZERO; LARGE_PIECE];

/// A segment open for writing.
///
/// - Everything before the end of `tail` is frames; from there to `len` there are zeros, or one mark that
///   the next batch replaces.
/// - `len` is at least that end.
pub struct Segment {
    file: Arc<dyn DiskFile>,
    tail: Tail,
    len: u64,
}

impl Segment {
    /// Creates a file of `len` zeros, written in pieces as large as `pace` says, and makes them
    /// durable. It becomes a segment by [`Segment::begin`].
    pub fn prepare(
        disk: &dyn Disk,
        path: &Path,
        access: Access,
        len: u64,
        pace: &mut dyn FnMut(u64) -> usize,
    ) -> io::Result<Box<dyn DiskFile>> {
        let file = disk.create(path, access)?;
        // Before it can become the active segment, so that this is never without a lock.
        lock_segment(&*file, path)?;
        // So a lack of room is known before anything is written.
        file.allocate(0, len)?;
        fill_with_zeros(&*file, 0, len, pace)?;
        file.sync()?;
        Ok(file)
    }

    /// Makes a prepared file a segment by writing its header, durably. The header's length of the
    /// file is filled in.
    pub fn begin(file: Box<dyn DiskFile>, header: SegmentHeader) -> io::Result<Segment> {
        let len = file.len()?;
        let header = SegmentHeader { file_bytes: len, ..header };
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&header.encode(MAGIC));
        file.write_synced_at(block.padded(), 0)?;
        Ok(Segment::new(file, Tail::of_segment(header), len))
    }

    /// Goes on with a segment that recovery has read up to `tail`, and that is filled up to `filled`.
    pub fn resume(file: Box<dyn DiskFile>, tail: Tail, filled: u64) -> Segment {
        Segment::new(file, tail, filled.next_multiple_of(BLOCK_BYTES as u64))
    }

    fn new(file: Box<dyn DiskFile>, tail: Tail, len: u64) -> Segment {
        let segment = Segment { file: file.into(), tail, len };
        segment.check();
        segment
    }

    fn check(&self) {
        assert!(self.tail.end >= FIRST_FRAME, "a segment begins with its header");
        assert!(self.tail.end <= self.len, "the frames of a segment are within its file");
    }

    /// Makes room up to `len`, if there is less because an ordered stop has cut the file. Blocks
    /// filled with zeros are written to without a journal. If there is no space for that, the
    /// segment keeps the room that it has: a start must not fail for lack of space, and what is
    /// there can be read.
    ///
    /// The next batch overwrites the mark of that stop. If it is torn, the batch before it is the
    /// last, and recovery checks the file's length against the `file_bytes` of that one. So the
    /// file gets its length back, without a write: the part after `len` is a hole, and no batch
    /// goes there. (After a crash the hole may be taken for filled. Then the next start allocates
    /// it, which costs a journal commit for each of its blocks.)
    pub fn fill_up(&mut self, len: u64, file_bytes: u64) -> io::Result<()> {
        let before = self.file.len()?;
        if let Err(error) = self.try_fill(len) {
            log::warn!("there is no space to make more room in the log: {error}");
        }
        let needed = before.max(file_bytes).max(self.len);
        let is_changed = self.file.len()? != needed;
        if is_changed {
            self.file.set_len(needed)?;
        }
        if is_changed || needed != before {
            self.file.sync()?;
        }
        Ok(())
    }

    fn try_fill(&mut self, len: u64) -> io::Result<()> {
        let filled = std::mem::replace(&mut self.len, self.tail.end);
        if filled > self.tail.end {
            self.file.allocate(self.tail.end, filled - self.tail.end)?;
            self.len = filled;
        }
        if filled < len {
            self.file.allocate(filled, len - filled)?;
            fill_with_zeros(&*self.file, filled, len, &mut |_| LARGE_PIECE)?;
            self.len = len;
        }
        Ok(())
    }

    /// Its file, to be synced on another thread.
    pub fn file(&self) -> Arc<dyn DiskFile> {
        self.file.clone()
    }

    /// Where its frames end.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The length of its filled part: frames, and the zeros after them.
    pub fn file_bytes(&self) -> u64 {
        self.len
    }

    /// Whether a frame of this size fits into the filled part.
    pub fn has_room(&self, frame_bytes: u64) -> bool {
        self.tail.end + frame_bytes <= self.len
    }

    /// Makes room for `bytes` more: a batch larger than a segment makes its file grow, the one commit that
    /// pays for a journal. No byte of the log is written, and after an error the file is as it was. Only
    /// after a sync may the new length be relied on.
    pub fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.allocate(bytes)?;
        self.len = self.len.max(self.tail.end + bytes);
        Ok(())
    }

    /// Allocates space for a mark alone: batches go on to the next segment, as if the file had not
    /// grown.
    pub fn allocate(&self, bytes: u64) -> io::Result<()> {
        let before = self.file.len()?;
        self.file.allocate(self.tail.end, bytes).inspect_err(|_| {
            // A file that stays longer does no harm.
            let _ = self.file.set_len(before);
        })
    }

    /// Writes `frame` as the next batch. After an error the content of the file is unknown, and the segment
    /// must not be written again.
    pub fn append(
        &mut self,
        frame: &mut Frame,
        durable_lsn: u64,
        sync: SyncPolicy,
    ) -> io::Result<()> {
        let file_bytes = self.len.max(self.tail.end + frame.len());
        let (header, blocks) = frame.complete(&self.tail, Kind::Batch, durable_lsn, file_bytes);
        match sync {
            SyncPolicy::Always => self.file.write_synced_at(blocks, self.tail.end)?,
            SyncPolicy::Later => self.file.write_at(blocks, self.tail.end)?,
        }
        self.tail.follow(&header);
        self.len = self.len.max(self.tail.end);
        self.check();
        Ok(())
    }

    /// Writes a mark where the next batch will stand, and returns where it ends. Nothing that was
    /// acknowledged is in it, so it may be lost, and overwritten.
    pub fn mark(&self, kind: Kind) -> io::Result<u64> {
        self.write_mark(&mut Frame::default(), kind)
    }

    /// Marks after the last batch that another segment follows. It is written without a sync, once
    /// that other one has its name. So a start on this file alone, under whatever name, is refused.
    pub fn mark_followed(&self) -> io::Result<u64> {
        self.write_mark(&mut Frame::of_followed_segment(), Kind::Idle)
    }

    /// Writes a mark; everything before it must be durable.
    fn write_mark(&self, frame: &mut Frame, kind: Kind) -> io::Result<u64> {
        let (header, blocks) = frame.complete(&self.tail, kind, self.tail.next_lsn - 1, self.len);
        self.file.write_at(blocks, self.tail.end)?;
        Ok(self.tail.end + header.frame_bytes())
    }

    /// Makes everything in it durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Cuts off the zeros after the mark that ends at `end`.
    pub fn cut(&self, end: u64) -> io::Result<()> {
        assert!(end > self.tail.end, "a batch would be cut off");
        self.file.set_len(end)?;
        self.file.sync()
    }
}

/// Locks a segment that is to be written, until its file is closed.
pub fn lock_segment(file: &dyn DiskFile, path: &Path) -> io::Result<()> {
    if lock::insist(|| file.try_lock())? {
        return Ok(());
    }
    let what = format!(
        "{}: the log is in use by another process, which has it under another name, or whose lock file was \
         deleted; stop it first, or name another log",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::WouldBlock, what))
}

/// Writes zeros from `start` to `end`, both block boundaries. `pace` is given the offset of each
/// piece before it is written, may wait, and returns how many blocks the piece is to have, up to
/// [`LARGE_PIECE`]; 0 gives up.
pub fn fill_with_zeros(
    file: &dyn DiskFile,
    start: u64,
    end: u64,
    pace: &mut dyn FnMut(u64) -> usize,
) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let blocks = pace(at).min((end - at).div_ceil(BLOCK_BYTES as u64) as usize);
        if blocks == 0 {
            return Err(io::Error::new(
                ErrorKind::Interrupted,
                "the zeros are not needed any more",
            ));
        }
        file.write_at(&ZEROS[..blocks], at)?;
        at += (blocks * BLOCK_BYTES) as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_are_not_needed_any_more_are_not_written_to_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("segment");
        let pieces = std::cell::Cell::new(0);
        let mut pace = |_| {
            pieces.set(pieces.get() + 1);
            if pieces.get() <= 3 { SMALL_PIECE } else { 0 }
        };
        let disk = super::super::disk::SystemDisk;
        let prepared = Segment::prepare(&disk, &path, Access::Buffered, 64 << 20, &mut pace);
        assert_eq!(prepared.err().map(|error| error.kind()), Some(ErrorKind::Interrupted));
        assert_eq!(pieces.get(), 4, "nothing is asked for after the end");
    }
}
