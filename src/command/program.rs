//! A program: something that decides while it runs which commands are carried out, and is one command all the
//! same. A script is one.
//!
//! The engine knows nothing of how it decides. What it changes is kept as a whole, or forgotten as a whole if it
//! fails or has to be refused: see [`Program::run`].

use std::fmt::Debug;

use super::view::Refusal;
use super::{Command, CommandId, Reply, Spec, Words};

/// See the head of this file.
pub trait Program: Debug + Send + Sync {
    /// Runs it, on the commit path. An error is its reply, and nothing of what it has changed remains; a
    /// [`Reply::Error`] that it returns as its result takes nothing back. It may be run again for the same request,
    /// if nothing of the first run was applied.
    fn run(&self, parts: &mut dyn Parts) -> Result<Reply<'static>, Refusal>;

    /// Bytes that it takes up in memory while it waits.
    fn bytes(&self) -> usize;

    /// Whether it has called, in its last run, a command that cannot be carried out without the log.
    fn has_written(&self) -> bool;
}

/// The data as a running program sees and changes it: by commands, each carried out as a part of it.
pub trait Parts {
    /// The time at which it runs, in milliseconds of Unix time: one moment from its beginning to its end.
    fn now(&self) -> i64;

    /// How many databases there are. A [`Command::Select`] has a number less than that, and holds until the
    /// program ends.
    fn databases(&self) -> u16;

    /// Whether nothing may be added to the store.
    fn is_full(&self) -> bool;

    /// How long the program's reply may be, in bytes.
    fn max_reply(&self) -> usize;

    /// Shows the words of a command that is about to be carried out to those who watch all requests.
    fn show(&self, spec: &Spec, words: &Words<'_>);

    /// Carries out a command, which is counted under `id`. The command's own mistake is its reply. After a refusal
    /// the program is refused as a whole, and has to end.
    fn carry_out(&mut self, command: Command, id: CommandId) -> Result<Reply<'static>, Refusal>;
}
