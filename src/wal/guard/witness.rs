//! How far the log was durable, in a second place: a small file beside it, `<path>.durable`.
//!
//! The log alone cannot say that its end is missing: zeros over its last batches look as if those
//! had never been written. So the last durable LSN is noted here, too, by a thread of its own (see
//! [`super::watch`]) and never by a commit. A log that ends before it is damaged, and no start goes
//! on with it (promise 5). The note may be late, never early: it is written after the records that
//! it covers are durable.
//!
//! If the file is missing or unreadable, as beside the logs of earlier programs, the log alone is
//! believed.
//!
//! It has two blocks, of which the one with the higher LSN counts. They are written in turn, so a
//! torn one leaves the other. Numbers are little-endian:
//!
//! | offset | bytes | field |
//! |-------:|------:|-------|
//! | 0 | 16 | magic, `post-gres-rs lsn` |
//! | 16 | 4 | format version, 1 |
//! | 20 | 4 | CRC-32C of bytes 24 to 48 |
//! | 24 | 16 | store id, that of the log |
//! | 40 | 8 | the last LSN that was durable |

use std::io::{self, ErrorKind};

use crate::wal::block::{BLOCK_BYTES, BlockBuffer};
use crate::wal::disk::{Access, Disk, DiskFile};
use crate::wal::names::Names;
use crate::wal::reader::Reader;

const MAGIC: &[u8; 16] = b"post-gres-rs lsn";
const VERSION: u32 = 1;
const BLOCKS: u64 = 2;
const FIELDS_BYTES: usize = 48;

/// What is known of a log from outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which log.
    pub store_id: u128,
    /// Everything up to this LSN was durable.
    pub lsn: u64,
}

/// The file, open for writing.
///
/// - `newest` is the number of the block that holds `known`; the other one is written next.
pub struct Witness {
    file: Box<dyn DiskFile>,
    newest: u64,
    known: Known,
}

/// What is known of the log; `None` if nothing is.
pub fn read(disk: &dyn Disk, names: &Names) -> io::Result<Option<Known>> {
    match disk.open(&names.durable(), Access::Direct) {
        Ok(file) => Ok(newest(&*file)?.map(|(_, known)| known)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the file, durably: the log is about to be cut back.
pub fn forget(disk: &dyn Disk, names: &Names) -> io::Result<()> {
    match disk.remove(&names.durable()) {
        Ok(()) => disk.sync_directory(names.directory()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Witness {
    /// Opens the file, or makes one, and notes what is known now.
    pub fn open(disk: &dyn Disk, names: &Names, known: Known) -> io::Result<Witness> {
        let path = names.durable();
        let found = match disk.open(&path, Access::Direct) {
            Ok(file) => newest(&*file)?.map(|found| (file, found)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some((file, (newest, before))) = found
            && before.store_id == known.store_id
        {
            let mut witness = Witness { file, newest, known: before };
            witness.note(known.lsn)?;
            return Ok(witness);
        }
        // A file that is unreadable or of another log is replaced.
        let file = disk.create(&path, Access::Direct)?;
        let mut both = BlockBuffer::default();
        (0..BLOCKS).for_each(|_| both.extend_from_slice(&known.encode()));
        file.write_synced_at(both.padded(), 0)?;
        file.sync()?;
        disk.sync_directory(names.directory())?;
        Ok(Witness { file, newest: 0, known })
    }

    /// Notes, durably, that everything up to `lsn` is durable, unless that is noted already.
    pub fn note(&mut self, lsn: u64) -> io::Result<()> {
        if lsn <= self.known.lsn {
            return Ok(());
        }
        let known = Known { lsn, ..self.known };
        let other = (self.newest + 1) % BLOCKS;
        assert_ne!(other, self.newest, "the block that tells of more is never written over");
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&known.encode());
        self.file.write_synced_at(block.padded(), other * BLOCK_BYTES as u64)?;
        (self.newest, self.known) = (other, known);
        Ok(())
    }
}

impl Known {
    fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..16].copy_from_slice(MAGIC);
        block[16..20].copy_from_slice(&VERSION.to_le_bytes());
        block[24..40].copy_from_slice(&self.store_id.to_le_bytes());
        block[40..FIELDS_BYTES].copy_from_slice(&self.lsn.to_le_bytes());
        let checksum = crc32c::crc32c(&block[24..FIELDS_BYTES]);
        block[20..24].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    fn decode(block: &[u8]) -> Option<Known> {
        let store_id = u128::from_le_bytes(block.get(24..40)?.try_into().ok()?);
        let lsn = u64::from_le_bytes(block.get(40..FIELDS_BYTES)?.try_into().ok()?);
        let known = Known { store_id, lsn };
        (known.encode()[..FIELDS_BYTES] == block[..FIELDS_BYTES]).then_some(known)
    }
}

/// The block with the higher LSN, and its number.
fn newest(file: &dyn DiskFile) -> io::Result<Option<(u64, Known)>> {
    let mut reader = Reader::new(file, 0)?;
    let mut newest = None;
    for number in 0..BLOCKS {
        let block = reader.bytes(number * BLOCK_BYTES as u64, BLOCK_BYTES)?;
        if let Some(known) = Known::decode(block)
            && newest.is_none_or(|(_, best): (u64, Known)| best.lsn < known.lsn)
        {
            newest = Some((number, known));
        }
    }
    Ok(newest)
}
