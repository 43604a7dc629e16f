//! The address of a client, or of the door that it has connected to.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// See the head of this file. Shown as Redis shows it: `127.0.0.1:1234`, `[::1]:1234`, `/run/x.sock:0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Net(SocketAddr),
    /// The path of a Unix socket: its clients have no addresses of their own.
    Path(Arc<Path>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Net(address) => write!(f, "{address}"),
            Address::Path(path) => write!(f, "{}:0", path.display()),
        }
    }
}
