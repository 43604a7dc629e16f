//! A hash table of entries, without a lock.
//!
//! The table keeps entries, which hold their own key, so a key is stored once. The hash is keyed
//! at random for each table (SipHash, std's own), so that no client can choose keys that collide.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table;

use crate::command::Mutation;
use crate::entry::Entry;

/// Entries by key.
pub struct Table {
    entries: HashTable<Entry>,
    hasher: RandomState,
}

impl Table {
    /// A table with room for `capacity` keys.
    pub fn with_capacity(capacity: usize) -> Table {
        Table { entries: HashTable::with_capacity(capacity), hasher: RandomState::new() }
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.find(self.hasher.hash_one(key), |entry| entry.key() == key)
    }

    /// Makes a change.
    pub fn apply(&mut self, mutation: Mutation) {
        let Table { entries, hasher } = self;
        let hash = hasher.hash_one(mutation.key());
        let same = |entry: &Entry| entry.key() == mutation.key();
        let found = entries.entry(hash, same, |entry| hasher.hash_one(entry.key()));
        match (mutation, found) {
            (Mutation::Set(new), hash_table::Entry::Occupied(mut old)) => *old.get_mut() = new,
            (Mutation::Set(new), hash_table::Entry::Vacant(room)) => drop(room.insert(new)),
            (Mutation::Delete(_), hash_table::Entry::Occupied(old)) => drop(old.remove()),
            (Mutation::Delete(_), hash_table::Entry::Vacant(_)) => {}
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
