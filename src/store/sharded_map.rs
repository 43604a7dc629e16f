//! The store as several hash maps, each under a lock of its own, so that a write to one key keeps
//! few readers waiting.
//!
//! A key's shard is its DJB2 hash (Bernstein's `hash * 33 + byte`, begun at 5381) modulo the
//! number of shards. Inside a shard the table hashes again, with a key that nobody can guess: who
//! chooses keys to share a shard loses the shards' help and nothing else.

use parking_lot::RwLock;

use super::Store;
use super::table::Table;
use crate::command::Mutation;
use crate::entry::Entry;

/// Several maps, each with its lock.
pub struct ShardedMapStore {
    shards: Box<[Shard]>,
}

/// On cache lines of its own, so that the locks of two shards do not slow each other down.
#[repr(align(128))]
struct Shard(RwLock<Table>);

impl ShardedMapStore {
    /// An empty store of `shards` maps, with room for `capacity` keys in all.
    pub fn new(shards: usize, capacity: usize) -> ShardedMapStore {
        let share = capacity.div_ceil(shards);
        let shard = |_| Shard(RwLock::new(Table::with_capacity(share)));
        ShardedMapStore { shards: (0..shards).map(shard).collect() }
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Table> {
        &self.shards[djb2(key) as usize % self.shards.len()].0
    }
}

impl Store for ShardedMapStore {
    fn get(&self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        look(self.shard(key).read().get(key));
    }

    fn apply(&self, mutations: &mut Vec<Mutation>) {
        for mutation in mutations.drain(..) {
            self.shard(mutation.key()).write().apply(mutation);
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().len()).sum()
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
