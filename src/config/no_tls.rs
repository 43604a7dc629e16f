//! The flags of TLS in a build without the feature `tls`: there are none, and no such port.

use crate::doors::{Doors, Host};
use crate::server::Reload;

/// No flag.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {}

impl Flags {
    /// The port, if there is one.
    pub fn port(self) -> Option<u16> {
        None
    }

    /// Whether anyone may come in.
    pub fn lets_strangers_in(self) -> bool {
        false
    }

    /// Binds nothing.
    pub fn add_to(
        self,
        _: &mut Doors,
        _: impl FnOnce() -> anyhow::Result<Vec<Host>>,
        _: &mut Vec<Reload>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    /// The settings that CONFIG GET shows.
    pub fn shown(self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Checks nothing, because there are no files.
    pub fn check(self) -> anyhow::Result<()> {
        Ok(())
    }
}
