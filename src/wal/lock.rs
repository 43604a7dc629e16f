//! One server per log.
//!
//! The lock is the operating system's (`flock`): it ends with the process, however that ends, so
//! there is no stale lock to remove. The file stays; removing it would let two servers lock two
//! files of one name. It holds the process id for people to read, and decides nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Held as long as the log is in use.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, and makes the directory first if there is none.
    pub fn acquire(path: &Path) -> anyhow::Result<Lock> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        create_directory(directory)?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file =
            opened.with_context(|| format!("{}: cannot open the lock file", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message; whatever it says, the log is in use.
                file.read_to_string(&mut owner).unwrap_or_default();
                bail!(
                    "{}: the log is in use by process {}; stop it first, or name another log",
                    path.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{}: cannot lock", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .with_context(|| format!("{}: cannot write", path.display()))?;
        Ok(Lock { _file: file })
    }
}

/// Who holds the lock at `path`, if anyone does: what the file says of that. Creates nothing, writes
/// nothing, and keeps no lock.
pub fn holder(path: &Path) -> anyhow::Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot open", path.display()));
        }
    };
    // Shared, so that two who only look are not in each other's way.
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the message.
            file.read_to_string(&mut owner).unwrap_or_default();
            Ok(Some(owner.trim().to_owned()))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}: cannot try the lock", path.display()))
        }
    }
}

/// The file that a log's path means: behind any symbolic links, because a change of segment puts
/// another file in place of the one of that name. Refuses what cannot be a log.
pub fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    if path.symlink_metadata().is_err() {
        return Ok(path.to_owned());
    }
    // Between the two renames of a change of segment there is nothing behind a link.
    if let Ok(target) = path.read_link()
        && !path.exists()
    {
        let beside = path.parent().unwrap_or(Path::new(""));
        return Ok(beside.join(target));
    }
    let resolved = path.canonicalize().with_context(|| format!("{shown}: cannot follow it"))?;
    let kind = resolved.metadata().with_context(|| format!("{shown}: cannot look at it"))?;
    if kind.is_dir() {
        bail!("{shown}: is a directory; name a file in it, such as {shown}/wal_file");
    }
    if !kind.is_file() {
        bail!("{shown}: not a regular file, so it cannot be a log");
    }
    Ok(resolved)
}

/// Creates a directory and makes every name on the way durable: a log is lost with the directory
/// that it is in.
pub fn create_directory(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create_directory(parent)?;
    fs::create_dir(directory)
        .and_then(|()| File::open(parent)?.sync_all())
        .with_context(|| format!("{}: cannot create the directory", directory.display()))
}
