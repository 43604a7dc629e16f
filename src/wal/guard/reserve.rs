//! Room on the volume: how long the next segment may be, and what the log leaves free for a way out.
//!
//! A volume may be small, or shared with other programs, so a segment takes only a share of the
//! free space, and a shorter segment is made rather than none. For the time when all space is used
//! up the log leaves two things:
//!
//! - room for a snapshot of the data, as long as other programs do not take it: a compaction needs
//!   it, and gives back everything else;
//! - the **reserve**, a file of zeros whose space no other program can take: a compaction gives it
//!   up. It lets a client that has removed enough get the server out of a full disk.
//!
//! Nothing here is ever read back. A crash at any call leaves a file that the next start uses or replaces.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::wal::block::BLOCK_BYTES;
use crate::wal::disk::{Access, Disk, DiskFile};
use crate::wal::names::Names;
use crate::wal::options::{LARGEST_SEGMENT_BYTES, Options};
use crate::wal::segment::{LARGE_PIECE, Segment};

/// A segment takes at most one `SHARE`th of the free space, so the log looks at the free space
/// several times before it is used up.
const SHARE: u64 = 8;

/// The first segment's length divided by this, 256 KiB or room for 64 batches, is the length of the
/// shortest segment, and of the end of a segment that is left to removals if no other can follow.
const LEAST_PART: u64 = 4;

/// The reserve is made only if there is `PLENTY` times as much room as it takes.
const PLENTY: u64 = 2;

/// What the log leaves free on its volume.
#[derive(Debug, Default)]
pub struct Reserve {
    snapshot_bytes: AtomicU64,
    stands: AtomicBool,
    bytes: u64,
}

impl Reserve {
    /// The reserve of a log with these options. The file is as long as the first segment: enough
    /// for the shortest one, and a snapshot of little data.
    pub(in crate::wal) fn new(options: &Options) -> Reserve {
        Reserve { bytes: options.first_segment_bytes, ..Reserve::default() }
    }

    /// How long the file of zeros is, if there is one.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From now on leaves room for `snapshot_bytes`, but not for more than the largest segment.
    pub fn keep(&self, snapshot_bytes: u64) {
        self.snapshot_bytes.store(snapshot_bytes.min(LARGEST_SEGMENT_BYTES), Ordering::Relaxed);
    }

    /// Whether the file of zeros is there.
    pub fn stands(&self) -> bool {
        self.stands.load(Ordering::Relaxed)
    }

    /// Removes the file of zeros; false if there is none.
    pub fn give_up(&self, disk: &dyn Disk, names: &Names) -> bool {
        self.stands.swap(false, Ordering::Relaxed) && remove(disk, names, &names.reserve())
    }

    /// Takes over the file that an earlier server has left.
    pub(in crate::wal) fn adopt(&self, disk: &dyn Disk, names: &Names) {
        let len = disk.open(&names.reserve(), Access::Buffered).and_then(|file| file.len());
        self.stands.store(len.is_ok_and(|len| len == self.bytes), Ordering::Relaxed);
    }

    /// Makes the file if there is none, and there is plenty of room.
    pub(in crate::wal) fn make(&self, disk: &dyn Disk, names: &Names, options: &Options) {
        let bytes = self.bytes;
        let has_plenty =
            || self.spendable(disk, names).is_ok_and(|(free, _)| free / PLENTY >= bytes);
        if self.stands() || !has_plenty() {
            return;
        }
        let path = names.reserve();
        let made = Segment::prepare(disk, &path, options.access(), bytes, &mut |_| 1)
            .and_then(|_| disk.sync_directory(names.directory()));
        match made {
            Ok(()) => self.stands.store(true, Ordering::Relaxed),
            Err(error) => {
                log::warn!("there is no reserve for a full disk: {error}");
                remove(disk, names, &path);
            }
        }
    }

    /// Bytes that may be used, and those that are left for a snapshot.
    pub(in crate::wal) fn spendable(
        &self,
        disk: &dyn Disk,
        names: &Names,
    ) -> io::Result<(u64, u64)> {
        let kept = self.snapshot_bytes.load(Ordering::Relaxed);
        Ok((disk.free_bytes(names.directory())?.saturating_sub(kept), kept))
    }

    /// Creates a segment of `wanted` bytes at `path`, or a shorter one if there is no room for
    /// that, in pieces as large as `pace` says. After an error nothing is left of it.
    pub(in crate::wal) fn prepare_segment(
        &self,
        disk: &dyn Disk,
        names: &Names,
        path: &Path,
        options: &Options,
        mut wanted: u64,
        pace: &mut dyn FnMut(u64, u64) -> usize,
    ) -> io::Result<Box<dyn DiskFile>> {
        let least = options.least_segment_bytes().min(wanted);
        loop {
            let (free, kept) = self.spendable(disk, names)?;
            let Some(len) = segment_bytes(wanted, least, free) else {
                let shown = path.display();
                let what = format!(
                    "{shown}: {least} bytes are needed, and {free} are free beside {kept} for a snapshot"
                );
                return Err(io::Error::new(io::ErrorKind::StorageFull, what));
            };
            let access = options.access();
            let made = Segment::prepare(disk, path, access, len, &mut |filled| pace(filled, len));
            match made {
                Ok(file) => return Ok(file),
                Err(error) => {
                    remove(disk, names, path);
                    if len == least || !is_about_space(&error) {
                        return Err(error);
                    }
                    log::debug!("{error}; a shorter segment may do");
                    wanted = (len / 2).next_multiple_of(BLOCK_BYTES as u64).max(least);
                }
            }
        }
    }
}

impl Reserve {
    /// Creates the shortest segment, even in the room left for a snapshot, so that clients can go
    /// on removing.
    pub(in crate::wal) fn prepare_last(
        &self,
        disk: &dyn Disk,
        names: &Names,
        path: &Path,
        options: &Options,
    ) -> io::Result<Box<dyn DiskFile>> {
        let (access, len) = (options.access(), options.least_segment_bytes());
        let made = Segment::prepare(disk, path, access, len, &mut |_| LARGE_PIECE)
            .and_then(|file| disk.sync_directory(names.directory()).map(|()| file));
        if made.is_err() {
            remove(disk, names, path);
        }
        made
    }
}

impl Options {
    /// The length of the shortest segment.
    fn least_segment_bytes(&self) -> u64 {
        (self.first_segment_bytes / LEAST_PART).next_multiple_of(BLOCK_BYTES as u64)
    }

    /// The length of a segment's end that only removals may use, unless another segment is ready.
    pub(in crate::wal) fn tail_bytes(&self, segment_bytes: u64) -> u64 {
        self.least_segment_bytes().min(segment_bytes / LEAST_PART)
    }
}

/// Whether a shorter file might do.
fn is_about_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn segment_bytes(wanted: u64, least: u64, free: u64) -> Option<u64> {
    let share = free / SHARE / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let len = wanted.min(share.max(least));
    (len <= free).then_some(len)
}

/// Removes a file, finished or not. The directory is synced because a file system with a journal
/// frees the space only then.
pub(in crate::wal) fn remove(disk: &dyn Disk, names: &Names, path: &Path) -> bool {
    let removed = disk.remove(path).and_then(|()| disk.sync_directory(names.directory()));
    match removed {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            log::warn!("a file that is not needed stays: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::segment_bytes;

    #[test]
    fn a_segment_is_as_long_as_wanted_or_a_share_of_what_is_free_or_the_least() {
        assert_eq!(segment_bytes(64 << 20, 1 << 18, 1 << 40), Some(64 << 20));
        assert_eq!(segment_bytes(64 << 20, 1 << 18, 80 << 20), Some(10 << 20));
        assert_eq!(segment_bytes(64 << 20, 1 << 18, 1 << 20), Some(1 << 18));
        assert_eq!(segment_bytes(64 << 20, 1 << 18, (1 << 18) - 1), None);
    }
}
