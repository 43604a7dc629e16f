//! The doors by which clients come in, and the wire that connects each of them.
//!
//! A `Door` is a socket that listens: on an address, plain or encrypted, or on a path of this machine. All
//! doors are bound before anything else is touched, and listen together once the server can answer. One thread
//! waits for all of them. Nothing here knows requests or replies; how a connection is encrypted is known to the
//! room `tls` alone, which brings an [`Encryption`] to its door.

mod address;
mod tcp;
mod unix;
mod wire;

pub use address::Address;
pub use tcp::{Host, TcpPlan};
pub use unix::UnixPlan;
pub use wire::{Encrypted, Encryption, Waits, Wire};

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};

use unix::Place;

/// Connections that the kernel holds for us until we accept them; it lowers this to its own limit.
const BACKLOG: i32 = 4096;

/// The doors of a server. Dropping them closes them, and removes the path of a Unix socket.
#[derive(Default)]
pub struct Doors {
    all: Vec<Door>,
}

/// A socket to listen on.
struct Door {
    socket: OwnedFd,
    /// The address that it is bound to.
    address: Address,
    /// The encryption of its connections; `None` for plain ones.
    encryption: Option<Arc<dyn Encryption>>,
    /// The path that it has taken.
    place: Option<Place>,
}

/// Doors of a kind, as INFO shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Redis's name of the kind: `tcp`, `tls`, `unix`.
    pub kind: &'static str,
    /// The addresses, without their port, or the path.
    pub bound: Vec<String>,
    /// The port, or 0 if there is none.
    pub port: u16,
}

/// As INFO shows them.
impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name={},bind={}", self.kind, self.bound.join(",bind="))?;
        if self.port > 0 { write!(f, ",port={}", self.port) } else { Ok(()) }
    }
}

impl Doors {
    /// Binds the addresses of a plan, all to the same port.
    pub fn add_tcp(&mut self, plan: &TcpPlan) -> anyhow::Result<()> {
        for (socket, address) in tcp::bind(plan)? {
            let (address, encryption) = (Address::Net(address), plan.encryption.clone());
            self.all.push(Door { socket, address, encryption, place: None });
        }
        Ok(())
    }

    /// Takes the path of a Unix socket.
    pub fn add_unix(&mut self, plan: &UnixPlan) -> anyhow::Result<()> {
        let (socket, place) = unix::bind(plan)?;
        let address = Address::Path(Arc::from(&*plan.path));
        self.all.push(Door { socket, address, encryption: None, place: Some(place) });
        Ok(())
    }

    /// Whether nobody can come in.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Begins to listen at each door, or at none.
    pub fn open(&self) -> anyhow::Result<()> {
        for door in &self.all {
            door.place.as_ref().map_or(Ok(()), Place::check)?;
            net::listen(&door.socket, BACKLOG)
                .with_context(|| format!("cannot listen on {door}"))?;
        }
        self.all.iter().for_each(|door| log::info!("listening on {door}"));
        Ok(())
    }

    /// Waits until clients come, or there is something to read from `wake`. Lets one in by each door.
    pub fn accept(&self, wake: impl AsFd, mut admit: impl FnMut(io::Result<Wire>)) {
        let sockets = self.all.iter().map(|door| PollFd::new(&door.socket, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = sockets.collect();
        polled.push(PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN));
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return admit(Err(errno.into())),
        }
        for (door, polled) in self.all.iter().zip(&polled) {
            if !polled.revents().is_empty() {
                door.accept().into_iter().for_each(&mut admit);
            }
        }
    }

    /// The doors by kind, in Redis's order.
    pub fn listening(&self) -> Vec<Listening> {
        let mut found: Vec<Listening> = Vec::new();
        for door in &self.all {
            let (kind, bound, port) = match &door.address {
                Address::Net(at) if door.encryption.is_some() => {
                    ("tls", at.ip().to_string(), at.port())
                }
                Address::Net(at) => ("tcp", at.ip().to_string(), at.port()),
                Address::Path(path) => ("unix", path.display().to_string(), 0),
            };
            match found.iter_mut().find(|all| all.kind == kind && all.port == port) {
                Some(all) => all.bound.push(bound),
                None => found.push(Listening { kind, bound: vec![bound], port }),
            }
        }
        let order =
            |all: &Listening| ["tcp", "unix", "tls"].iter().position(|kind| *kind == all.kind);
        found.sort_by_key(order);
        found
    }
}

impl Door {
    /// The next client; `None` if it has gone meanwhile.
    fn accept(&self) -> Option<io::Result<Wire>> {
        // Never blocks, because the door's socket does not.
        let (socket, peer) = match net::acceptfrom_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(accepted) => accepted,
            Err(errno) if is_about_one_client(errno) => return None,
            Err(errno) => return Some(Err(errno.into())),
        };
        let encrypted = self.encryption.as_ref().map(|encryption| encryption.begin()).transpose();
        Some(encrypted.map(|encrypted| match &self.address {
            Address::Net(_) => Wire::tcp(socket, peer, encrypted),
            path => Wire::unix(socket, path.clone()),
        }))
    }
}

/// As messages name it.
impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.encryption) {
            (Address::Net(address), None) => write!(f, "{address}"),
            (Address::Net(address), Some(_)) => write!(f, "{address} with TLS"),
            (Address::Path(path), _) => write!(f, "{}", Path::display(path)),
        }
    }
}

/// Whether an error of `accept` concerns only the connection that was to be accepted.
fn is_about_one_client(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::AGAIN
            | Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::PERM
            | Errno::ACCESS
            | Errno::PROTO
    )
}
