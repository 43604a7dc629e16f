//! The directory of a log, and the file that its path means.
//!
//! A path that cannot hold a log is refused here, before anything is made there.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The directory that a file is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Refuses a directory that is missing: its volume may not be mounted. An empty store served
/// instead would look like lost data, and its own data would be missing once the volume is back.
pub fn check_directory(directory: &Path) -> anyhow::Result<()> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("{shown}: is not a directory, so no log can be in it"),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "{shown}: there is no such directory, and none is made: if it is on a volume that is not \
             mounted, an empty store would be served in place of its log. Mount the volume, or make \
             the directory for a new log: mkdir -p {shown}"
        ),
        Err(error) => Err(error).with_context(|| format!("{shown}: cannot look at it")),
    }
}

/// The file that a log's path means: with symbolic links followed, because a rotation replaces the
/// file of that name. Refuses what cannot be a log.
pub fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    if path.symlink_metadata().is_err() {
        return Ok(path.to_owned());
    }
    // Between the two renames of a rotation a link leads to no file.
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

/// Creates a directory and makes every name on the way durable: a log is lost with its directory.
pub fn create_directory(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    let parent = directory_of(directory);
    create_directory(parent)?;
    fs::create_dir(directory)
        .and_then(|()| File::open(parent)?.sync_all())
        .with_context(|| format!("{}: cannot create the directory", directory.display()))
}
