//! The store as one hash map under one lock: the plainest thing that works.
//!
//! A reader holds the lock for one lookup or one step of a scan, the committer for one batch.

use parking_lot::RwLock;

use super::Store;
use super::hash::KeyHasher;
use super::table::{SCAN_END, Table, prefix};
use crate::command::{Change, Mutation};
use crate::entry::Entry;

/// One map, one lock.
pub struct HashMapStore {
    hasher: KeyHasher,
    table: RwLock<Table>,
}

impl HashMapStore {
    /// An empty store with room for `capacity` keys.
    pub fn new(capacity: usize) -> HashMapStore {
        let hasher = KeyHasher::default();
        HashMapStore { table: RwLock::new(Table::new(capacity, hasher.clone())), hasher }
    }
}

impl Store for HashMapStore {
    fn get(&self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        look(self.table.read().get(key));
    }

    fn get_all(&self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        let table = self.table.read();
        keys.iter().for_each(|key| look(table.get(key)));
    }

    fn apply(&self, mutations: &mut Vec<Mutation>, _together: bool) {
        let mut table = self.table.write();
        for mutation in mutations.drain(..) {
            table.apply(mutation);
        }
    }

    fn load(&self, _shard: usize, changes: &[Change<'_>]) {
        self.table.write().load(changes);
    }

    fn shards(&self) -> usize {
        1
    }

    fn shard_of(&self, _key: &[u8]) -> usize {
        0
    }

    fn len(&self) -> usize {
        self.table.read().len()
    }

    fn expiring(&self) -> usize {
        self.table.read().expiring()
    }

    fn bytes(&self) -> usize {
        self.table.read().bytes()
    }

    fn index_bytes(&self) -> usize {
        self.table.read().index_bytes()
    }

    fn cursors(&self) -> u64 {
        SCAN_END.into()
    }

    fn cursor_of(&self, key: &[u8]) -> u64 {
        prefix(self.hasher.hash(key)).into()
    }

    fn scan(&self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let from = u32::try_from(cursor).unwrap_or(SCAN_END);
        match self.table.read().scan(from, count, look) {
            SCAN_END => 0,
            next => next.into(),
        }
    }
}
