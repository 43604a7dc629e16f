//! What is in memory: the keys and values that a read sees.
//!
//! A [`Store`] holds only what is durable. Readers call it from their own threads; only the
//! committer calls [`Store::apply`], with what it has just made durable (promise 1), in the order
//! of the log (promise 2). A store knows no disk, no client and no command.

mod hash;
mod hash_map;
mod leaf;
mod leaves;
mod pages;
mod sharded_map;
mod table;

pub use hash_map::HashMapStore;
pub use sharded_map::ShardedMapStore;

use crate::command::{Change, Mutation};
use crate::entry::Entry;

/// Keys and values in memory, for many readers and one writer.
///
/// A replicated engine could take the place of store and log together: its `apply` would return
/// when the batch is durable somewhere else.
pub trait Store: Send + Sync {
    /// Shows `look` the entry of a key. The entry cannot change meanwhile, so `look` should be
    /// quick; it must not call the store.
    fn get(&self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>));

    /// Shows `look` the entries of several keys, in their order, as they are at one moment.
    fn get_all(&self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>));

    /// Makes changes visible, in order; if `together`, all at one moment.
    fn apply(&self, mutations: &mut Vec<Mutation>, together: bool);

    /// Makes the changes that a start finds in the log, in order, all of them in one shard.
    /// [`Change::Clear`] here removes the keys of that shard only.
    fn load(&self, shard: usize, changes: &[Change<'_>]);

    /// The number of shards. Threads that load different shards do not wait for each other.
    fn shards(&self) -> usize;

    /// The shard of a key, less than [`Store::shards`].
    fn shard_of(&self, key: &[u8]) -> usize;

    /// Number of keys. Those that have expired count until they are removed.
    fn len(&self) -> usize;

    /// Number of keys that have an expiry.
    fn expiring(&self) -> usize;

    /// Bytes that the keys and values take up, with everything that is needed to find them. What
    /// the allocator adds is not counted.
    fn bytes(&self) -> usize;

    /// Of those, the bytes that are needed to find an entry.
    fn index_bytes(&self) -> usize;

    /// Shows `look` at least `count` entries, or all of a stretch in which there are few, and
    /// returns the cursor to go on with; 0 begins a scan, and ends it. A caller that goes on until
    /// 0 has seen every key that was there all the time.
    fn scan(&self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64;

    /// Cursors are below this, and this is below 2^53: some clients keep a cursor in a double. Each
    /// shard has an equal part of them, in order.
    fn cursors(&self) -> u64;

    /// The cursor at which a scan comes to this key, whether or not it is there. It takes no lock.
    fn cursor_of(&self, key: &[u8]) -> u64;

    /// Whether there are no keys.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// About what an entry takes up beside its own bytes: its place in an index, and its share of the
/// free space in pages and leaves. (Keys of 6 bytes with values of 1 take up 19 to 29 bytes more in
/// [`Store::bytes`], from full leaves to those just split.)
const BESIDE_ENTRY: usize = 24;

/// About what an entry of this many bytes adds to [`Store::bytes`], if its key is not there yet.
pub fn bytes_of_entry(bytes: usize) -> usize {
    bytes + BESIDE_ENTRY
}

/// The store for a number of shards: one `RwLock` hash map, or as many maps, chosen by DJB2.
pub fn new(shards: usize, capacity: usize) -> Box<dyn Store> {
    match shards {
        1 => Box::new(HashMapStore::new(capacity)),
        _ => Box::new(ShardedMapStore::new(shards, capacity)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
        let mut found = None;
        store.get(key, &mut |entry| found = entry.map(|entry| entry.value().to_vec()));
        found
    }

    #[test]
    fn a_store_holds_what_was_applied_last_however_many_shards_it_has() {
        for shards in [1, 2, 8, 100] {
            let store = new(shards, 10);
            for round in 0..3_u32 {
                let set = |key: u32| {
                    let (key, value) = (key.to_string(), (key * 7 + round).to_string());
                    Mutation::Set(Entry::new(key.as_bytes(), value.as_bytes()))
                };
                store.apply(&mut (0..500).map(set).collect(), false);
            }
            assert_eq!(store.len(), 500);
            assert_eq!(value(&*store, b"3"), Some(b"23".to_vec()));
            let mut both = vec![
                Mutation::Delete(b"3"[..].into()),
                Mutation::Set(Entry::new(b"4", b"first")),
                Mutation::Set(Entry::new(b"4", b"last")),
                Mutation::Delete(b"none"[..].into()),
            ];
            store.apply(&mut both, true);
            assert!(both.is_empty());
            assert_eq!(store.len(), 499);
            assert_eq!(value(&*store, b"3"), None);
            assert_eq!(value(&*store, b"4"), Some(b"last".to_vec()));
            let mut values = Vec::new();
            let keys = [&b"4"[..], b"3", b"4"];
            store.get_all(&keys, &mut |entry| values.push(entry.map(|e| e.value().to_vec())));
            assert_eq!(values, [Some(b"last".to_vec()), None, Some(b"last".to_vec())]);

            let before = store.bytes();
            let long = Entry::new(b"long", &[0; 100_000]);
            store.apply(&mut vec![Mutation::Set(long)], false);
            assert!((100_000..110_000).contains(&(store.bytes() - before)));
            store.apply(&mut vec![Mutation::Set(Entry::new(b"long", b""))], false);
            assert!(store.bytes() - before < 10_000);
            store.apply(&mut vec![Mutation::Clear, Mutation::Set(Entry::new(b"a", b""))], true);
            assert_eq!(store.len(), 1);
        }
    }

    #[test]
    fn a_scan_through_all_shards_shows_every_key_and_ends() {
        for shards in [1, 8] {
            let store = new(shards, 0);
            let set = |key: u32| Mutation::Set(Entry::new(&key.to_le_bytes(), b""));
            store.apply(&mut (0..5000).map(set).collect(), false);
            let (mut cursor, mut steps, mut seen) = (0, 0, std::collections::HashSet::new());
            loop {
                let before = cursor;
                cursor = store.scan(cursor, 10, &mut |entry| {
                    assert!(store.cursor_of(entry.key()) >= before);
                    seen.insert(entry.key().to_vec());
                });
                let passed = |key: &Vec<u8>| cursor == 0 || store.cursor_of(key) < cursor;
                assert!(seen.iter().all(passed));
                steps += 1;
                assert!(cursor < 1 << 53);
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen.len(), 5000);
            assert!(steps > 5);
            assert_eq!(store.scan(u64::MAX, 10, &mut |_| panic!("there is nothing there")), 0);
        }
    }
}
