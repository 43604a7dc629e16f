//! A chain of frames: how far it reaches, which frame may follow, and how that one is built.
//!
//! Each frame names the checksum of the one before, and each segment the last batch of the segment
//! before. The writers of the log and of a snapshot, a start, and the tools all keep their position
//! in a [`Tail`], and [`Tail::follow`] is the only line that advances one. [`Frame`] is the only
//! writer of frames, [`super::reader`] the only reader. Nothing here does I/O, except to get a
//! random number.

use std::io;

use super::block::{BLOCK_BYTES, Block, BlockBuffer, bytes_of};
use super::frame::{
    FIRST_FRAME, FOLLOWED, FRAME_HEADER_BYTES, FrameHeader, Kind, SegmentHeader, payload_checksum,
};

/// Where a chain of frames ends.
///
/// - `end` is a block boundary after the header, and all frames before it are batches.
/// - `last_checksum` is that of the batch before `end`; if there is none, the one that the header
///   names for the segment before.
/// - All records before `next_lsn` are before `end`, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The header of the file.
    pub header: SegmentHeader,
    /// Where the next frame goes.
    pub end: u64,
    /// The checksum that the next frame has to name.
    pub last_checksum: u32,
    /// The LSN of the next record.
    pub next_lsn: u64,
}

/// Why a frame does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNext {
    /// It begins with another LSN.
    Lsn,
    /// It names another frame as the one before it.
    Checksum,
}

impl Tail {
    /// Before the first frame of a segment.
    pub fn of_segment(header: SegmentHeader) -> Tail {
        let (last_checksum, next_lsn) = (header.previous_checksum, header.first_lsn);
        Tail { header, end: FIRST_FRAME, last_checksum, next_lsn }
    }

    /// Before the first frame of a snapshot, whose records are counted from 1.
    pub fn of_snapshot(header: SegmentHeader) -> Tail {
        Tail { header, end: FIRST_FRAME, last_checksum: 0, next_lsn: 1 }
    }

    /// The end of the segment before the one with this header, as far as the header tells.
    pub fn before(following: &SegmentHeader) -> Tail {
        let sequence = following.sequence.saturating_sub(1);
        Tail {
            header: SegmentHeader { sequence, epoch: following.previous_epoch, ..*following },
            end: FIRST_FRAME,
            last_checksum: following.previous_checksum,
            next_lsn: following.first_lsn,
        }
    }

    /// Whether a frame may stand here.
    pub fn check(&self, frame: &FrameHeader) -> Result<(), NotNext> {
        match (frame.first_lsn == self.next_lsn, frame.previous_checksum == self.last_checksum) {
            (true, true) => Ok(()),
            (false, _) => Err(NotNext::Lsn),
            (true, false) => Err(NotNext::Checksum),
        }
    }

    /// Advances past a batch. (A mark advances nothing: the next batch replaces it.)
    pub fn follow(&mut self, batch: &FrameHeader) {
        assert_eq!(self.check(batch), Ok(()), "a frame that does not follow was to be followed");
        assert_eq!(batch.kind, Kind::Batch, "a mark does not advance the log");
        self.end += batch.frame_bytes();
        self.last_checksum = batch.checksum;
        self.next_lsn += u64::from(batch.records);
        assert!(self.end.is_multiple_of(BLOCK_BYTES as u64), "a batch ends within a block");
    }

    /// The header of the segment that continues this one, with an epoch of its own.
    pub fn following(&self) -> io::Result<SegmentHeader> {
        Ok(SegmentHeader {
            store_id: self.header.store_id,
            sequence: self.header.sequence + 1,
            epoch: random()?,
            first_lsn: self.next_lsn,
            previous_epoch: self.header.epoch,
            previous_checksum: self.last_checksum,
            file_bytes: 0,
        })
    }
}

/// The header of an empty segment: the one that follows this snapshot, or the first of a new log.
pub fn anew(snapshot: Option<&SegmentHeader>) -> io::Result<SegmentHeader> {
    let epoch = random()?;
    Ok(match snapshot {
        Some(following) => SegmentHeader { epoch, ..*following },
        None => SegmentHeader {
            store_id: u128::from(random()?) << 64 | u128::from(random()?),
            sequence: 1,
            epoch,
            first_lsn: 1,
            previous_epoch: 0,
            previous_checksum: 0,
            file_bytes: 0,
        },
    })
}

/// A random number from the kernel, for a store id or an epoch. An epoch must be impossible to
/// guess: it keeps a value from passing for a frame.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let count = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    assert_eq!(count, bytes.len(), "the kernel gives up to 256 random bytes whole");
    Ok(u64::from_le_bytes(bytes))
}

/// A frame that is being built.
///
/// - `bytes` has room for the header, then the payload: the records pushed so far, `records` of them.
pub struct Frame {
    bytes: BlockBuffer,
    records: u32,
}

impl Default for Frame {
    fn default() -> Frame {
        let mut bytes = BlockBuffer::default();
        bytes.resize(FRAME_HEADER_BYTES);
        Frame { bytes, records: 0 }
    }
}

impl Frame {
    /// The mark of a segment that another one follows, to be sealed as [`Kind::Idle`].
    pub fn of_followed_segment() -> Frame {
        Frame { records: FOLLOWED, ..Frame::default() }
    }

    /// Adds a record: what `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut BlockBuffer)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        debug_assert!(self.bytes.len() >= before, "a record only appends to its frame");
        self.records += 1;
    }

    /// Adds the records of another frame.
    pub fn push_all(&mut self, records: u32, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.records += records;
    }

    /// Records in it.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Its length, without the padding.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The memory that it takes up.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Begins a new one, in the same memory up to `keep_bytes`.
    pub fn clear(&mut self, keep_bytes: usize) {
        self.bytes.clear(keep_bytes);
        self.bytes.resize(FRAME_HEADER_BYTES);
        self.records = 0;
    }

    /// Completes it as the next frame of a chain, and returns its header and its blocks.
    pub fn complete(
        &mut self,
        tail: &Tail,
        kind: Kind,
        durable_lsn: u64,
        file_bytes: u64,
    ) -> (FrameHeader, &[Block]) {
        let payload = &self.bytes.as_bytes()[FRAME_HEADER_BYTES..];
        assert!(kind == Kind::Batch || payload.is_empty(), "a mark has no payload");
        let epoch = tail.header.epoch;
        let mut header = FrameHeader {
            kind,
            records: self.records,
            payload_bytes: payload.len() as u64,
            first_lsn: tail.next_lsn,
            durable_lsn,
            previous_checksum: tail.last_checksum,
            payload_checksum: payload_checksum(epoch, tail.next_lsn, payload),
            file_bytes,
            checksum: 0,
        };
        let encoded = header.encode(epoch);
        self.bytes.as_mut_bytes()[..FRAME_HEADER_BYTES].copy_from_slice(&encoded);
        let blocks = self.bytes.padded();
        assert_eq!(bytes_of(blocks).len() as u64, header.frame_bytes(), "a frame is whole blocks");
        (header, blocks)
    }
}

/// The closing mark at the end of this chain, all of which is durable; the file ends with the mark.
pub fn closing_mark(tail: &Tail) -> (FrameHeader, BlockBuffer) {
    let mut frame = Frame::default();
    let file_bytes = tail.end + BLOCK_BYTES as u64;
    let (header, _) = frame.complete(tail, Kind::Closed, tail.next_lsn - 1, file_bytes);
    (header, frame.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        Tail::of_segment(SegmentHeader { epoch: 7, ..anew(None).expect("random numbers") })
    }

    #[test]
    fn a_completed_frame_is_the_one_that_follows_and_reads_back_as_it_was_written() {
        let mut tail = tail();
        for records in [1_u32, 300] {
            let mut frame = Frame::default();
            (0..records).for_each(|_| frame.push(|bytes| bytes.extend_from_slice(&[9; 20])));
            let (header, blocks) = frame.complete(&tail, Kind::Batch, 0, 1 << 20);
            assert_eq!(FrameHeader::decode(7, bytes_of(blocks)), Ok(header));
            let before = tail;
            tail.follow(&header);
            assert_eq!(tail.next_lsn, before.next_lsn + u64::from(records));
            assert_eq!(tail.end, before.end + bytes_of(blocks).len() as u64);
            assert_eq!(tail.last_checksum, header.checksum);
            assert_eq!(before.check(&header), Ok(()));
            assert_eq!(tail.check(&header), Err(NotNext::Lsn));
        }
        let other = Tail { last_checksum: 1, ..tail };
        let (mark, _) = closing_mark(&other);
        assert_eq!(tail.check(&mark), Err(NotNext::Checksum));
    }

    #[test]
    #[should_panic = "a frame that does not follow was to be followed"]
    fn a_frame_that_does_not_follow_is_never_followed() {
        let mut frame = Frame::default();
        frame.push(|bytes| bytes.extend_from_slice(b"record"));
        let (header, _) = frame.complete(&tail(), Kind::Batch, 0, 0);
        let mut later = Tail { next_lsn: 5, ..tail() };
        later.follow(&header);
    }

    #[test]
    fn the_segment_that_follows_names_the_last_batch_of_the_one_before() {
        let mut tail = tail();
        let mut frame = Frame::default();
        frame.push(|bytes| bytes.extend_from_slice(b"record"));
        let (header, _) = frame.complete(&tail, Kind::Batch, 0, 0);
        tail.follow(&header);
        let following = tail.following().expect("random numbers");
        let before = Tail::before(&following);
        assert_eq!(before.next_lsn, tail.next_lsn);
        assert_eq!(before.last_checksum, tail.last_checksum);
        assert_eq!(before.header.epoch, tail.header.epoch);
        assert_eq!(before.header.sequence, tail.header.sequence);
    }
}
