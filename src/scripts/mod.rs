//! Scripts in a build without the feature `scripts`: there are none, and their commands are unknown.

use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, ScriptCommand, Text, Words};
use crate::metrics::Metrics;

/// What scripts would have to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest key.
    pub key: usize,
    /// The longest word.
    pub value: usize,
    /// After this time other clients would be told that a script runs; never if it is zero.
    pub busy_after: Duration,
}

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

    /// There is nothing to end.
    pub fn kill(&self) -> Result<(), Text> {
        Err("NOTBUSY No scripts in execution right now.".into())
    }

    /// There is nothing to end.
    pub fn stop(&self) {}
}
