//! What the server's settings say of scripts, in a build with them and in one without.

use std::time::Duration;

/// What scripts have to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest key.
    pub key: usize,
    /// The longest word of a command.
    pub value: usize,
    /// After this time other clients are told that a script runs; never if it is zero.
    pub busy_after: Duration,
}
