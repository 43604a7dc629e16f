//! Cuts a torn batch off the end of the log: its bytes are kept beside it, then zeros take their place.
//!
//! Only bytes that were never acknowledged come here (promise 5); recovery has decided that. A crash
//! in between leaves a torn batch again. It needs no new space: where the bytes cannot be kept for want
//! of it, that is reported, and they are cut all the same.

use std::path::Path;

use super::block::{BLOCK_BYTES, Block, BlockBuffer};
use super::disk::{Access, Disk, DiskFile};
use super::names::{Names, first_free};
use super::segment::{LARGE_PIECE, fill_with_zeros};

/// A torn batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Where it began.
    pub offset: u64,
    /// Where the zeros after it begin.
    pub end: u64,
    /// The LSN its first record would have had.
    pub lsn: u64,
}

/// Copies a torn batch to a file of its own, then overwrites it with zeros.
pub fn cut(disk: &dyn Disk, names: &Names, torn: &Torn) -> anyhow::Result<()> {
    let file = disk.open(names.active(), Access::Direct)?;
    // After a crash while zeroing, an earlier copy is the more complete one.
    let listed = disk.list(names.directory())?;
    let aside = first_free(&listed, (0..).map(|number| names.torn(torn.lsn, number)));
    match keep(disk, names, &*file, torn, &aside) {
        Ok(()) => log::warn!(
            "{}: cut a torn batch of {} bytes at offset {}, LSN {}; nobody was told that it is \
             safe. Its bytes are kept in {}",
            names.active().display(),
            torn.end - torn.offset,
            torn.offset,
            torn.lsn,
            aside.display()
        ),
        // A start must not need space: what is cut was never acknowledged.
        Err(error) => log::warn!(
            "{}: cut a torn batch at offset {}, LSN {}; its bytes could not be kept: {error:#}",
            names.active().display(),
            torn.offset,
            torn.lsn
        ),
    }
    let end = torn.end.next_multiple_of(BLOCK_BYTES as u64);
    fill_with_zeros(&*file, torn.offset, end, &mut |_| LARGE_PIECE)?;
    file.sync()?;
    Ok(())
}

/// Copies a part of a file to one of its own, durably.
pub fn keep(
    disk: &dyn Disk,
    names: &Names,
    file: &dyn DiskFile,
    torn: &Torn,
    aside: &Path,
) -> anyhow::Result<()> {
    let copy = disk.create(aside, Access::Buffered)?;
    let mut window = BlockBuffer::default();
    let mut at = torn.offset;
    while at < torn.end {
        let blocks = ((torn.end - at).div_ceil(BLOCK_BYTES as u64) as usize).min(256);
        let room: &mut [Block] = window.room(blocks);
        let filled = file.read_at(room, at)?;
        if filled == 0 {
            break;
        }
        window.resize(filled);
        copy.write_at(window.padded(), at - torn.offset)?;
        at += (blocks * BLOCK_BYTES) as u64;
    }
    copy.sync()?;
    disk.sync_directory(names.directory())?;
    Ok(())
}
