//! TLS 1.2 and 1.3 at a door, by rustls with ring.
//!
//! Certificates are read at the start and at SIGHUP; connections that are open go on with what they began with. The
//! core knows only [`Encryption`], by which a door begins each connection, and [`Encrypted`], by which a connection
//! receives and sends. A client that is asked for a certificate and has none that the authority signed never
//! gets as far as a request.

mod files;
mod session;

pub use files::{Asked, Files};

use std::io;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::doors::{Encrypted, Encryption};
use crate::sync::Mutex;
use session::Session;

/// What the connections of a door are encrypted by.
pub struct Tls {
    files: Files,
    config: Mutex<Arc<ServerConfig>>,
}

impl Tls {
    /// With what these files hold now.
    pub fn read(files: Files) -> anyhow::Result<Tls> {
        let config = Mutex::new(files.read()?);
        Ok(Tls { files, config })
    }

    /// Reads the files anew, for connections that begin after that. If one cannot be used, all stays as it was. No
    /// session from before is resumed: it may rest on an authority that is no longer trusted.
    pub fn reload(&self) -> anyhow::Result<()> {
        let config = self.files.read()?;
        *self.config.lock() = config;
        Ok(())
    }
}

impl Encryption for Tls {
    fn begin(&self) -> io::Result<Box<dyn Encrypted>> {
        let config = self.config.lock().clone();
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Box::new(Session::new(connection)))
    }
}
