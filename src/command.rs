//! What a client can ask, what can change, and what is answered: the words that all layers share.
//!
//! Only a [`Mutation`] can reach the log and the store, and only the committer makes one, so a
//! read cannot be logged and a change cannot go round the log.

use std::borrow::Cow;
use std::sync::Arc;

use crate::entry::Entry;

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The value of a key.
    Get(Box<[u8]>),
    /// Sets a key to a value.
    Set(Entry),
    /// Removes a key.
    Del(Box<[u8]>),
    /// The server's counters.
    Info,
    /// A request that makes no sense, and the error that says so. It goes the way of a read, so
    /// that its reply takes its place among the others.
    Mistake(Cow<'static, str>),
}

impl Command {
    /// Whether it may change something, and so has to go through the log.
    pub fn is_write(&self) -> bool {
        matches!(self, Command::Set(_) | Command::Del(_))
    }

    /// Roughly what it takes up in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Command>()
            + match self {
                Command::Get(key) | Command::Del(key) => key.len(),
                Command::Set(entry) => entry.key().len() + entry.value().len(),
                Command::Info | Command::Mistake(_) => 0,
            }
    }
}

/// A change, in absolute terms: what is so afterwards, whatever was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// This key has this value.
    Set(Entry),
    /// This key is not there.
    Delete(Box<[u8]>),
}

impl Mutation {
    /// The key that it is about.
    pub fn key(&self) -> &[u8] {
        match self {
            Mutation::Set(entry) => entry.key(),
            Mutation::Delete(key) => key,
        }
    }
}

/// An answer, before a protocol spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// It was done, and is on disk.
    Ok,
    /// There is no such key.
    Null,
    /// A number.
    Integer(i64),
    /// A value.
    Bulk(Cow<'a, [u8]>),
    /// It was not done; the text says why, and begins with an error code.
    Error(Cow<'a, str>),
    /// It was not done, because the log takes no more writes, for this reason.
    NotDurable(Arc<str>),
}

/// How a client spelled a command and wants the reply spelled. Of interest to the protocols only;
/// the others carry it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A line typed by a person or a script; the reply ends as it did.
    Text(LineEnd),
}

/// What ended a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`, as `nc` sends it.
    Lf,
    /// `\r\n`, as telnet and network protocols have it.
    CrLf,
}
