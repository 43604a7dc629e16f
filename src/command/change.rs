//! Changes in absolute terms: nothing else reaches the log and the store.

use crate::entry::{Entry, Parts};

/// A key without a value.
pub type Key = Box<[u8]>;

/// A change in absolute terms: the state after it, whatever was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// This key has this value.
    Set(Box<Entry>),
    /// This key is not there.
    Delete(Key),
    /// No key is there.
    Clear,
}

/// A [`Mutation`] that borrows from the log's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key has this value.
    Set(Parts<'a>),
    /// This key is not there.
    Delete(&'a [u8]),
    /// No key is there.
    Clear,
}

impl<'a> Change<'a> {
    /// A copy to keep.
    pub fn to_mutation(self) -> Mutation {
        match self {
            Change::Set(parts) => Mutation::Set(parts.to_entry()),
            Change::Delete(key) => Mutation::Delete(key.into()),
            Change::Clear => Mutation::Clear,
        }
    }

    /// The key that it is about; none for [`Change::Clear`], which is about all.
    pub fn key(self) -> &'a [u8] {
        match self {
            Change::Set(parts) => parts.key,
            Change::Delete(key) => key,
            Change::Clear => &[],
        }
    }
}

impl Mutation {
    /// The key that it is about; none for [`Mutation::Clear`], which is about all.
    pub fn key(&self) -> &[u8] {
        match self {
            Mutation::Set(entry) => entry.key(),
            Mutation::Delete(key) => key,
            Mutation::Clear => &[],
        }
    }
}
