//! A log in files that is being written as a copy of another: file by file, each durable before it gets its name.
//!
//! Batches of files are copied as they are. Those from elsewhere are framed anew ([`Anew`]): a file has an epoch of its own,
//! which is in every checksum. The file at the copy's own path gets its name last (promise 4).

use std::path::PathBuf;

use anyhow::Context;

use crate::wal::LARGEST_SEGMENT_BYTES;
use crate::wal::block::{BLOCK_BYTES, BlockBuffer, bytes_of};
use crate::wal::chain::{Frame, Tail, anew, closing_mark, random};
use crate::wal::disk::{Access, Disk, DiskFile};
use crate::wal::frame::{FrameHeader, Kind, MAGIC, SNAPSHOT_MAGIC, SegmentHeader};
use crate::wal::guard::witness::{Known, Witness};
use crate::wal::names::Names;
use crate::wal::reader::Replayed;

/// Bytes that are written to the copy at a time: large enough to be quick.
const WRITE_BYTES: usize = 1 << 20;

/// A copy that is being written.
pub struct Copying<'a> {
    disk: &'a dyn Disk,
    names: Names,
    file: Option<FileCopy>,
}

/// One file of the copy. `buffer` holds what was added and not yet written, in whole blocks.
pub struct FileCopy {
    /// Where the copy ends.
    tail: Tail,
    is_snapshot: bool,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    written: u64,
    buffer: BlockBuffer,
}

impl<'a> Copying<'a> {
    /// Nothing yet of a log with these names.
    pub fn new(disk: &'a dyn Disk, names: &Names) -> Copying<'a> {
        Copying { disk, names: names.clone(), file: None }
    }

    /// Adds a batch of a log in files as it is.
    pub fn add(&mut self, batch: &Replayed<'_>) -> anyhow::Result<()> {
        let file = self.enter(batch.segment, batch.is_snapshot)?;
        file.push(batch.frame.bytes, &batch.frame.header)
    }

    /// The copy of the file with this header. If that is the next file, the one before it is completed first.
    pub fn enter(
        &mut self,
        header: &SegmentHeader,
        is_snapshot: bool,
    ) -> anyhow::Result<&mut FileCopy> {
        if self.file.as_ref().is_none_or(|file| file.tail.header.epoch != header.epoch) {
            self.end_file(false)?;
            self.file = Some(FileCopy::begin(self.disk, &self.names, header, is_snapshot)?);
        }
        self.file.as_mut().context("a file was just begun")
    }

    /// Makes a file durable, and only then gives it its name. A snapshot and the last segment end with
    /// a closing mark.
    fn end_file(&mut self, is_last: bool) -> anyhow::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        if file.is_snapshot || is_last {
            file.buffer.extend_from_slice(closing_mark(&file.tail).1.as_bytes());
            file.end_block();
        }
        file.write()?;
        file.file.sync()?;
        let header = &file.tail.header;
        let name = match (file.is_snapshot, is_last) {
            (true, _) => self.names.snapshot(header.first_lsn - 1),
            (false, true) => self.names.active().to_owned(),
            (false, false) => self.names.archived(header.sequence),
        };
        if is_last {
            let known = Known { store_id: header.store_id, lsn: file.tail.next_lsn - 1 };
            Witness::open(self.disk, &self.names, known)?;
        }
        self.disk.rename(&file.path, &name)?;
        self.disk.sync_directory(self.names.directory())?;
        Ok(())
    }

    /// Ends the copy as an ordered stop would, in the segment with this header.
    pub fn finish(mut self, last: &SegmentHeader) -> anyhow::Result<()> {
        self.enter(last, false)?;
        self.end_file(true)
    }
}

impl FileCopy {
    fn begin(
        disk: &dyn Disk,
        names: &Names,
        header: &SegmentHeader,
        is_snapshot: bool,
    ) -> anyhow::Result<FileCopy> {
        let path = names.copying();
        let file = disk.create(&path, Access::Buffered)?;
        let (magic, tail) = match is_snapshot {
            true => (SNAPSHOT_MAGIC, Tail::of_snapshot(*header)),
            false => (MAGIC, Tail::of_segment(*header)),
        };
        let mut buffer = BlockBuffer::default();
        buffer.extend_from_slice(&header.encode(magic));
        Ok(FileCopy { tail, is_snapshot, path, file, written: 0, buffer })
    }

    /// Adds a frame without its padding.
    fn push(&mut self, frame: &[u8], header: &FrameHeader) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(frame);
        self.end_block();
        self.tail.follow(header);
        assert_eq!(self.written + self.buffer.len() as u64, self.tail.end, "the copy is the chain");
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Fills the current block up with zeros.
    fn end_block(&mut self) {
        let missing = self.buffer.len().next_multiple_of(BLOCK_BYTES) - self.buffer.len();
        self.buffer.extend_from_slice(&[0; BLOCK_BYTES][..missing]);
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.file.write_at(self.buffer.padded(), self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear(WRITE_BYTES);
        Ok(())
    }
}

/// A copy of batches that are in no file, with the LSNs that they have.
///
/// - `segment` is the header of the segment that is written, or that follows the snapshot.
pub struct Anew<'a> {
    copying: Copying<'a>,
    snapshot: Option<SegmentHeader>,
    segment: SegmentHeader,
}

impl<'a> Anew<'a> {
    /// Begins a log of its own, with a snapshot of everything up to the LSN `covered`.
    pub fn begin(mut copying: Copying<'a>, covered: Option<u64>) -> anyhow::Result<Anew<'a>> {
        let mut segment = anew(None)?;
        let mut snapshot = None;
        if let Some(lsn) = covered {
            segment.first_lsn = lsn + 1;
            let header = SegmentHeader { epoch: random()?, ..segment };
            copying.enter(&header, true)?;
            snapshot = Some(header);
        }
        Ok(Anew { copying, snapshot, segment })
    }

    /// Adds a batch: first those of the snapshot, then the others.
    pub fn add(&mut self, batch: &Replayed<'_>) -> anyhow::Result<()> {
        let header = match batch.is_snapshot {
            true => self.snapshot.context("a snapshot was not begun")?,
            false => self.segment,
        };
        let file = self.copying.enter(&header, batch.is_snapshot)?;
        let mut frame = Frame::default();
        frame.push_all(batch.records(), batch.frame.payload());
        let file_bytes = file.tail.end + frame.len().next_multiple_of(BLOCK_BYTES as u64);
        let durable = if batch.is_snapshot { 0 } else { file.tail.next_lsn - 1 };
        let length = frame.len() as usize;
        let (header, blocks) = frame.complete(&file.tail, Kind::Batch, durable, file_bytes);
        file.push(&bytes_of(blocks)[..length], &header)?;
        if !batch.is_snapshot && file.tail.end >= LARGEST_SEGMENT_BYTES {
            self.segment = file.tail.following()?;
        }
        Ok(())
    }

    /// Ends the copy as an ordered stop would.
    pub fn finish(self) -> anyhow::Result<()> {
        self.copying.finish(&self.segment)
    }
}
