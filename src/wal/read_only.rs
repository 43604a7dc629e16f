//! Reads a log that a server may be writing, and changes nothing: for the tools alone.
//!
//! [`ReadOnlyDisk`] cannot change anything, and [`user`] finds the process that has the log in use
//! without creating, writing or keeping a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::disk::{Access, Disk, DiskFile, SystemDisk, named};
use super::lock::{owner, says_that_a_log_was_there};
use super::names::Names;

/// The operating system's file system, with nothing changed: files are opened for reading only, and
/// every call that would change a name is refused.
#[derive(Debug, Default)]
pub struct ReadOnlyDisk;

impl ReadOnlyDisk {
    fn refuse<T>(&self, path: &Path) -> io::Result<T> {
        Err(named(path)(ErrorKind::ReadOnlyFilesystem.into()))
    }
}

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        SystemDisk.open_with(OpenOptions::new().read(true), path, access)
    }

    fn create(&self, path: &Path, _: Access) -> io::Result<Box<dyn DiskFile>> {
        self.refuse(path)
    }

    fn rename(&self, from: &Path, _: &Path) -> io::Result<()> {
        self.refuse(from)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.refuse(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        SystemDisk.list(directory)
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        SystemDisk.free_bytes(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.refuse(directory)
    }
}

/// The process that has the log in use, if one has.
pub fn user(names: &Names) -> anyhow::Result<Option<String>> {
    if let Some(process) = holder(&names.lock())? {
        return Ok(Some(process));
    }
    let unknown = "unknown, which has it under another name, or whose lock file was deleted";
    Ok(is_locked(names.active())?.then(|| unknown.to_owned()))
}

/// Whether the lock file at `path` says that a server has had a log here.
pub fn has_served(path: &Path) -> anyhow::Result<bool> {
    match fs::read(path) {
        Ok(content) => Ok(says_that_a_log_was_there(&content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read", path.display())),
    }
}

/// The process that holds the lock at `path`, if one does, as the file names it. Creates nothing, writes
/// nothing, and keeps no lock.
fn holder(path: &Path) -> anyhow::Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot open", path.display()));
        }
    };
    // Shared, so that two tools are not in each other's way.
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(owner(&mut file))),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}: cannot try the lock", path.display()))
        }
    }
}

/// Whether a process has locked the segment at `path`. Keeps no lock.
fn is_locked(path: &Path) -> anyhow::Result<bool> {
    let tried = match File::open(path) {
        Ok(file) => file.try_lock_shared(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => Err(TryLockError::Error(error)),
    };
    match tried {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}: cannot try the lock", path.display()))
        }
    }
}
