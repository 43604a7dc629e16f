//! The few calls the log makes to the file system, and nothing else.
//!
//! A trait, so that tests can replace it by a double that remembers what was synced and fails on
//! command. [`SystemDisk`] is the real one. It never retries a failed sync, never hides an error,
//! and adds the path to each.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::block::{BLOCK_BYTES, Block, bytes_of};
use super::lock;

/// Whether reads and writes go through the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache, to and from the device itself, where the file system allows it. After a
    /// failed sync the page cache may hold bytes that the device never got, and a later sync
    /// reports success; only what the device gives back can be trusted (Rebello et al., "Can
    /// Applications Recover from fsync Failures?", USENIX ATC 2020).
    Direct,
    /// Through the page cache: for logs that are not synced on every batch.
    Buffered,
}

/// The file system: the calls on names. Those on an open file are in [`DiskFile`].
pub trait Disk: Send + Sync {
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a file, or empties the one that is there.
    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, replacing any file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    /// Bytes that may still be written to the file system of a directory.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// An open file of blocks.
#[expect(clippy::len_without_is_empty, reason = "no caller asks")]
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads until `blocks` is full or the file ends; returns the number of bytes read.
    fn read_at(&self, blocks: &mut [Block], offset: u64) -> io::Result<usize>;
    /// Writes all of `blocks`, or fails.
    fn write_at(&self, blocks: &[Block], offset: u64) -> io::Result<()>;
    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
    /// Writes all of `blocks` and makes them durable: the commit.
    fn write_synced_at(&self, blocks: &[Block], offset: u64) -> io::Result<()>;
    /// Cuts the file to `len` bytes, or lengthens it by a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Locks the file itself, whatever its name, until it is closed; false if another process holds
    /// the lock. A disk that no other process can reach always grants it.
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
    /// Reserves space for these bytes, so that writing them does not fail for lack of it; bytes not
    /// yet written read as zeros. The file is then at least long enough to hold them, and may be
    /// after an error, too. (If the file system has no such call, only the length is set.)
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Debug, Default)]
pub struct SystemDisk;

impl SystemDisk {
    pub(super) fn open_with(
        &self,
        options: &mut OpenOptions,
        path: &Path,
        access: Access,
    ) -> io::Result<Box<dyn DiskFile>> {
        let direct = OFlags::DIRECT.bits().cast_signed();
        let opened = match access {
            Access::Direct => options.custom_flags(direct).open(path),
            Access::Buffered => options.open(path),
        };
        let (file, cached) = match opened {
            Ok(file) => (file, access == Access::Buffered),
            // Some file systems have no direct I/O, and report it with EINVAL.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                log::info!("{}: no direct I/O here; using the page cache", path.display());
                (options.custom_flags(0).open(path).map_err(named(path))?, true)
            }
            Err(error) => return Err(named(path)(error)),
        };
        if !file.metadata().map_err(named(path))?.is_file() {
            let what = format!("{}: not a regular file", path.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        if cached && access == Access::Direct {
            // The next best thing to direct reads: drop what the cache holds.
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)?;
        }
        Ok(Box::new(SystemFile { file, path: path.to_owned() }))
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        self.open_with(OpenOptions::new().read(true).write(true), path, access)
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        self.open_with(options, path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(named(from))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(named(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory).map_err(named(directory))?;
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(named(directory))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let status =
            rustix::fs::statvfs(directory).map_err(|errno| named(directory)(errno.into()))?;
        // Not `f_bfree`, even for root: ext4 includes blocks in it that it keeps for itself.
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)
            .and_then(|open| Ok(rustix::fs::fsync(open)?))
            .map_err(named(directory))
    }
}

/// Warns if a directory is in memory: a power cut takes even what was synced there.
pub fn warn_if_in_memory(directory: &Path) {
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58f6;
    let kind = rustix::fs::statfs(directory).map(|status| i128::from(status.f_type));
    if kind.is_ok_and(|kind| kind == TMPFS || kind & 0xffff_ffff == RAMFS) {
        log::warn!("{}: is in memory; a power cut takes the log with it", directory.display());
    }
}

struct SystemFile {
    file: File,
    path: PathBuf,
}

impl SystemFile {
    /// Adds the file's present name, as the kernel knows it: it may have been renamed since it was
    /// opened.
    fn named(&self, error: io::Error) -> io::Error {
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let now = fs::read_link(link).ok().filter(|path| path.exists());
        named(now.as_deref().unwrap_or(&self.path))(error)
    }
}

impl DiskFile for SystemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.named(error))?.len())
    }

    fn read_at(&self, blocks: &mut [Block], offset: u64) -> io::Result<usize> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(blocks);
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.named(error)),
            }
            // A direct read is short only at the end of the file, and cannot go on from there.
            if !filled.is_multiple_of(BLOCK_BYTES) {
                break;
            }
        }
        Ok(filled)
    }

    fn write_at(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes_of(blocks), offset).map_err(|error| self.named(error))
    }

    fn sync(&self) -> io::Result<()> {
        // Not std's, which repeats an interrupted sync although its outcome is unknown.
        rustix::fs::fsync(&self.file).map_err(|errno| self.named(errno.into()))
    }

    /// One system call if the kernel offers it (`RWF_DSYNC`, Linux 4.7), which costs the same write
    /// and flush as a write followed by `fdatasync`. A short count is not yet success: those bytes
    /// are durable, and another call writes the rest.
    fn write_synced_at(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        let bytes = bytes_of(blocks);
        let mut done = 0;
        while done < bytes.len() {
            let rest = [IoSlice::new(&bytes[done..])];
            let at = offset + done as u64;
            match rustix::io::pwritev2(&self.file, &rest, at, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(self.named(ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.file
                        .write_all_at(&bytes[done..], at)
                        .map_err(|error| self.named(error))?;
                    return rustix::fs::fdatasync(&self.file).map_err(|e| self.named(e.into()));
                }
                Err(errno) => return Err(self.named(errno.into())),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|error| self.named(error))
    }

    fn try_lock(&self) -> io::Result<bool> {
        lock::try_lock(&self.file).map_err(|error| self.named(error))
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        loop {
            return match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, bytes) {
                Ok(()) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::NOSYS | Errno::OPNOTSUPP) if self.len()? < offset + bytes => {
                    self.set_len(offset + bytes)
                }
                Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
                Err(errno) => Err(self.named(errno.into())),
            };
        }
    }
}

/// Puts the path in front of an error's own words and keeps its kind.
pub(super) fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), Named { path, error })
}

#[derive(Debug)]
struct Named {
    path: String,
    error: io::Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.error)
    }
}

impl std::error::Error for Named {}
