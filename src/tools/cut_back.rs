//! Takes a log back to an earlier batch, and keeps every byte that is cut beside it.
//!
//! It decides nothing: the caller says what to keep, and holds the log's lock. What it leaves is a log
//! that ends with a closing mark, so that a start does not miss what is gone.
//!
//! The order is such that a crash at any line leaves the log as it was, or one that no server starts on
//! and that can be taken back again (promise 4):
//!
//! 1. The note of how far the log was durable is removed (see [`crate::wal::guard::witness`]), and the tail of
//!    the segment that becomes the last is copied, durably. The log is as it was.
//! 2. The file at the log's own path is moved away, durably, unless it is kept. From here to the end every
//!    start is refused: older segments are there, and the last one is missing.
//! 3. The other segments that are not kept are moved away.
//! 4. The segment that becomes the last is cut, and the closing mark is written after its last batch.
//! 5. It gets the log's own name, and how far it is durable is noted again.
//!
//! If no segment can be kept, an empty one replaces them; it is made before step 2.

use std::path::{Path, PathBuf};

use super::inspect::Segment;
use crate::wal::block::BlockBuffer;
use crate::wal::chain::{Tail, closing_mark};
use crate::wal::disk::{Access, Disk};
use crate::wal::files::{self, Last};
use crate::wal::frame::{MAGIC, SegmentHeader};
use crate::wal::guard::witness::{self, Known, Witness};
use crate::wal::names::{Names, first_free, is_listed};
use crate::wal::torn::{self, Torn};

/// What is to be kept of a log, and where the rest goes.
#[derive(Clone, Debug)]
pub struct CutBack {
    /// The segment that becomes the last, up to its end. `None` if none can be kept.
    pub keep: Option<Segment>,
    /// The header of the empty segment that the log begins with in that case.
    pub anew: SegmentHeader,
    /// The bytes after that end, and the file that keeps them; `None` if there are only zeros.
    pub tail: Option<(Torn, PathBuf)>,
    /// The segments that are moved away, the last one first, and their new names.
    pub moved: Vec<(PathBuf, PathBuf)>,
}

impl CutBack {
    /// Takes the log back, in the order at the head of this file.
    pub fn carry_out(&self, disk: &dyn Disk, names: &Names) -> anyhow::Result<()> {
        let directory = names.directory();
        witness::forget(disk, names)?;
        if let (Some(keep), Some((tail, aside))) = (&self.keep, &self.tail) {
            let file = disk.open(&keep.path, Access::Direct)?;
            torn::keep(disk, names, &*file, tail, aside)?;
        }
        drop_prepared(disk, names)?;
        if self.keep.is_none() {
            let path = names.next();
            let anew = Segment::begin(&path, Tail::of_segment(self.anew));
            begin(disk, &anew)?;
            end_with_mark(disk, &anew)?;
            disk.sync_directory(directory)?;
        }
        for (from, to) in &self.moved {
            disk.rename(from, to)?;
            // The first one is the file at the log's own path: without it no server starts.
            disk.sync_directory(directory)?;
        }
        match &self.keep {
            Some(keep) => {
                end_with_mark(disk, keep)?;
                if keep.path != names.active() {
                    disk.rename(&keep.path, names.active())?;
                }
            }
            None => disk.rename(&names.next(), names.active())?,
        }
        disk.sync_directory(directory)?;
        let known = Known { store_id: self.end().header.store_id, lsn: self.kept_lsn() };
        Witness::open(disk, names, known)?;
        Ok(())
    }

    /// Where the log ends afterwards.
    fn end(&self) -> Tail {
        self.keep.as_ref().map_or(Tail::of_segment(self.anew), |keep| keep.tail)
    }

    /// The last record that is kept.
    pub fn kept_lsn(&self) -> u64 {
        self.end().next_lsn - 1
    }
}

fn begin(disk: &dyn Disk, segment: &Segment) -> anyhow::Result<()> {
    let mut block = BlockBuffer::default();
    block.extend_from_slice(&segment.tail.header.encode(MAGIC));
    disk.create(&segment.path, Access::Direct)?.write_synced_at(block.padded(), 0)?;
    Ok(())
}

/// Removes a prepared segment whose header was written before a crash just ahead of its renames. It holds
/// no record, and must not be taken for the last segment once that has been moved away.
fn drop_prepared(disk: &dyn Disk, names: &Names) -> anyhow::Result<()> {
    let next = names.next();
    if is_listed(&disk.list(names.directory())?, &next)
        && files::look(disk, names)?.last == Last::Active
        && SegmentHeader::decode(MAGIC, &files::first_block(disk, &next)?).is_ok()
    {
        disk.remove(&next)?;
        disk.sync_directory(names.directory())?;
    }
    Ok(())
}

/// Cuts a segment after its last batch and writes the closing mark there.
fn end_with_mark(disk: &dyn Disk, keep: &Segment) -> anyhow::Result<()> {
    let file = disk.open(&keep.path, Access::Direct)?;
    // Durable before the mark is written: even after a crash none of the tail may be after the mark.
    file.set_len(keep.tail.end)?;
    file.sync()?;
    let (_, mut mark) = closing_mark(&keep.tail);
    file.write_synced_at(mark.padded(), keep.tail.end)?;
    file.sync()?;
    Ok(())
}

/// A name beside `path` that is free, ending in `suffix`.
pub fn free_name(listed: &[PathBuf], path: &Path, suffix: &str) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.to_owned().into_os_string();
        match number {
            1 => name.push(format!(".{suffix}")),
            _ => name.push(format!(".{number}.{suffix}")),
        }
        PathBuf::from(name)
    };
    first_free(listed, (1..).map(name))
}
