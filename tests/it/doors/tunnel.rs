//! A tunnel from a port of this machine to another kind of door, so that any test's client can come in by it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where a tunnel leads.
#[derive(Clone)]
pub enum Way {
    Unix(PathBuf),
}

/// Dropping it lets no more clients in.
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
                std::thread::spawn(move || match way {
                    // The server is gone, and so is the test.
                    Way::Unix(path) => {
                        UnixStream::connect(path).and_then(|door| plain(client, door))
                    }
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
