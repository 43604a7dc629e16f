//! A tunnel from a port of this machine to another kind of door, so that any test's client can come in by it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where a tunnel leads.
#[derive(Clone)]
pub enum Way {
    Unix(PathBuf),
    #[cfg(feature = "tls")]
    Tls(SocketAddr, std::sync::Arc<rustls::ClientConfig>),
}

/// Where its clients come in.
pub struct Tunnel {
    pub address: SocketAddr,
}

impl Tunnel {
    pub fn to(way: Way) -> Tunnel {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, way) = (client.expect("a client"), way.clone());
                // An error is an end: the client sees it.
                std::thread::spawn(move || match way {
                    Way::Unix(path) => plain(client, UnixStream::connect(path)?),
                    #[cfg(feature = "tls")]
                    Way::Tls(address, config) => encrypted::run(client, address, config),
                });
            }
        });
        Tunnel { address }
    }
}

fn plain(client: TcpStream, door: UnixStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (mut from_client, mut to_door) = (client.try_clone()?, door.try_clone()?);
    std::thread::spawn(move || {
        // Ends with the client's sending side, whose end is handed on.
        let _ = io::copy(&mut from_client, &mut to_door);
        to_door.shutdown(Shutdown::Write)
    });
    let (mut from_door, mut to_client) = (door, client);
    let copied = io::copy(&mut from_door, &mut to_client);
    to_client.shutdown(Shutdown::Write)?;
    copied.map(drop)
}

#[cfg(feature = "tls")]
mod encrypted {
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    use std::sync::Arc;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustls::{ClientConfig, ClientConnection};

    /// The most that waits for the client.
    const BACKLOG: usize = 1 << 20;

    /// Both directions on one thread, because the connection is one.
    pub fn run(mut client: TcpStream, to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<()> {
        let mut door = TcpStream::connect(to)?;
        for socket in [&client, &door] {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
        }
        let name = to.ip().into();
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let (mut backlog, mut part) = (Vec::new(), vec![0; 16 << 10]);
        let (mut sends, mut receives) = (true, true);
        while receives || !backlog.is_empty() {
            let mut at_client = PollFlags::empty();
            at_client.set(PollFlags::IN, sends && !tls.wants_write());
            at_client.set(PollFlags::OUT, !backlog.is_empty());
            let mut at_door = PollFlags::empty();
            at_door.set(PollFlags::IN, receives && backlog.len() < BACKLOG);
            at_door.set(PollFlags::OUT, tls.wants_write());
            poll(&mut [PollFd::new(&client, at_client), PollFd::new(&door, at_door)], None)?;
            if receives && backlog.len() < BACKLOG {
                match tls.read_tls(&mut door) {
                    Ok(0) => receives = false,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => drop(read?),
                }
                let state = tls.process_new_packets().map_err(io::Error::other)?;
                receives &= !state.peer_has_closed();
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut plain)?;
                backlog.append(&mut plain);
            }
            if sends && !tls.wants_write() {
                match client.read(&mut part) {
                    Ok(0) => {
                        sends = false;
                        tls.send_close_notify();
                    }
                    Ok(count) => tls.writer().write_all(&part[..count])?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            if tls.wants_write() {
                would_block(tls.write_tls(&mut door))?;
            }
            if !backlog.is_empty() {
                let written = would_block(client.write(&backlog))?;
                backlog.drain(..written);
            }
        }
        client.shutdown(Shutdown::Write)
    }

    fn would_block(result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }
}
