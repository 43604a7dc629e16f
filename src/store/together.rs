//! Several lookups as one step, so that they wait for memory at the same time.
//!
//! A lookup follows a chain of pointers: to the leaf, to its index, to the entry. Among millions of keys each of
//! these is in no cache of the processor, and a lookup takes as long as its waits do. So the lookups of a window
//! take each step before any of them takes the next: nothing in one of these short loops depends on the turn before
//! it, so the processor runs ahead, and its waits overlap. The last step is the ordinary lookup, which then finds
//! everything in the cache; the steps before it decide nothing. (Valkey 8 does the same with prefetches, see
//! "Unlock one million RPS", valkey.io, 2024. Plain loads need no `unsafe`.)

use std::hint::black_box;

use smallvec::SmallVec;

use super::hash::KeyHasher;
use super::table::{Probe, Table};
use crate::entry::Entry;

/// Lookups that take their steps together. Measured with 16, 32 and 64, see `src/scaling.md`.
pub const WINDOW: usize = 32;

/// A lookup that has begun.
type Sought<'a> = (&'a Table, Probe);

/// Shows `look` the entries of some keys, in their order, each in the table that `table_of` names for its place among
/// the keys; there is none if the database has no keys there.
pub fn show<'a>(
    keys: &[&[u8]],
    table_of: impl Fn(usize) -> Option<&'a Table>,
    hasher: &KeyHasher,
    look: &mut dyn FnMut(Option<&Entry>),
) {
    for (window, keys) in keys.chunks(WINDOW).enumerate() {
        let table_of = |place: usize| table_of(window * WINDOW + place);
        let begin = |(place, key): (usize, &&[u8])| {
            table_of(place).map(|table| (table, table.probe(hasher.hash(key))))
        };
        let sought: SmallVec<[Option<Sought<'_>>; WINDOW]> =
            keys.iter().enumerate().map(begin).collect();
        if keys.len() > 1 {
            touch(|| sought.iter().flatten());
        }
        for (key, sought) in keys.iter().zip(&sought) {
            look(sought.as_ref().and_then(|(table, probe)| table.find(probe, key)));
        }
    }
}

/// Fetches the places of these hashes, which are about to be changed.
pub fn fetch<'a>(places: impl Iterator<Item = (&'a Table, u64)>) {
    let begin = |(table, hash): (&'a Table, u64)| (table, table.probe(hash));
    let sought: SmallVec<[Sought<'_>; WINDOW]> = places.map(begin).collect();
    if sought.len() > 1 {
        touch(|| sought.iter());
    }
}

/// Takes all steps but the last of some lookups, all lookups one step at a time.
fn touch<'a, T: Iterator<Item = &'a Sought<'a>>>(sought: impl Fn() -> T) {
    let leaves = sought().map(|(table, probe)| table.touch_leaf(probe));
    black_box(leaves.fold(0, usize::wrapping_add));
    let guesses: SmallVec<[_; WINDOW]> =
        sought().map(|(table, probe)| (table, table.guess(probe))).collect();
    let entries = guesses.iter().map(|(table, guess)| table.touch_entry(*guess));
    black_box(entries.fold(0, u8::wrapping_add));
}
