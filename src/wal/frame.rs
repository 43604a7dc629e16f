//! The bytes of a segment: a header block, then frames.
//!
//! Everything is little-endian. All lengths are checked by a checksum of their own before they
//! are believed. Nothing here does I/O.
//!
//! A **segment header** fills the first block of the file:
//!
//! | offset | bytes | field |
//! |-------:|------:|-------|
//! | 0 | 16 | magic, `post-gres-rs log` |
//! | 16 | 4 | format version, 1 |
//! | 20 | 4 | CRC-32C of the block from byte 24 to its end |
//! | 24 | 16 | store id, the same in all files of one log |
//! | 40 | 8 | sequence, 1 for the first segment |
//! | 48 | 8 | epoch, random, new for each segment |
//! | 56 | 8 | LSN of its first record |
//! | 64 | 8 | epoch of the segment before, 0 if none |
//! | 72 | 4 | checksum of the last batch in the segment before, 0 if none |
//! | 80 | 8 | length of the file |
//! | 88 | 16 | zero; snapshots of earlier programs have a number here that nothing reads |
//!
//! A **frame** starts on a block boundary and is zero-padded to the next:
//!
//! | offset | bytes | field |
//! |-------:|------:|-------|
//! | 0 | 4 | magic, `PGB1` |
//! | 4 | 4 | frame checksum: CRC-32C of the epoch and of bytes 8 to 64 |
//! | 8 | 4 | kind: 1 batch, 2 idle mark, 3 closing mark |
//! | 12 | 4 | number of records; 1 in an idle mark if another segment follows this one |
//! | 16 | 8 | bytes of payload |
//! | 24 | 8 | LSN of its first record (of the next one, in a mark) |
//! | 32 | 8 | the last LSN that was durable when this was written |
//! | 40 | 4 | checksum of the batch before, or of the segment before in the first |
//! | 44 | 4 | payload checksum: CRC-32C of the epoch, the first LSN and the payload |
//! | 48 | 8 | length of the file |
//! | 56 | 8 | zero |
//! | 64 | | payload |
//!
//! The epoch is in no frame, only in the checksums. So no client can store a value that passes for
//! a frame, and a frame of another segment does not pass for one of this. No run of zeros is a
//! frame: magic and kind differ from zero. The length of the file is in each frame because a file
//! that was cut at a frame's boundary would otherwise look like a whole one; only after a closing
//! mark may a file be shorter.
//!
//! The log sequence number, LSN, counts records from 1.

use super::block::BLOCK_BYTES;

/// The first bytes of a segment.
pub const MAGIC: &[u8; 16] = b"post-gres-rs log";
/// The first bytes of a snapshot. The rest of its header is that of a segment.
pub const SNAPSHOT_MAGIC: &[u8; 16] = b"post-gres-rs snp";
/// The version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 1;
/// Offset of the first frame.
pub const FIRST_FRAME: u64 = BLOCK_BYTES as u64;
/// The number of records in an idle mark if another segment follows. (Earlier programs ignore it.)
pub const FOLLOWED: u32 = 1;
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 64;
const FRAME_MAGIC: &[u8; 4] = b"PGB1";

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which log it belongs to.
    pub store_id: u128,
    /// Its place among the segments.
    pub sequence: u64,
    /// The seed of its checksums.
    pub epoch: u64,
    /// LSN of the first record in it.
    pub first_lsn: u64,
    /// The epoch of the segment before.
    pub previous_epoch: u64,
    /// The checksum of the last batch of the segment before.
    pub previous_checksum: u32,
    /// Length of the file when the segment was begun.
    pub file_bytes: u64,
}

/// Why a block is no segment header.
#[derive(Debug, PartialEq, Eq)]
pub enum NotAHeader {
    /// It does not begin with our magic number, and what follows is no header either.
    Foreign,
    /// It was written by a later program.
    Newer(u32),
    /// Its checksum does not match.
    Damaged,
}

impl SegmentHeader {
    /// The header as the bytes of its block, after a magic number.
    pub fn encode(&self, magic: &[u8; 16]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[..16].copy_from_slice(magic);
        block[16..20].copy_from_slice(&VERSION.to_le_bytes());
        block[24..40].copy_from_slice(&self.store_id.to_le_bytes());
        block[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        block[48..56].copy_from_slice(&self.epoch.to_le_bytes());
        block[56..64].copy_from_slice(&self.first_lsn.to_le_bytes());
        block[64..72].copy_from_slice(&self.previous_epoch.to_le_bytes());
        block[72..76].copy_from_slice(&self.previous_checksum.to_le_bytes());
        block[80..88].copy_from_slice(&self.file_bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&block[24..]);
        block[20..24].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Reads the first block of a file that has to begin with this magic number.
    pub fn decode(magic: &[u8; 16], block: &[u8]) -> Result<SegmentHeader, NotAHeader> {
        let begins_right = block.starts_with(magic);
        let Some(block) = block.get(..BLOCK_BYTES) else {
            return Err(if begins_right { NotAHeader::Damaged } else { NotAHeader::Foreign });
        };
        // All but the magic number is as we wrote it.
        if !begins_right
            && u32_at(block, 16) == VERSION
            && u32_at(block, 20) == crc32c::crc32c(&block[24..])
        {
            return Err(NotAHeader::Damaged);
        }
        if !begins_right {
            return Err(NotAHeader::Foreign);
        }
        // Before the checksum: a later version may well compute it in another way.
        match u32_at(block, 16) {
            VERSION => {}
            newer if newer > VERSION => return Err(NotAHeader::Newer(newer)),
            _ => return Err(NotAHeader::Damaged),
        }
        if u32_at(block, 20) != crc32c::crc32c(&block[24..]) {
            return Err(NotAHeader::Damaged);
        }
        SegmentHeader::unchecked(block).ok_or(NotAHeader::Damaged)
    }

    /// Reads a block without any check, for reading past damage. `None` if it is too short.
    pub fn unchecked(block: &[u8]) -> Option<SegmentHeader> {
        let block = block.get(..BLOCK_BYTES)?;
        Some(SegmentHeader {
            store_id: u128_at(block, 24),
            sequence: u64_at(block, 40),
            epoch: u64_at(block, 48),
            first_lsn: u64_at(block, 56),
            previous_epoch: u64_at(block, 64),
            previous_checksum: u32_at(block, 72),
            file_bytes: u64_at(block, 80),
        })
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records that became durable together.
    Batch = 1,
    /// Written when the log has been idle: says that all before it was durable, so that damage to
    /// the last batch can be told from a torn one.
    Idle = 2,
    /// The same, by a server that stopped in order.
    Closed = 3,
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it is for.
    pub kind: Kind,
    /// How many records it holds.
    pub records: u32,
    /// Length of the payload.
    pub payload_bytes: u64,
    /// LSN of the first record.
    pub first_lsn: u64,
    /// The last LSN that was durable when it was written.
    pub durable_lsn: u64,
    /// The checksum of the batch before.
    pub previous_checksum: u32,
    /// The checksum of the payload.
    pub payload_checksum: u32,
    /// Length of the file, this frame included.
    pub file_bytes: u64,
    /// The frame checksum, as it was read or written: it stands for the whole batch.
    pub checksum: u32,
}

/// Why there is no frame at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAFrame {
    /// There is no header of this epoch: zeros, or what a crash left of one.
    NoHeader,
    /// There is a header, and what follows is not its payload: a crash may leave that, too.
    NoPayload,
    /// There is a whole header of a kind that only a later program knows. No crash leaves that.
    Unknown(u32),
}

impl NotAFrame {
    /// Whether a crash may have left this. If not, it is damage wherever it stands, and never cut.
    pub fn may_be_torn(self) -> bool {
        match self {
            NotAFrame::NoHeader | NotAFrame::NoPayload => true,
            NotAFrame::Unknown(_) => false,
        }
    }
}

impl FrameHeader {
    /// The header's bytes. Fills in the frame checksum.
    pub fn encode(&mut self, epoch: u64) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(FRAME_MAGIC);
        bytes[8..12].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable_lsn.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous_checksum.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_checksum.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.file_bytes.to_le_bytes());
        self.checksum = frame_checksum(epoch, &bytes);
        bytes[4..8].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// Reads a header of this epoch at the start of `bytes`.
    pub fn decode(epoch: u64, bytes: &[u8]) -> Result<FrameHeader, NotAFrame> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES).ok_or(NotAFrame::NoHeader)?;
        let checksum = u32_at(bytes, 4);
        if &bytes[..4] != FRAME_MAGIC || checksum != frame_checksum(epoch, bytes) {
            return Err(NotAFrame::NoHeader);
        }
        let kind = match u32_at(bytes, 8) {
            1 => Kind::Batch,
            2 => Kind::Idle,
            3 => Kind::Closed,
            unknown => return Err(NotAFrame::Unknown(unknown)),
        };
        Ok(FrameHeader {
            kind,
            records: u32_at(bytes, 12),
            payload_bytes: u64_at(bytes, 16),
            first_lsn: u64_at(bytes, 24),
            durable_lsn: u64_at(bytes, 32),
            previous_checksum: u32_at(bytes, 40),
            payload_checksum: u32_at(bytes, 44),
            file_bytes: u64_at(bytes, 48),
            checksum,
        })
    }

    /// Bytes from the frame's start to the next frame's.
    pub fn frame_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES as u64 + self.payload_bytes).next_multiple_of(BLOCK_BYTES as u64)
    }
}

/// The checksum that a batch's payload must have.
pub fn payload_checksum(epoch: u64, first_lsn: u64, payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&epoch.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &first_lsn.to_le_bytes()), payload)
}

fn frame_checksum(epoch: u64, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&epoch.to_le_bytes()), &header[8..FRAME_HEADER_BYTES])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from(u64_at(bytes, at)) | u128::from(u64_at(bytes, at + 8)) << 64
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FrameHeader = FrameHeader {
        kind: Kind::Batch,
        records: 3,
        payload_bytes: 5000,
        first_lsn: 17,
        durable_lsn: 16,
        previous_checksum: 0xdead_beef,
        payload_checksum: 0x1234_5678,
        file_bytes: 1 << 20,
        checksum: 0,
    };

    fn encoded(kind: Kind) -> [u8; FRAME_HEADER_BYTES] {
        FrameHeader { kind, ..HEADER }.encode(99)
    }

    #[test]
    fn a_frame_header_is_read_back_and_any_flipped_bit_is_seen() {
        for kind in [Kind::Batch, Kind::Idle, Kind::Closed] {
            let mut header = FrameHeader { kind, ..HEADER };
            let bytes = header.encode(99);
            assert_ne!(header.checksum, 0);
            assert_eq!(FrameHeader::decode(99, &bytes), Ok(header));
        }
        let bytes = encoded(Kind::Batch);
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = FrameHeader::decode(99, &flipped);
            assert_eq!(decoded, Err(NotAFrame::NoHeader), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_epoch_and_a_run_of_zeros_are_no_frames() {
        let none = Err(NotAFrame::NoHeader);
        assert_eq!(FrameHeader::decode(98, &encoded(Kind::Batch)), none);
        assert_eq!(FrameHeader::decode(0, &[0; BLOCK_BYTES]), none);
        assert!(NotAFrame::NoHeader.may_be_torn() && NotAFrame::NoPayload.may_be_torn());
    }

    #[test]
    fn a_whole_frame_of_a_later_program_is_not_taken_for_a_torn_one() {
        let mut bytes = encoded(Kind::Batch);
        bytes[8] = 4;
        let checksum = frame_checksum(99, &bytes);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        let unknown = NotAFrame::Unknown(4);
        assert_eq!(FrameHeader::decode(99, &bytes), Err(unknown));
        assert!(!unknown.may_be_torn());
    }

    #[test]
    fn a_segment_header_is_read_back_and_a_newer_version_is_told_from_damage() {
        let header = SegmentHeader {
            store_id: u128::MAX - 5,
            sequence: 2,
            epoch: 3,
            first_lsn: 4,
            previous_epoch: 5,
            previous_checksum: 6,
            file_bytes: 7,
        };
        for magic in [SNAPSHOT_MAGIC, MAGIC] {
            assert_eq!(SegmentHeader::decode(magic, &header.encode(magic)), Ok(header));
        }
        // A snapshot of an earlier program: 16 bytes hold a number, and mean nothing any more.
        let mut earlier = header.encode(SNAPSHOT_MAGIC);
        earlier[88..104].fill(7);
        let checksum = crc32c::crc32c(&earlier[24..]);
        earlier[20..24].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(SNAPSHOT_MAGIC, &earlier), Ok(header));
        let mut block = header.encode(MAGIC);
        block[100] ^= 1;
        assert_eq!(SegmentHeader::decode(MAGIC, &block), Err(NotAHeader::Damaged));
        block[16..20].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(SegmentHeader::decode(MAGIC, &block), Err(NotAHeader::Newer(VERSION + 1)));
        block[0] = 0;
        assert_eq!(SegmentHeader::decode(MAGIC, &block), Err(NotAHeader::Foreign));
        let mut block = header.encode(MAGIC);
        block[3] ^= 4;
        assert_eq!(SegmentHeader::decode(MAGIC, &block), Err(NotAHeader::Damaged));
    }
}
