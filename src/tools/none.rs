//! The tools in a build without the feature `tools`: there are none. Only the import of a log of the seed's
//! program remains, because a start needs it; it needs no further crates.

pub mod import;

use std::process::ExitCode;

/// No tool can be asked for.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Tool {}

/// Is never called, since a `Tool` has no values.
pub fn run(tool: &Tool) -> ExitCode {
    match *tool {}
}
