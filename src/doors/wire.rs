//! The wire that connects one client: a TCP or a Unix socket, plain or encrypted.
//!
//! Only the client's own thread receives, and may wait. Any thread may send, one at a time, and never waits. A
//! plain connection pays one comparison for the other kind.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, SocketAddrAny, sockopt};

use super::Address;

/// How long a connection is silent before the kernel probes whether its peer is still there: Redis's
/// `tcp-keepalive`.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Whether to wait if there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Until there is something.
    Yes,
    /// Not at all.
    No,
}

/// The encryption of a door, by which it begins that of each connection.
pub trait Encryption: Send + Sync {
    /// The encryption of a new connection.
    fn begin(&self) -> io::Result<Box<dyn Encrypted>>;
}

/// The encryption of one connection.
pub trait Encrypted: Send + Sync {
    /// Receives plain bytes, as many as have arrived and fit: 0 says that no more will come. Bytes that cannot
    /// be decrypted, and a handshake that takes too long, are `InvalidData`, with a sentence for the operator.
    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8], waits: Waits)
    -> io::Result<usize>;

    /// Sends some of these plain bytes without waiting: the returned number is with the operating system. After
    /// `AGAIN` the next call begins with the same bytes.
    fn send(&self, socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize>;

    /// Tells the client that nothing more will come, if the socket takes that at once.
    fn say_goodbye(&self, socket: BorrowedFd<'_>);
}

/// See the head of this file.
pub struct Wire {
    socket: OwnedFd,
    /// The client's own address.
    pub peer: Address,
    /// The address that it has connected to.
    pub local: Option<Address>,
    encrypted: Option<Box<dyn Encrypted>>,
}

impl Wire {
    pub(super) fn tcp(
        socket: OwnedFd,
        peer: Option<SocketAddrAny>,
        encrypted: Option<Box<dyn Encrypted>>,
    ) -> Wire {
        let address = |any: SocketAddrAny| SocketAddr::try_from(any).ok().map(Address::Net);
        let local = net::getsockname(&socket).ok().and_then(address);
        let peer = peer.and_then(address);
        let unknown = || Address::Net(SocketAddr::from(([0, 0, 0, 0], 0)));
        Wire { socket, peer: peer.unwrap_or_else(unknown), local, encrypted }
    }

    /// Of a Unix socket, whose clients have the address of their door.
    pub fn unix(socket: OwnedFd, door: Address) -> Wire {
        Wire { socket, peer: door.clone(), local: Some(door), encrypted: None }
    }

    /// Has replies leave when they are ready, since waiting to fill a packet only delays them; and has the kernel
    /// notice in the end that a peer has vanished.
    pub fn prepare(&self) -> io::Result<()> {
        if let Address::Net(_) = self.peer {
            sockopt::set_tcp_nodelay(&self.socket, true)?;
            sockopt::set_socket_keepalive(&self.socket, true)?;
            sockopt::set_tcp_keepidle(&self.socket, KEEPALIVE)?;
        }
        Ok(())
    }

    /// Receives the bytes that have arrived, as many as fit; 0 says that nothing more will come.
    pub fn receive(&self, buffer: &mut [u8], waits: Waits) -> io::Result<usize> {
        if let Some(encrypted) = &self.encrypted {
            return encrypted.receive(self.socket.as_fd(), buffer, waits);
        }
        let flags = match waits {
            Waits::Yes => RecvFlags::empty(),
            Waits::No => RecvFlags::DONTWAIT,
        };
        Ok(net::recv(&self.socket, buffer, flags)?.0)
    }

    /// Receives and throws away what has arrived, as it is, for [`Wire::wait`]; 0 says that nothing more will come.
    pub fn throw_away(&self) -> io::Result<usize> {
        Ok(net::recv(&self.socket, &mut [0; 4096], RecvFlags::DONTWAIT)?.0)
    }

    /// Waits this long at most for something to arrive.
    pub fn wait(&self, at_most: Duration) {
        // A failure is no reason to wait.
        let _ = self.poll(PollFlags::IN, at_most);
    }

    /// Sends some of these bytes; `AGAIN` if the socket takes none now.
    pub fn send(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match &self.encrypted {
            None => net::send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Some(encrypted) => encrypted.send(self.socket.as_fd(), bytes),
        }
    }

    /// Tells a client of TLS that nothing more will come: without this, an attacker may have cut the connection.
    pub fn say_goodbye(&self) {
        if let Some(encrypted) = &self.encrypted {
            encrypted.say_goodbye(self.socket.as_fd());
        }
    }

    /// Tells a client in one line why it is turned away; an encrypted one would not understand it. This never
    /// waits: an empty socket takes a line at once.
    pub fn turn_away(&self, line: &str) -> io::Result<()> {
        if self.encrypted.is_none() {
            self.send(line.as_bytes())?;
        }
        self.shut(Shutdown::Both)
    }

    /// Ends one direction or both. That the peer is gone already is as good.
    pub fn shut(&self, what: Shutdown) -> io::Result<()> {
        match net::shutdown(&self.socket, what) {
            Err(errno) if errno != Errno::NOTCONN => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// Whether the connection was closed by both sides, or reset.
    pub fn has_hung_up(&self) -> bool {
        // A failure says nothing about the client.
        self.poll(PollFlags::empty(), Duration::ZERO).is_ok_and(|count| count > 0)
    }

    /// Whether the client has closed its side too, once ours is.
    pub fn is_closed(&self) -> bool {
        match self.peer {
            // A connection that both sides have closed has no peer any more.
            Address::Net(_) => net::getpeername(&self.socket).is_err(),
            Address::Path(_) => self.has_hung_up(),
        }
    }

    fn poll(&self, flags: PollFlags, at_most: Duration) -> rustix::io::Result<usize> {
        let time =
            Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.socket, flags)], Some(&time))
    }

    /// The number of its descriptor, for CLIENT LIST.
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// To be watched by the flusher.
impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
