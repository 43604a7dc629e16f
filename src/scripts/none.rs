//! Scripts in a build without the feature `scripts`: there are none, and their commands are unknown.

mod limits;

use std::sync::Arc;

use crate::command::{Command, ScriptCommand, Text, Words};
use crate::metrics::Metrics;
pub use limits::Limits;

/// Nothing.
#[derive(Debug)]
pub struct Scripts(());

impl Scripts {
    /// Nothing.
    pub fn new(_: Limits, _: Arc<Metrics>) -> Scripts {
        Scripts(())
    }

    /// Is not called, since no row of the commands' table names a script.
    pub fn command(&self, _: ScriptCommand, _: &Words<'_>) -> Result<Command, Text> {
        Err("ERR this server was built without scripts".into())
    }

    /// No script runs.
    pub fn is_busy(&self) -> bool {
        false
    }

    /// No script runs, so there is nothing to tell.
    pub fn busy_after_millis(&self) -> u64 {
        0
    }

    /// The same.
    pub fn set_busy_after_millis(&self, _: u64) {}

    /// There is nothing to end.
    pub fn kill(&self) -> Result<(), Text> {
        Err("NOTBUSY No scripts in execution right now.".into())
    }

    /// There is nothing to end.
    pub fn stop(&self) {}
}
