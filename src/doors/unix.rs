//! A door on a path of this machine, for programs that run beside the server.
//!
//! A socket that a dead server has left at the path is replaced. Nothing else there is ever removed: neither a file
//! that is no socket, nor a socket at which a program answers. Its permissions are set before it listens. Two servers
//! that start together may both take the path for free; the first then notices before it listens that the path is no
//! longer its own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The longest path: the room for it in `sockaddr_un`, less the zero after it (unix(7)).
const PATH_BYTES: usize = 107;

/// A Unix socket to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPlan {
    /// The path.
    pub path: PathBuf,
    /// The permissions of the socket, as chmod(1) has them: a user with permission to write to it may connect.
    pub mode: u32,
}

impl UnixPlan {
    /// Refuses a path at which no socket could be, without touching it.
    pub fn check(&self) -> anyhow::Result<()> {
        let shown = format!("-unixsocket {}", self.path.display());
        ensure!(
            self.path.as_os_str().len() <= PATH_BYTES,
            "{shown}: a path of a socket has at most {PATH_BYTES} bytes"
        );
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let is_there = directory.is_none_or(Path::is_dir);
        ensure!(is_there, "{shown}: there is no such directory");
        Ok(())
    }
}

/// The path that a socket has taken. Dropping it removes the socket, if the path is still its own.
pub struct Place {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> io::Result<Place> {
        Ok(Place { path: path.to_owned(), file: Place::file_at(path)? })
    }

    fn file_at(path: &Path) -> io::Result<(u64, u64)> {
        let found = fs::symlink_metadata(path)?;
        Ok((found.dev(), found.ino()))
    }

    fn is_own(&self) -> bool {
        Place::file_at(&self.path).is_ok_and(|file| file == self.file)
    }

    /// Refuses if the path was taken away.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.is_own(),
            "-unixsocket {}: another server has taken this path. Give each server a path of its own",
            self.path.display()
        );
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_own()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("{}: cannot remove the socket: {error}", self.path.display());
        }
    }
}

/// Takes the path.
pub(super) fn bind(plan: &UnixPlan) -> anyhow::Result<(OwnedFd, Place)> {
    let path = &*plan.path;
    let at = || format!("-unixsocket {}", path.display());
    plan.check()?;
    let address = SocketAddrUnix::new(path).with_context(at)?;
    remove_stale(path, &address)?;
    let socket = stream(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).with_context(at)?;
    net::bind(&socket, &address).with_context(|| format!("{}: cannot listen there", at()))?;
    let place = Place::of(path).with_context(at)?;
    fs::set_permissions(path, fs::Permissions::from_mode(plan.mode))
        .with_context(|| format!("{}: cannot set its permissions", at()))?;
    Ok((socket, place))
}

/// Removes a socket at which nobody listens, and nothing else.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> anyhow::Result<()> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("-unixsocket {shown}")),
    };
    if !found.file_type().is_socket() {
        bail!(
            "-unixsocket {shown}: something else is there, which is not touched. Name another path, or move it"
        );
    }
    let probe = stream(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        .with_context(|| format!("-unixsocket {shown}"))?;
    match net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {
            log::info!("-unixsocket {shown}: nobody listens at the socket that is there; it is replaced");
            fs::remove_file(path).with_context(|| format!("-unixsocket {shown}: cannot replace it"))
        }
        // AGAIN: a living one whose queue is full.
        Ok(()) | Err(Errno::AGAIN) => bail!(
            "-unixsocket {shown}: another program listens there. Stop it, or name another path"
        ),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).with_context(|| {
            format!("-unixsocket {shown}: cannot tell whether the socket there is in use; remove it if it is not")
        }),
    }
}

fn stream(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both found a dead server's socket at the path; only the one that came last may listen.
    #[test]
    fn the_first_of_two_servers_that_took_one_path_notices_and_leaves_the_other_s_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = UnixPlan { path: dir.path().join("socket"), mode: 0o700 };
        let (_first_socket, first) = bind(&plan).expect("it is free");
        let (_second_socket, second) = bind(&plan).expect("nobody listens yet");
        let refused = first.check().expect_err("it was taken away").to_string();
        assert!(refused.contains("another server has taken this path"), "{refused}");
        second.check().expect("it is its own");
        drop(first);
        assert!(plan.path.exists());
        drop(second);
        assert!(!plan.path.exists());
    }
}
