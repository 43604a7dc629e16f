//! The tools in a build without the feature `tools`: there are none. The import of a log of the seed's program
//! is there, because a start needs it; it brings no crates.

pub mod import;

use std::process::ExitCode;

/// No tool can be asked for.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Tool {}

/// Is never called.
pub fn run(tool: &Tool) -> ExitCode {
    match *tool {}
}
