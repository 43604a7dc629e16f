//! The store as one hash map under one lock: the plainest thing that works.
//!
//! A reader holds the lock for one lookup or one step of a scan, the committer for one batch.

use parking_lot::RwLock;

use super::hash::KeyHasher;
use super::step::Step;
use super::table::{SCAN_END, prefix};
use super::tables::Tables;
use super::together::{self, WINDOW};
use super::{Counts, Store, Totals};
use crate::command::{Change, Changed, Database, Mutation, Order};
use crate::entry::Entry;

/// One map for each database, one lock.
pub struct HashMapStore {
    hasher: KeyHasher,
    tables: RwLock<Tables>,
}

impl HashMapStore {
    /// An empty store with room for `capacity` keys.
    pub fn new(capacity: usize) -> HashMapStore {
        let hasher = KeyHasher::default();
        HashMapStore { tables: RwLock::new(Tables::new(capacity, hasher.clone())), hasher }
    }
}

impl Store for HashMapStore {
    fn get(&self, of: Database, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        look(self.tables.read().get(of, key));
    }

    fn get_all(&self, of: Database, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        let tables = self.tables.read();
        let table = tables.table(of);
        together::show(keys, |_| table, &self.hasher, look);
    }

    fn fetch(&self, of: Database, keys: &[&[u8]]) {
        let tables = self.tables.read();
        let Some(table) = tables.table(of) else { return };
        for keys in keys.chunks(WINDOW) {
            together::fetch(keys.iter().map(|key| (table, self.hasher.hash(key))));
        }
    }

    fn apply(&self, changed: &mut Changed<Mutation>, _together: bool) {
        let mut tables = self.tables.write();
        if std::mem::take(&mut changed.clears_all) {
            tables.clear_all();
        }
        for (space, mutations) in &mut changed.spaces {
            let mut mutations = mutations.drain(..);
            while let Some(step) = Step::next(&mut mutations, &self.hasher) {
                step.fetch(|_| tables.table(Database::Space(*space)));
                step.for_each(|hash, mutation| tables.apply(*space, hash, mutation));
            }
        }
        if let Some(order) = changed.order.take() {
            tables.set_order(&order);
        }
    }

    fn load(&self, _shard: usize, changed: &Changed<Change<'_>>) {
        self.tables.write().load(changed);
    }

    fn order(&self) -> Order {
        self.tables.read().order().clone()
    }

    fn databases(&self) -> Vec<Counts> {
        let mut all = Vec::new();
        self.tables.read().count(&mut all);
        all
    }

    fn totals(&self) -> Totals {
        self.tables.read().totals()
    }

    fn count(&self, of: Database) -> usize {
        self.tables.read().table(of).map_or(0, |table| table.len())
    }

    fn bytes_of(&self, of: Database) -> usize {
        self.tables.read().table(of).map_or(0, |table| table.bytes())
    }

    fn shards(&self) -> usize {
        1
    }

    fn shard_of(&self, _key: &[u8]) -> usize {
        0
    }

    fn cursors(&self) -> u64 {
        SCAN_END.into()
    }

    fn cursor_of(&self, key: &[u8]) -> u64 {
        prefix(self.hasher.hash(key)).into()
    }

    fn scan(&self, of: Database, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let from = u32::try_from(cursor).unwrap_or(SCAN_END);
        let tables = self.tables.read();
        match tables.table(of).map_or(SCAN_END, |table| table.scan(from, count, look)) {
            SCAN_END => 0,
            next => next.into(),
        }
    }
}
