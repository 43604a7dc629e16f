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

/// Whether it is an address, and no path: `://` after a scheme (RFC 3986, section 3.1).
pub fn is_address(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    let may_have = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.is_some_and(|it| {
        it.starts_with(|c: char| c.is_ascii_alphabetic()) && it.bytes().all(may_have)
    })
}

/// The file that a log's path means: with symbolic links followed, because a rotation replaces the
/// file of that name. Refuses what cannot be a log.
pub fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    if is_address(path) {
        bail!(
            "{shown}: is an address, and a path is needed here; for a log in etcd the program is built with the feature replicated"
        );
    }
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

/// Removes a directory in which nothing is left, durably.
pub fn remove_directory(directory: &Path) -> anyhow::Result<()> {
    fs::remove_dir(directory)
        .and_then(|()| File::open(directory_of(directory))?.sync_all())
        .with_context(|| format!("{}: cannot remove the directory", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_a_path() {
        for address in ["etcd://a:1/x", "etcds://", "ETCD://a", "http://a/b"] {
            assert!(is_address(Path::new(address)), "{address}");
            let refused = resolve(Path::new(address)).expect_err(address).to_string();
            assert!(refused.contains("a path is needed"), "{refused}");
        }
        for path in ["/var/lib/etcd", "etcd", "etcd:/a", "./etcd://a", "a b://c", "1://", "://", ""]
        {
            assert!(!is_address(Path::new(path)), "{path}");
        }
    }
}
