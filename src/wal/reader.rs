//! Reads the frames of one segment, in order, through a window of memory that is only as large
//! as the largest frame.
//!
//! It decides what is a frame and what is not; what it means where there is none is recovery's
//! to say.

use std::io;

use super::block::{BLOCK_BYTES, BlockBuffer};
use super::disk::DiskFile;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, payload_checksum};

/// One read from the disk: large enough that its latency does not matter.
const WINDOW_BYTES: usize = 1 << 20;

/// A frame, or why there is none.
#[derive(Debug)]
pub enum Found<'a> {
    /// A frame whose checksums fit, and its payload.
    Frame(FrameHeader, &'a [u8]),
    /// There is no frame header.
    Nothing,
    /// There is a header, but what follows is not its payload.
    BadPayload,
}

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

    /// What stands at `offset`, a block boundary.
    pub fn frame_at(&mut self, offset: u64) -> io::Result<Found<'_>> {
        let epoch = self.epoch;
        let Some(header) = FrameHeader::decode(epoch, self.bytes(offset, FRAME_HEADER_BYTES)?)
        else {
            return Ok(Found::Nothing);
        };
        // The header's checksum fits, so its length was written by us; the file may still be
        // shorter. No memory is taken for more than there is.
        let left = self.len.saturating_sub(offset);
        let frame_bytes = (FRAME_HEADER_BYTES as u64).checked_add(header.payload_bytes);
        let Some(frame_bytes) = frame_bytes.filter(|bytes| *bytes <= left) else {
            return Ok(Found::BadPayload);
        };
        let payload = &self.bytes(offset, frame_bytes as usize)?[FRAME_HEADER_BYTES..];
        match payload_checksum(epoch, header.first_lsn, payload) == header.payload_checksum {
            true => Ok(Found::Frame(header, payload)),
            false => Ok(Found::BadPayload),
        }
    }

    /// The first frame header behind `offset`, whatever its payload is like, and where it stands.
    pub fn header_behind(&mut self, offset: u64) -> io::Result<Option<(u64, FrameHeader)>> {
        let mut at = offset + BLOCK_BYTES as u64;
        while at < self.len {
            let epoch = self.epoch;
            let bytes = self.bytes(at, FRAME_HEADER_BYTES)?;
            if let Some(header) = FrameHeader::decode(epoch, bytes) {
                return Ok(Some((at, header)));
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(None)
    }

    /// Where the zeros begin that reach to the end of the file, seen from `offset`: a block
    /// boundary.
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

    /// `count` bytes from `offset`, fewer where the file ends.
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
                // other end that comes too soon is no end of the log.
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
