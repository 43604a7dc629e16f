//! Reads the frames of one file, in order, through a window of memory that is only as large as the
//! largest frame: for a start, for a snapshot and for the tools.
//!
//! [`Reader`] decides what is a frame, [`read_batches`] whether it follows: if not, it is damage.
//! Recovery decides what it means if there is no frame.

use std::io;
use std::path::Path;

use anyhow::{anyhow, bail};

use super::block::{BLOCK_BYTES, BlockBuffer};
use super::chain::{NotNext, Tail};
use super::damage::Damage;
use super::disk::DiskFile;
use super::frame::{
    FRAME_HEADER_BYTES, FrameHeader, Kind, MAGIC, NotAFrame, NotAHeader, SNAPSHOT_MAGIC,
    SegmentHeader, VERSION, payload_checksum,
};

/// One read from the disk: large enough that its latency does not matter.
const WINDOW_BYTES: usize = 1 << 20;

/// A frame whose checksums match.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// All of it as it is in the file, without the padding.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Its records, as they were given to the log.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES..]
    }
}

/// A batch read from the log.
pub struct Replayed<'a> {
    /// Whether it is in a snapshot, where records are counted from 1.
    pub is_snapshot: bool,
    /// The file it is in.
    pub path: &'a Path,
    /// The header of that file.
    pub segment: &'a SegmentHeader,
    /// The offset of its frame in the file.
    pub offset: u64,
    /// The batch itself.
    pub frame: Frame<'a>,
}

impl Replayed<'_> {
    /// LSN of its first record.
    pub fn first_lsn(&self) -> u64 {
        self.frame.header.first_lsn
    }

    /// How many records it holds.
    pub fn records(&self) -> u32 {
        self.frame.header.records
    }
}

/// Takes the batches of a log in order. An error that is no [`Damage`] means that the payload of the
/// batch is not made of records, and is reported as damage there.
pub trait Replay {
    /// The next batch.
    fn batch(&mut self, batch: Replayed<'_>) -> anyhow::Result<()>;

    /// Called after the last batch, when nothing has been changed yet. If this fails, nothing is.
    fn end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(Replayed<'_>) -> anyhow::Result<()>> Replay for F {
    fn batch(&mut self, batch: Replayed<'_>) -> anyhow::Result<()> {
        self(batch)
    }
}

/// Which kind of file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One that holds records in the order of the log.
    Segment,
    /// One that replaces the records before a segment.
    Snapshot,
}

/// Reads the header of a file. `lsn` is the first record that is missing if that fails.
pub fn read_header(
    path: &Path,
    file: &dyn DiskFile,
    source: Source,
    lsn: u64,
) -> anyhow::Result<SegmentHeader> {
    let (magic, kind) = match source {
        Source::Segment => (MAGIC, "log"),
        Source::Snapshot => (SNAPSHOT_MAGIC, "snapshot"),
    };
    let mut reader = Reader::new(file, 0)?;
    let header = SegmentHeader::decode(magic, reader.bytes(0, BLOCK_BYTES)?);
    header.map_err(|why| {
        let what = match (source, why) {
            (_, NotAHeader::Newer(version)) => {
                return anyhow!(
                    "{}: this {kind} has format version {version} (at offset 16), and this program reads \
                     versions up to {VERSION}. Nothing was changed. Use the newer program",
                    path.display()
                );
            }
            (Source::Segment, NotAHeader::Foreign) => "this is no segment of a log",
            (Source::Segment, NotAHeader::Damaged) => "the segment's header is wrong",
            (Source::Snapshot, _) => "the snapshot's header is wrong",
        };
        Damage::at(path, 0, lsn, what).into()
    })
}

/// Hands on the batches that follow `tail`, and advances it past each of them. Returns the mark
/// after them, or why there is no frame. A frame that does not follow is damage.
pub fn read_batches(
    reader: &mut Reader<'_>,
    path: &Path,
    source: Source,
    tail: &mut Tail,
    replay: &mut dyn Replay,
) -> anyhow::Result<Result<FrameHeader, NotAFrame>> {
    loop {
        let (offset, lsn) = (tail.end, tail.next_lsn);
        let frame = match reader.frame_at(offset)? {
            Ok(frame) => frame,
            Err(why) if why.may_be_torn() => return Ok(Err(why)),
            Err(why) => {
                let what = format!("the frame here is whole, but not of this format: {why:?}");
                bail!(Damage::at(path, offset, lsn, what));
            }
        };
        let header = frame.header;
        tail.check(&header).map_err(|why| {
            let what = match (source, why) {
                (Source::Segment, NotNext::Lsn) => {
                    format!("the batch here begins with LSN {}", header.first_lsn)
                }
                (Source::Segment, NotNext::Checksum) => {
                    "the batch here does not follow the one before it".to_owned()
                }
                (Source::Snapshot, _) => {
                    "the frame here does not follow the one before it".to_owned()
                }
            };
            Damage::at(path, offset, lsn, what)
        })?;
        if header.kind != Kind::Batch {
            return Ok(Ok(header));
        }
        let (is_snapshot, segment) = (source == Source::Snapshot, &tail.header);
        replay.batch(Replayed { is_snapshot, path, segment, offset, frame }).map_err(|error| {
            Damage::at(path, offset, lsn, Damage::NOT_AS_WRITTEN).in_batch(error)
        })?;
        tail.follow(&header);
    }
}

/// A frame header that stands after something else, and where; see [`Reader::header_after`].
pub type Later = (u64, Result<FrameHeader, NotAFrame>);

/// A segment being read.
pub struct Reader<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    epoch: u64,
    window: BlockBuffer,
    window_start: u64,
}

impl<'a> Reader<'a> {
    /// Reads a file whose frames have checksums of `epoch`.
    pub fn new(file: &'a dyn DiskFile, epoch: u64) -> io::Result<Reader<'a>> {
        let len = file.len()?;
        Ok(Reader { file, len, epoch, window: BlockBuffer::default(), window_start: 0 })
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.len
    }

    /// The frame at `offset`, a block boundary, or why there is none.
    pub fn frame_at(&mut self, offset: u64) -> io::Result<Result<Frame<'_>, NotAFrame>> {
        debug_assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "no frame begins within a block");
        let epoch = self.epoch;
        let header = match FrameHeader::decode(epoch, self.bytes(offset, FRAME_HEADER_BYTES)?) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why)),
        };
        // The header's checksum matches, so its length was written by us; the file may still be
        // shorter. No memory is taken for more than there is.
        let left = self.len.saturating_sub(offset);
        let frame_bytes = (FRAME_HEADER_BYTES as u64).checked_add(header.payload_bytes);
        let Some(frame_bytes) = frame_bytes.filter(|bytes| *bytes <= left) else {
            return Ok(Err(NotAFrame::NoPayload));
        };
        let frame = Frame { header, bytes: self.bytes(offset, frame_bytes as usize)? };
        let sum = payload_checksum(epoch, header.first_lsn, frame.payload());
        Ok(if sum == header.payload_checksum { Ok(frame) } else { Err(NotAFrame::NoPayload) })
    }

    /// The offset of the first frame header after `offset`, and the header; an error if it is whole, but of a
    /// kind that is not known here. Its payload is not checked.
    pub fn header_after(&mut self, offset: u64) -> io::Result<Option<Later>> {
        let mut at = offset + BLOCK_BYTES as u64;
        while at < self.len {
            let epoch = self.epoch;
            let bytes = self.bytes(at, FRAME_HEADER_BYTES)?;
            match FrameHeader::decode(epoch, bytes) {
                Err(why) if why.may_be_torn() => {}
                header => return Ok(Some((at, header))),
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(None)
    }

    /// The first block boundary at or after `offset` from which there are only zeros to the end of
    /// the file.
    pub fn content_end(&mut self, offset: u64) -> io::Result<u64> {
        let mut end = offset;
        let mut at = offset;
        while at < self.len {
            let block = self.bytes(at, BLOCK_BYTES)?;
            if block.iter().any(|&byte| byte != 0) {
                end = at + BLOCK_BYTES as u64;
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(end)
    }

    /// `count` bytes from `offset`, fewer at the end of the file.
    pub fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let left = self.len.saturating_sub(offset);
        let count = left.min(count as u64) as usize;
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + count as u64 > window_end {
            let wanted = left.min(count.max(WINDOW_BYTES) as u64) as usize;
            let blocks = wanted.div_ceil(BLOCK_BYTES);
            let filled = self.file.read_at(self.window.room(blocks), offset)?;
            if filled < wanted {
                // A running server cuts a full segment to its content while a tool reads it. Any
                // other end that comes too soon is an error, and not the end of the log.
                self.len = self.file.len()?;
                if offset + (filled as u64) < self.len {
                    let what = "there are fewer bytes to read than the file has";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                }
            }
            self.window.resize(filled);
            self.window_start = offset;
        }
        let bytes = &self.window.as_bytes()[(offset - self.window_start) as usize..];
        Ok(&bytes[..count.min(bytes.len())])
    }
}
