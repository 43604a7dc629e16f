//! The end of the last segment: what it is, and how a torn batch is cut off it.
//!
//! **Torn or damaged?** A batch is written only after the one before it is durable, or else says in
//! its header how far the log was durable. So after a block that is no valid frame:
//! - a later frame that says that the missing LSN was durable proves that it was there: this is
//!   damage, and the start is refused, as it is if only a later program can read what that frame says;
//! - if there is none, the crash came at this block, what it held was never acknowledged, and it
//!   is cut: kept in a file beside the log, then overwritten with zeros.
//!
//! (Pebble's sync-chunk headers, 2025, carry the same information.)
//!
//! Only bytes that were never acknowledged are cut (promise 5). A crash in between leaves a torn
//! batch again. Cutting needs no new space: if the bytes cannot be kept for lack of it, that is
//! reported, and they are cut all the same.

use std::path::Path;

use anyhow::bail;

use super::block::{BLOCK_BYTES, Block, BlockBuffer};
use super::chain::Tail;
use super::damage::Damage;
use super::disk::{Access, Disk, DiskFile};
use super::frame::{FIRST_FRAME, FOLLOWED, FrameHeader, Kind};
use super::guard::witness::Known;
use super::names::{Names, first_free};
use super::options::LARGEST_SEGMENT_BYTES;
use super::reader::Reader;
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

/// How a segment ends, as it was read.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Where its last batch ends.
    pub tail: Tail,
    /// How long the file has to be, if it was not closed: as long as its last batch says, or the mark
    /// after that.
    pub file_bytes: u64,
    /// The mark after that batch.
    pub mark: Option<FrameHeader>,
}

impl End {
    /// Whether the last server stopped in order.
    pub fn is_closed(&self) -> bool {
        self.mark.is_some_and(|mark| mark.kind == Kind::Closed)
    }

    /// Whether the segment says that another one follows.
    fn is_followed(&self) -> bool {
        self.mark.is_some_and(|mark| mark.records == FOLLOWED)
    }

    /// Where the mark ends, or the last batch if there is no mark.
    pub fn marked_end(&self) -> u64 {
        self.tail.end + self.mark.map_or(0, |mark| mark.frame_bytes())
    }
}

/// Decides what is at the end of the last segment; see the head of this file.
pub fn find(
    reader: &mut Reader<'_>,
    path: &Path,
    now: &End,
    known: Option<Known>,
) -> anyhow::Result<Option<Torn>> {
    let Tail { header, end, next_lsn, .. } = now.tail;
    let damage = |what: String| Damage::at(path, end, next_lsn, what);
    let mut at = end;
    while let Some((offset, later)) = reader.header_after(at)? {
        let Ok(later) = later else {
            let what = format!(
                "there is no valid batch here, and the frame at offset {offset}, of a later program, may \
                 say that there was one"
            );
            bail!(damage(what));
        };
        if later.durable_lsn >= next_lsn {
            let what = format!(
                "there is no valid batch here, but the frame at offset {offset} was written when \
                 everything up to LSN {} was on disk",
                later.durable_lsn
            );
            bail!(damage(what));
        }
        at = offset;
    }
    if now.is_followed() {
        let what = format!("segment {} has followed this one, and is missing", header.sequence + 1);
        bail!(damage(what));
    }
    if let Some(known) = known.filter(|known| known.lsn >= next_lsn) {
        let what = format!(
            "the log ends here, but everything up to LSN {} was on disk, as the file .durable beside it \
             says. (An older copy that was put here on purpose starts without that file)",
            known.lsn
        );
        bail!(damage(what));
    }
    if reader.file_bytes() < now.file_bytes && !now.is_closed() {
        let what = format!(
            "the file was {} bytes long when it was last written, and ends here without a mark \
             that it was closed",
            now.file_bytes
        );
        bail!(Damage::at(path, reader.file_bytes(), next_lsn, what));
    }
    // The start makes the file as long again, so an impossible length must not be believed: a
    // segment is prepared up to a limit, or filled up by less than that after its content.
    if now.file_bytes > end + LARGEST_SEGMENT_BYTES {
        let what = format!("the file cannot have been {} bytes long", now.file_bytes);
        bail!(damage(what));
    }
    // A mark is the end of the log, not something torn.
    let begin = match reader.frame_at(end)? {
        Ok(mark) if mark.header.kind != Kind::Batch => end + mark.header.frame_bytes(),
        _ => end,
    };
    let end = reader.content_end(begin)?;
    Ok((end > begin).then_some(Torn { offset: begin, end, lsn: next_lsn }))
}

/// Copies a torn batch to a file of its own, then overwrites it with zeros.
pub fn cut(disk: &dyn Disk, names: &Names, torn: &Torn) -> anyhow::Result<()> {
    assert!(torn.offset >= FIRST_FRAME && torn.offset < torn.end, "only what is torn is cut");
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
