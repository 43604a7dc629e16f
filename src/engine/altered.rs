//! Changes of a part of an entry, on top of the whole one.
//!
//! They are kept among the other changes as they are, for the log and the store; `alter.rs` adds them. The length and
//! the expiry of the key are at hand; the value is made only for commands that ask for it, see
//! `partial.rs`.

use crate::command::{Mutation, Shape};
use crate::entry::Entry;

/// A key whose last changes are partial, on top of a whole value.
///
/// - `places` has a change, and all of them are partial, in their order.
/// - A whole value among the same changes is there only after `Changes::append`; `Changes::alter` changes it
///   itself instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Altered {
    /// Length and expiry after them.
    pub shape: Shape,
    /// Where the whole value stands among the changes; `None` if it is below.
    pub(super) base: Option<usize>,
    /// Where the changes stand.
    pub(super) places: Vec<usize>,
    /// Bytes that they add to the log.
    pub(super) bytes: usize,
    /// The entry after them, if it has been asked for.
    pub(super) whole: Option<Box<Entry>>,
    /// Changes that were looked through instead.
    pub(super) looked_through: usize,
}

impl Altered {
    /// The entry after the changes, if it was kept.
    pub fn whole(&self) -> Option<&Entry> {
        self.whole.as_deref()
    }
}

/// Bytes of a partial change beside its key and its bytes: a header and some numbers.
pub(super) const PARTIAL_BYTES: usize = 40;

/// Bytes of a value that are copied as fast as one partial change is looked at.
pub(super) const BYTES_PER_CHANGE: usize = 64;

/// Bytes that a partial change adds to the log, or to memory.
pub fn partial_bytes(mutation: &Mutation) -> usize {
    let bytes = match mutation {
        Mutation::Patch(patch) => patch.bytes.len(),
        Mutation::Set(_) | Mutation::Delete(_) | Mutation::Clear | Mutation::Expire(_) => 0,
    };
    PARTIAL_BYTES + mutation.key().len() + bytes
}
