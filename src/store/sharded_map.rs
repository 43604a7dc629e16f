//! The store as several hash maps, each under a lock of its own, so that a write to one key keeps
//! few readers waiting.
//!
//! A key's shard is its DJB2 hash (Bernstein's `hash * 33 + byte`, begun at 5381) modulo the
//! number of shards. Inside a shard the table hashes again, with a secret: a client that
//! chooses keys to share a shard loses the shards' help and nothing else.

use std::cell::Cell;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use smallvec::SmallVec;

use super::hash::KeyHasher;
use super::shard_set::ShardSet;
use super::step::Step;
use super::table::{SCAN_END, Table, prefix};
use super::tables::Tables;
use super::together::{self, WINDOW};
use super::{Counts, Store, Totals};
use crate::command::{Change, Changed, Database, Mutation, Order, Space};
use crate::entry::Entry;

/// The tables of some shards, to be changed.
type Locked<'a> = SmallVec<[RwLockWriteGuard<'a, Tables>; 8]>;

/// The table of a key, by the key's place among several.
type TableOf<'f, 'a> = &'f dyn Fn(usize) -> Option<&'a Table>;

/// Several maps, each with its lock.
pub struct ShardedMapStore {
    hasher: KeyHasher,
    shards: Box<[Shard]>,
}

/// On cache lines of its own, so that the locks of two shards do not slow each other down.
#[repr(align(128))]
struct Shard(RwLock<Tables>);

impl ShardedMapStore {
    /// An empty store of `shards` maps, with room for `capacity` keys in all.
    pub fn new(shards: usize, capacity: usize) -> ShardedMapStore {
        let share = capacity.div_ceil(shards);
        let hasher = KeyHasher::default();
        let shard = |_| Shard(RwLock::new(Tables::new(share, hasher.clone())));
        ShardedMapStore { shards: (0..shards).map(shard).collect(), hasher }
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Tables> {
        &self.shards[self.shard_of(key)].0
    }

    /// All shards at one moment, locked in ascending order.
    fn all(&self) -> Vec<RwLockReadGuard<'_, Tables>> {
        self.shards.iter().map(|shard| shard.0.read()).collect()
    }

    /// Shows `then` in which table each of some keys would be, by its place among them, all at one moment.
    fn with_tables(&self, of: Database, keys: &[&[u8]], then: impl FnOnce(TableOf<'_, '_>)) {
        let shards: SmallVec<[usize; WINDOW]> = keys.iter().map(|key| self.shard_of(key)).collect();
        let needed = ShardSet::of(shards.iter().copied());
        let guards: SmallVec<[_; WINDOW]> =
            needed.iter().map(|shard| self.shards[shard].0.read()).collect();
        let tables: SmallVec<[_; WINDOW]> = guards.iter().map(|tables| tables.table(of)).collect();
        then(&|place| tables[needed.rank(shards[place])]);
    }

    fn lock<'a>(&'a self, needed: &ShardSet) -> Locked<'a> {
        needed.iter().map(|shard| self.shards[shard].0.write()).collect()
    }

    /// The shards of the keys of these changes.
    fn shards_of<'a>(&self, mutations: impl Iterator<Item = &'a Mutation>) -> ShardSet {
        ShardSet::of(mutations.map(|mutation| self.shard_of(mutation.key())))
    }

    /// Makes changes of a database under the locks of their shards.
    fn make(&self, space: Space, step: Step, (needed, locked): (&ShardSet, &mut Locked<'_>)) {
        let place_of = |key: &[u8]| needed.rank(self.shard_of(key));
        step.fetch(|key| locked[place_of(key)].table(Database::Space(space)));
        step.for_each(|hash, mutation| {
            if matches!(mutation, Mutation::Clear) {
                locked.iter_mut().for_each(|tables| tables.apply(space, hash, Mutation::Clear));
            } else {
                let place = place_of(mutation.key());
                locked[place].apply(space, hash, mutation);
            }
        });
    }

    /// Makes changes of a database one step after the other, each visible at once.
    fn apply_in_steps(&self, space: Space, mutations: &mut Vec<Mutation>) {
        let mut mutations = mutations.drain(..);
        while let Some(step) = Step::next(&mut mutations, &self.hasher) {
            let needed = self.shards_of(step.mutations());
            self.make(space, step, (&needed, &mut self.lock(&needed)));
        }
    }
}

impl Store for ShardedMapStore {
    fn get(&self, of: Database, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        look(self.shard(key).read().get(of, key));
    }

    fn get_all(&self, of: Database, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        if let [key] = keys {
            return self.get(of, key, look);
        }
        let show = |table_of: TableOf<'_, '_>| together::show(keys, table_of, &self.hasher, look);
        self.with_tables(of, keys, show);
    }

    fn fetch(&self, of: Database, keys: &[&[u8]]) {
        for keys in keys.chunks(WINDOW) {
            self.with_tables(of, keys, |table_of| {
                let hashed =
                    |(place, key): (usize, &&[u8])| Some((table_of(place)?, self.hasher.hash(key)));
                together::fetch(keys.iter().enumerate().filter_map(hashed));
            });
        }
    }

    fn apply(&self, changed: &mut Changed<Mutation>, together: bool) {
        let mutations = || changed.spaces.iter().flat_map(|(_, mutations)| mutations);
        let clears = || mutations().any(|mutation| matches!(mutation, Mutation::Clear));
        let is_about_all = changed.clears_all || changed.order.is_some() || clears();
        // The lists do not tell in which order the changes of different databases were made, so none of them is
        // seen without the others: a client that changes one database and then another is seen to do so.
        let changes_one = changed.spaces.iter().filter(|(_, all)| !all.is_empty()).count() <= 1;
        if !together && !is_about_all && changes_one {
            let spaces = changed.spaces.iter_mut();
            return spaces.for_each(|(space, all)| self.apply_in_steps(*space, all));
        }
        let needed = match is_about_all {
            true => ShardSet::of(0..self.shards.len()),
            false => self.shards_of(mutations()),
        };
        let mut guards = self.lock(&needed);
        if std::mem::take(&mut changed.clears_all) {
            guards.iter_mut().for_each(|tables| tables.clear_all());
        }
        for (space, mutations) in &mut changed.spaces {
            let mut mutations = mutations.drain(..);
            while let Some(step) = Step::next(&mut mutations, &self.hasher) {
                self.make(*space, step, (&needed, &mut guards));
            }
        }
        if let Some(order) = changed.order.take() {
            guards.iter_mut().for_each(|tables| tables.set_order(&order));
        }
    }

    fn load(&self, shard: usize, changed: &Changed<Change<'_>>) {
        self.shards[shard].0.write().load(changed);
    }

    fn order(&self) -> Order {
        self.shards[0].0.read().order().clone()
    }

    fn databases(&self) -> Vec<Counts> {
        let mut all = Vec::new();
        self.all().iter().for_each(|tables| tables.count(&mut all));
        all
    }

    fn totals(&self) -> Totals {
        let mut sums = Totals::default();
        for shard in &self.shards {
            let Totals { keys, expiring, bytes, index_bytes } = shard.0.read().totals();
            sums.keys += keys;
            sums.expiring += expiring;
            sums.bytes += bytes;
            sums.index_bytes += index_bytes;
        }
        sums
    }

    fn count(&self, of: Database) -> usize {
        self.all().iter().filter_map(|tables| tables.table(of)).map(|table| table.len()).sum()
    }

    fn bytes_of(&self, of: Database) -> usize {
        self.all().iter().filter_map(|tables| tables.table(of)).map(|table| table.bytes()).sum()
    }

    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        djb2(key) as usize % self.shards.len()
    }

    fn cursors(&self) -> u64 {
        self.shards.len() as u64 * u64::from(SCAN_END)
    }

    fn cursor_of(&self, key: &[u8]) -> u64 {
        let span = u64::from(SCAN_END);
        self.shard_of(key) as u64 * span + u64::from(prefix(self.hasher.hash(key)))
    }

    /// A cursor is a shard's number and, below it, a prefix in its table.
    fn scan(&self, of: Database, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let span = u64::from(SCAN_END);
        let seen = Cell::new(0);
        let mut counting = |entry: &Entry| {
            seen.set(seen.get() + 1);
            look(entry);
        };
        let (shard, mut from) = (cursor / span, (cursor % span) as u32);
        let Some(shards) = usize::try_from(shard).ok().and_then(|shard| self.shards.get(shard..))
        else {
            return 0;
        };
        for (shard, tables) in (shard..).zip(shards) {
            let tables = tables.0.read();
            let next = tables.table(of).map_or(SCAN_END, |t| t.scan(from, count, &mut counting));
            if next < SCAN_END {
                return shard * span + u64::from(next);
            }
            from = 0;
            if seen.get() >= count && shard + 1 < self.shards.len() as u64 {
                return (shard + 1) * span;
            }
        }
        0
    }
}

fn djb2(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, &byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{FIRST, Space};

    /// The later change waits for its shard, and meanwhile nobody sees the earlier one.
    #[test]
    fn changes_of_several_databases_are_seen_together() {
        let store = ShardedMapStore::new(2, 0);
        let key = |shard| (b'a'..).map(|byte| [byte]).find(|key| store.shard_of(key) == shard);
        let [early, late] = [0, 1].map(|shard| key(shard).expect("a key of each shard"));
        let mut changed = Changed::default();
        changed.in_space(FIRST).push(Mutation::Set(Entry::new(&early, b"")));
        changed.in_space(Space(1)).push(Mutation::Set(Entry::new(&late, b"")));
        let has = |tables: &Tables| tables.get(Database::Space(FIRST), &early).is_some();
        let last = store.shards[1].0.read();
        std::thread::scope(|scope| {
            scope.spawn(|| store.apply(&mut changed, false));
            let mut locked = 0;
            while locked < 1000 {
                match store.shards[0].0.try_read() {
                    None => locked += 1,
                    Some(tables) if has(&tables) => panic!("one is seen without the other"),
                    Some(_) => locked = 0,
                }
                std::thread::yield_now();
            }
            drop(last);
        });
        assert!(has(&store.shards[0].0.read()));
    }

    #[test]
    fn djb2_is_bernsteins() {
        assert_eq!(djb2(b""), 5381);
        assert_eq!(djb2(b"a"), 5381 * 33 + 97);
        assert_eq!(djb2(b"hello"), 261_238_937);
    }
}
