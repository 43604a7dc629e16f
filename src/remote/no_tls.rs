//! TLS to a server, in a build without the feature `tls`: there is none.

use std::io;
use std::net::TcpStream;

use super::stream::{Stream, Timed};

/// There are none.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {}

/// There is none.
pub enum Plan {}

impl Flags {
    /// A connection is never encrypted.
    pub fn plan(&self) -> anyhow::Result<Option<Plan>> {
        Ok(None)
    }
}

/// Is never called.
pub fn encrypt(_: Timed<TcpStream>, _: &str, plan: &Plan) -> io::Result<Box<dyn Stream>> {
    match *plan {}
}
