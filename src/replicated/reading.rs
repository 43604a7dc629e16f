//! Reads entries that follow one another: the batches of a log, or the pieces of a snapshot.
//!
//! A node that follows reads so, the compactor reads its own snapshot back so, and so do the tools. An entry is handed
//! on only if it is whole, stands under the key at which it has to be, and names the one before it. This file cannot
//! tell why a key is not there: a leader may have trimmed the log, or replaced the snapshot, since the head was read.

use std::fmt;

use super::entry::{self, ENTRY_HEADER_BYTES, TERM_BYTES};
use super::json::Page;
use super::keys::{Keys, Range};
use super::pointer::Pointer;
use crate::record;
use crate::wal::chain::Tail;
use crate::wal::frame::FrameHeader;

/// An entry in its place.
pub struct Batch {
    /// Where it is in etcd.
    pub key: String,
    /// The header of its frame.
    pub header: FrameHeader,
    /// The term of the leader that wrote it.
    pub term: u64,
    value: Vec<u8>,
}

impl Batch {
    /// Its records.
    pub fn payload(&self) -> &[u8] {
        &self.value[ENTRY_HEADER_BYTES..]
    }

    /// Its frame, without padding.
    pub fn frame(&self) -> &[u8] {
        &self.value[TERM_BYTES..]
    }

    /// Bytes of its value.
    pub fn bytes(&self) -> u64 {
        self.value.len() as u64
    }
}

/// A key whose value cannot be what a server wrote there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The key.
    pub key: String,
    /// The first record that is missing.
    pub lsn: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { key, lsn, what } = self;
        write!(
            f,
            "{key}: damaged, LSN {lsn}: {what}. Nothing was changed. A server that leads has all data in memory, and \
             SAVE there replaces what is damaged by a new snapshot. If none leads, import a backup into another name"
        )
    }
}

impl std::error::Error for Damage {}

/// Where the log goes on after a snapshot, or begins without one.
pub fn tail_after(pointer: Option<&Pointer>) -> Tail {
    match pointer {
        Some(pointer) => entry::tail(0, pointer.lsn.saturating_add(1), pointer.last_checksum),
        None => entry::tail(0, 1, 0),
    }
}

/// Entries that follow one another, as far as they were read.
///
/// - `tail` ends with the last one.
#[derive(Clone)]
pub struct Chain<'a> {
    keys: &'a Keys,
    part: Part,
    tail: Tail,
}

/// What the entries are.
#[derive(Clone)]
enum Part {
    /// Batches, up to this LSN.
    Log { last: u64 },
    /// Pieces of a snapshot, and the number of the next one.
    Snapshot { pointer: Pointer, next: u64 },
}

impl<'a> Chain<'a> {
    /// The batches after `tail`, up to the record `last`.
    pub fn log(keys: &'a Keys, tail: Tail, last: u64) -> Chain<'a> {
        Chain { keys, part: Part::Log { last }, tail }
    }

    /// The pieces of a snapshot.
    pub fn snapshot(keys: &'a Keys, pointer: &Pointer) -> Chain<'a> {
        let part = Part::Snapshot { pointer: *pointer, next: 0 };
        Chain { keys, part, tail: entry::tail(pointer.writer, 1, 0) }
    }

    /// The names of all keys.
    pub fn keys(&self) -> &Keys {
        self.keys
    }

    /// Where it ends so far.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// The pointer to the snapshot that it is.
    pub fn pointer(&self) -> Option<&Pointer> {
        match &self.part {
            Part::Log { .. } => None,
            Part::Snapshot { pointer, .. } => Some(pointer),
        }
    }

    /// The keys of what has not been read yet; `None` if that is nothing.
    pub fn rest(&self) -> Option<Range> {
        match &self.part {
            Part::Log { last } => (self.tail.next_lsn <= *last)
                .then(|| self.keys.batches(self.tail.next_lsn, last.saturating_add(1))),
            Part::Snapshot { pointer, next } => (*next < pointer.pieces)
                .then(|| self.keys.pieces_from(pointer.lsn, pointer.writer, *next)),
        }
    }

    /// The key of the next entry.
    pub fn next_key(&self) -> String {
        match &self.part {
            Part::Log { .. } => self.keys.batch(self.tail.next_lsn),
            Part::Snapshot { pointer, next } => self.keys.piece(pointer.lsn, pointer.writer, *next),
        }
    }

    /// The entry at [`Chain::next_key`].
    pub fn read(&mut self, key: String, value: Vec<u8>) -> Result<Batch, Damage> {
        assert_eq!(key, self.next_key(), "the caller has compared them");
        let header =
            entry::decode(&value, &mut self.tail).map_err(|what| self.damage(key.clone(), what))?;
        if let Part::Snapshot { next, .. } = &mut self.part {
            *next += 1;
        }
        Ok(Batch { key, header, term: self.tail.header.epoch, value })
    }

    /// The same, and its records are records.
    pub fn read_records(&mut self, key: String, value: Vec<u8>) -> Result<Batch, Damage> {
        let before = self.clone();
        let batch = self.read(key, value)?;
        record::read_batch(batch.payload(), batch.header.records, drop).map_err(|why| {
            let damage = before.damage(batch.key.clone(), why.to_string());
            *self = before;
            damage
        })?;
        Ok(batch)
    }

    /// Goes on with this entry, whatever should have come before it. False if it is no entry, or not at its key: then
    /// nothing is changed. For reading past damage.
    pub fn place(&mut self, key: &str, value: &[u8]) -> bool {
        let Some(tail) = entry::tail_before(value) else { return false };
        let mut placed = Chain { tail, ..self.clone() };
        if let Part::Snapshot { pointer, next } = &mut placed.part {
            let number = self.keys.number_of_piece(pointer.lsn, pointer.writer, key);
            *next = number.unwrap_or(*next);
        }
        let is_whole = key == placed.next_key()
            && placed.clone().read_records(key.to_owned(), value.to_owned()).is_ok();
        if is_whole {
            *self = placed;
        }
        is_whole
    }

    /// The entries of a page, up to the first that is not the next one.
    pub fn read_page(&mut self, page: Page) -> Result<Vec<Batch>, Damage> {
        let mut batches = Vec::new();
        for (key, value) in page.pairs {
            if key != self.next_key() {
                break;
            }
            batches.push(self.read(key, value)?);
        }
        Ok(batches)
    }

    /// Whether it ends as its pointer says, once all of it has been read.
    pub fn check_end(&self) -> Result<(), Damage> {
        let Part::Snapshot { pointer, .. } = &self.part else { return Ok(()) };
        let is_whole = self.tail.next_lsn - 1 == pointer.records
            && self.tail.last_checksum == pointer.checksum;
        match is_whole {
            true => Ok(()),
            false => Err(self.damage(
                self.keys.snapshot(),
                "its pieces are not those that this pointer names".into(),
            )),
        }
    }

    /// What it means that the next entry is not there, if nobody has taken it away.
    pub fn missing(&self) -> Damage {
        self.damage(self.next_key(), "it is not there".into())
    }

    /// Damage at some key of it. A snapshot has no LSN of its own for each record.
    pub fn damage(&self, key: String, what: String) -> Damage {
        let lsn = match &self.part {
            Part::Log { .. } => self.tail.next_lsn,
            Part::Snapshot { .. } => 1,
        };
        Damage { key, lsn, what }
    }
}
