//! The store as several hash maps, each under a lock of its own, so that a write to one key keeps
//! few readers waiting.
//!
//! A key's shard is its DJB2 hash (Bernstein's `hash * 33 + byte`, begun at 5381) modulo the
//! number of shards. Inside a shard the table hashes again, with a secret: a client that
//! chooses keys to share a shard loses the shards' help and nothing else.

use std::cell::Cell;

use parking_lot::RwLock;

use super::Store;
use super::hash::KeyHasher;
use super::table::{SCAN_END, Table, prefix};
use crate::command::{Change, Mutation};
use crate::entry::Entry;

/// Several maps, each with its lock.
pub struct ShardedMapStore {
    hasher: KeyHasher,
    shards: Box<[Shard]>,
}

/// On cache lines of its own, so that the locks of two shards do not slow each other down.
#[repr(align(128))]
struct Shard(RwLock<Table>);

impl ShardedMapStore {
    /// An empty store of `shards` maps, with room for `capacity` keys in all.
    pub fn new(shards: usize, capacity: usize) -> ShardedMapStore {
        let share = capacity.div_ceil(shards);
        let hasher = KeyHasher::default();
        let shard = |_| Shard(RwLock::new(Table::new(share, hasher.clone())));
        ShardedMapStore { shards: (0..shards).map(shard).collect(), hasher }
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Table> {
        &self.shards[self.shard_of(key)].0
    }

    /// The shards of some keys, each once, in ascending order: every thread that takes several
    /// locks takes them in this order.
    fn shard_indices<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
        let mut indices: Vec<usize> = keys.map(|key| self.shard_of(key)).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }
}

impl Store for ShardedMapStore {
    fn get(&self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        look(self.shard(key).read().get(key));
    }

    fn get_all(&self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        let indices = self.shard_indices(keys.iter().copied());
        let guards: Vec<_> = indices.iter().map(|&index| self.shards[index].0.read()).collect();
        for key in keys {
            let place = indices.binary_search(&self.shard_of(key)).expect("it was locked");
            look(guards[place].get(key));
        }
    }

    fn apply(&self, mutations: &mut Vec<Mutation>, together: bool) {
        let clears = mutations.iter().any(|mutation| matches!(mutation, Mutation::Clear));
        if !together && !clears {
            for mutation in mutations.drain(..) {
                self.shard(mutation.key()).write().apply(mutation);
            }
            return;
        }
        let indices = match clears {
            true => (0..self.shards.len()).collect(),
            false => self.shard_indices(mutations.iter().map(Mutation::key)),
        };
        let mut guards: Vec<_> =
            indices.iter().map(|&index| self.shards[index].0.write()).collect();
        for mutation in mutations.drain(..) {
            if matches!(mutation, Mutation::Clear) {
                guards.iter_mut().for_each(|table| table.apply(Mutation::Clear));
                continue;
            }
            let index = self.shard_of(mutation.key());
            let place = indices.binary_search(&index).expect("it was locked");
            guards[place].apply(mutation);
        }
    }

    fn load(&self, shard: usize, changes: &[Change<'_>]) {
        self.shards[shard].0.write().load(changes);
    }

    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        djb2(key) as usize % self.shards.len()
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().len()).sum()
    }

    fn expiring(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().expiring()).sum()
    }

    fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().bytes()).sum()
    }

    fn index_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().index_bytes()).sum()
    }

    fn cursors(&self) -> u64 {
        self.shards.len() as u64 * u64::from(SCAN_END)
    }

    fn cursor_of(&self, key: &[u8]) -> u64 {
        let span = u64::from(SCAN_END);
        self.shard_of(key) as u64 * span + u64::from(prefix(self.hasher.hash(key)))
    }

    /// A cursor is a shard's number and, below it, a prefix in its table.
    fn scan(&self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
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
        for (shard, table) in (shard..).zip(shards) {
            let next = table.0.read().scan(from, count, &mut counting);
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

    #[test]
    fn djb2_is_bernsteins() {
        assert_eq!(djb2(b""), 5381);
        assert_eq!(djb2(b"a"), 5381 * 33 + 97);
        assert_eq!(djb2(b"hello"), 261_238_937);
    }
}
