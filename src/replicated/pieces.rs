//! The pieces of a snapshot that is being written: records in, keys with their values out.
//!
//! The compactor of the node that leads writes a snapshot so, and an import does. Nothing here talks to etcd; a
//! snapshot counts only once it has been read back and its pointer is written.

use super::entry;
use super::json::Page;
use super::keys::{Keys, Range};
use super::pointer::Pointer;
use super::reading::Chain;
use crate::record;
use crate::wal::chain::{Frame, Tail};

/// A piece is written when it has this many bytes. etcd keeps thousands of its latest entries in memory: pieces of
/// 512 KiB took 3.2 GB for a snapshot of 1.4 GB.
pub const PIECE_BYTES: u64 = 64 << 10;

/// See the head of this file.
///
/// - `pointer` names what was cut, `frame` has what was pushed since.
pub struct Pieces {
    pointer: Pointer,
    frame: Frame,
    tail: Tail,
}

impl Pieces {
    /// A snapshot of everything up to `lsn`, where the batch with this checksum ends, by the leader of the term
    /// `writer`.
    pub fn new(lsn: u64, last_checksum: u32, writer: u64) -> Pieces {
        let pointer = Pointer { lsn, last_checksum, writer, ..Pointer::default() };
        Pieces { pointer, frame: Frame::default(), tail: entry::tail(writer, 1, 0) }
    }

    /// Adds a record.
    pub fn push(&mut self, record: record::New<'_>) {
        self.frame.push(|frame| record.encode(|piece| frame.extend_from_slice(piece)));
    }

    /// Whether there is enough for a piece.
    pub fn is_full(&self) -> bool {
        self.frame.len() >= PIECE_BYTES
    }

    /// Key and value of a piece that holds what was pushed since the last one; `None` if that is nothing.
    pub fn cut(&mut self, keys: &Keys) -> Option<(String, Vec<u8>)> {
        if self.frame.is_empty() {
            return None;
        }
        let (header, value) = entry::encode(&mut self.frame, &self.tail);
        let pointer = &mut self.pointer;
        let key = keys.piece(pointer.lsn, pointer.writer, pointer.pieces);
        self.tail.follow(&header);
        pointer.pieces += 1;
        pointer.bytes += value.len() as u64;
        pointer.records = self.tail.next_lsn - 1;
        pointer.checksum = self.tail.last_checksum;
        // One huge value must not stay in memory to the end.
        self.frame.clear(2 * PIECE_BYTES as usize);
        Some((key, value))
    }

    /// What the key `snapshot` is to say of the pieces that were cut.
    pub fn pointer(&self) -> &Pointer {
        &self.pointer
    }
}

/// Reads the pieces of a snapshot back, by way of `page`, and compares them with what its pointer says.
pub fn read_back(
    keys: &Keys,
    pointer: &Pointer,
    mut page: impl FnMut(&Range) -> anyhow::Result<Page>,
) -> anyhow::Result<()> {
    let mut chain = Chain::snapshot(keys, pointer);
    while let Some(rest) = chain.rest() {
        let batches = chain.read_page(page(&rest)?)?;
        anyhow::ensure!(!batches.is_empty(), "{} is not there", chain.next_key());
    }
    Ok(chain.check_end()?)
}
