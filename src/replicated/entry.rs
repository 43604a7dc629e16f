//! A batch as the log in etcd keeps it: the value of `log/<lsn>`, and of a piece of a snapshot.
//!
//! | bytes | field |
//! |------:|-------|
//! | 8 | the term of the leader that wrote it, little-endian |
//! | | a frame as in a segment (see `wal::frame`), of this term as its epoch, without padding |
//!
//! Each frame names the checksum of the one before, so that a reader notices an entry that is missing or was
//! changed. A segment's epoch is random, because its frames stand one after another in a file among bytes that
//! clients chose; here each has a key of its own.

use crate::wal::block::bytes_of;
use crate::wal::chain::{Frame, Tail};
use crate::wal::frame::{FRAME_HEADER_BYTES, FrameHeader, Kind, SegmentHeader, payload_checksum};

/// Bytes of an entry before its frame.
pub const TERM_BYTES: usize = 8;

/// Bytes of an entry before its records.
pub const ENTRY_HEADER_BYTES: usize = TERM_BYTES + FRAME_HEADER_BYTES;

/// The end of a log, or of a part of it that a node has stored.
pub fn tail(term: u64, next_lsn: u64, last_checksum: u32) -> Tail {
    Tail::of_segment(SegmentHeader {
        // Which log it is says its key.
        store_id: 0,
        sequence: term,
        epoch: term,
        first_lsn: next_lsn,
        previous_epoch: 0,
        previous_checksum: last_checksum,
        file_bytes: 0,
    })
}

/// Completes a frame as the entry after `tail`, with the epoch of that.
pub fn encode(frame: &mut Frame, tail: &Tail) -> (FrameHeader, Vec<u8>) {
    let (header, blocks) = frame.complete(tail, Kind::Batch, tail.next_lsn - 1, 0);
    let bytes = FRAME_HEADER_BYTES + header.payload_bytes as usize;
    let term = tail.header.epoch.to_le_bytes();
    (header, [&term, &bytes_of(blocks)[..bytes]].concat())
}

/// Reads the entry that has to follow `tail`, and advances that past it. Its records are what follows its
/// [`ENTRY_HEADER_BYTES`].
pub fn decode(value: &[u8], tail: &mut Tail) -> Result<FrameHeader, String> {
    let (term, frame) = value.split_first_chunk().ok_or("it is shorter than a term")?;
    let term = u64::from_le_bytes(*term);
    let header =
        FrameHeader::decode(term, frame).map_err(|why| format!("it is no frame: {why:?}"))?;
    let payload = &frame[FRAME_HEADER_BYTES..];
    let is_whole = header.kind == Kind::Batch
        && header.payload_bytes == payload.len() as u64
        && header.payload_checksum == payload_checksum(term, header.first_lsn, payload);
    if !is_whole {
        return Err("its records do not have the checksum that its header names".into());
    }
    if term < tail.header.epoch {
        return Err(format!("it is of term {term}, after one of term {}", tail.header.epoch));
    }
    tail.check(&header).map_err(|why| {
        format!(
            "it does not follow the one before it, which ends with LSN {}: {why:?}",
            tail.next_lsn - 1
        )
    })?;
    (tail.header.epoch, tail.header.sequence) = (term, term);
    tail.follow(&header);
    Ok(header)
}

/// The end of the entry before this one, as this one names it; `None` if it has no header. Only for reading past damage:
/// a reader of a log knows the end of the entry before.
pub fn tail_before(value: &[u8]) -> Option<Tail> {
    let (term, frame) = value.split_first_chunk()?;
    let term = u64::from_le_bytes(*term);
    let header = FrameHeader::decode(term, frame).ok()?;
    Some(tail(term, header.first_lsn, header.previous_checksum))
}

/// Whether an entry names the one at the end of `tail` as the one before it. One that is damaged says nothing of that.
pub fn follows(value: &[u8], tail: &Tail) -> bool {
    let Some((term, frame)) = value.split_first_chunk() else { return true };
    let header = FrameHeader::decode(u64::from_le_bytes(*term), frame);
    header.is_err() || header.is_ok_and(|header| tail.check(&header).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(records: &[&[u8]]) -> Frame {
        let mut frame = Frame::default();
        records.iter().for_each(|record| frame.push(|bytes| bytes.extend_from_slice(record)));
        frame
    }

    #[test]
    fn entries_are_read_in_the_order_in_which_they_were_written_also_over_a_takeover() {
        let mut written = tail(1, 1, 0);
        let (first, one) = encode(&mut frame(&[b"a", b"bc"]), &written);
        written.follow(&first);
        (written.header.epoch, written.header.sequence) = (4, 4);
        let (_, two) = encode(&mut frame(&[b"d"]), &written);

        let mut read = tail(1, 1, 0);
        assert_eq!(decode(&one, &mut read), Ok(first));
        assert_eq!(
            (&one[ENTRY_HEADER_BYTES..], read.header.epoch, read.next_lsn),
            (&b"abc"[..], 1, 3)
        );
        assert!(decode(&two, &mut read).is_ok());
        assert_eq!(
            (&two[ENTRY_HEADER_BYTES..], read.header.epoch, read.next_lsn),
            (&b"d"[..], 4, 4)
        );
        let of_an_old_term =
            decode(&encode(&mut frame(&[b"e"]), &tail(3, 4, read.last_checksum)).1, &mut read)
                .expect_err("of term 3");
        assert!(of_an_old_term.contains("term 3"), "{of_an_old_term}");
    }

    #[test]
    fn an_entry_that_is_missing_changed_or_cut_is_noticed() {
        let mut written = tail(1, 1, 0);
        let (first, one) = encode(&mut frame(&[b"abc"]), &written);
        written.follow(&first);
        let (_, two) = encode(&mut frame(&[b"d"]), &written);
        assert!(decode(&two, &mut tail(1, 1, 0)).is_err(), "the first is missing");
        assert!(decode(&two, &mut tail(1, 2, 7)).is_err(), "it follows another one");
        assert!(follows(&two, &written) && !follows(&two, &tail(1, 2, 7)));
        assert!(follows(&two[..9], &tail(1, 2, 7)) && follows(b"", &written), "nothing is said");
        for place in 0..one.len() {
            let mut changed = one.clone();
            changed[place] ^= 1;
            assert!(decode(&changed, &mut tail(1, 1, 0)).is_err(), "byte {place}");
            assert!(decode(&one[..place], &mut tail(1, 1, 0)).is_err(), "cut at {place}");
        }
        let mut longer = one;
        longer.push(0);
        assert!(decode(&longer, &mut tail(1, 1, 0)).is_err());
    }
}
