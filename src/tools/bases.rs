//! The values that the changes in place of a log are made of, where not all of that log can be read, or is to be.
//!
//! A change in place of another value than the one it was made for gives a value that nobody has ever written. Two things
//! can lead there:
//!
//! - Something is missing before it: a gap in a damaged log, or records that were not asked for. From there on only those
//!   changes count whose whole value comes later.
//! - Something is missing after it: a snapshot has each value as it was at some moment while it was written, and the log
//!   after it goes on from an earlier one. Where that log ends too early, a value may have newer bytes among older ones. How
//!   far the log has to go stands nowhere, so such values are named.

use super::contents::{Contents, Kept};
use crate::command::{Change, Key, Logged, Patch};
use crate::entry::Parts;
use crate::quote;

/// This many keys are named; of the others, there is a count.
const NAMED_KEYS: usize = 5;

/// The state of a value, as far as it is known.
#[derive(Clone, Copy)]
struct Base {
    length: usize,
    is_of_snapshot: bool,
    is_altered: bool,
}

impl Kept for Base {
    fn of(parts: Parts<'_>) -> Base {
        Base { length: parts.value.len(), is_of_snapshot: false, is_altered: false }
    }

    fn length(&self) -> usize {
        self.length
    }

    fn patch(&mut self, patch: Patch<'_>) {
        self.length = self.length.max(patch.length());
        self.is_altered = true;
    }

    fn expire(&mut self, _: Option<i64>) {}
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a snapshot.
    Snapshot,
    /// In the log.
    Log,
}

/// See the head of this file.
#[derive(Default)]
pub struct Bases(Contents<Base>);

impl Bases {
    /// Follows a record. False if it is a change in place of a value that is not known.
    pub fn follow(&mut self, logged: &Logged<'_>, origin: Origin) -> bool {
        let is_followed = self.0.follow(logged);
        if let (Origin::Snapshot, Logged::In(space, Change::Set(parts))) = (origin, logged)
            && let Some(keys) = self.0.spaces.get_mut(space)
            && let Some(base) = keys.get_mut(parts.key)
        {
            base.is_of_snapshot = true;
        }
        is_followed
    }

    /// Something is missing here: no value is known any more.
    pub fn forget(&mut self) {
        self.0.spaces.clear();
    }

    /// The keys of values that a snapshot has and the log after it changes in place, in their order.
    pub fn perhaps_mixed(&self) -> Vec<&Key> {
        let is_mixed = |(_, base): &(&Key, &Base)| base.is_of_snapshot && base.is_altered;
        let mut keys: Vec<&Key> = self.0.all().filter(is_mixed).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }
}

/// Some keys in words, the first of them by name.
pub fn named<'a>(keys: impl ExactSizeIterator<Item = &'a Key>) -> String {
    let count = keys.len();
    let mut named = Vec::new();
    for key in keys.take(NAMED_KEYS) {
        if !named.is_empty() {
            named.extend_from_slice(b", ");
        }
        quote::print(key, &mut named);
    }
    let named = String::from_utf8_lossy(&named).into_owned();
    match count {
        0..=NAMED_KEYS => named,
        _ => format!("{named} and {} more", count - NAMED_KEYS),
    }
}
