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
mod shard_set;
mod sharded_map;
mod step;
mod table;
mod tables;
mod together;

pub use hash_map::HashMapStore;
pub use sharded_map::ShardedMapStore;

use crate::command::{Change, Changed, Database, Mutation, Order, Space};
use crate::entry::Entry;

/// Keys and values in memory, for many readers and one writer.
///
/// A replicated engine could take the place of store and log together: its `apply` would return
/// when the batch is durable somewhere else.
pub trait Store: Send + Sync {
    /// Shows `look` the entry of a key of a database. The entry cannot change meanwhile, so `look` should be
    /// quick; it must not call the store.
    fn get(&self, of: Database, key: &[u8], look: &mut dyn FnMut(Option<&Entry>));

    /// Shows `look` the entries of several keys, in their order, as they are at one moment. Their waits for memory
    /// overlap, so that this is faster than one [`Store::get`] after the other.
    fn get_all(&self, of: Database, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>));

    /// Fetches the entries of some keys into the processor's cache, for lookups that come one after the other. It
    /// changes nothing, and nothing depends on it.
    fn fetch(&self, of: Database, keys: &[&[u8]]);

    /// Makes changes visible and leaves their lists empty: those of one database in their order, or all at one
    /// moment if they are `together` or of several databases.
    fn apply(&self, changed: &mut Changed<Mutation>, together: bool);

    /// Makes the changes that a start finds in the log, all of them in one shard. What is about all keys is
    /// here about those of that shard, and every shard has to be told the order of the databases.
    fn load(&self, shard: usize, changed: &Changed<Change<'_>>);

    /// Which database has which number.
    fn order(&self) -> Order;

    /// Each database that has keys, with what is counted of it, in the order of their spaces, as they are at
    /// one moment.
    fn databases(&self) -> Vec<Counts>;

    /// What is counted of all databases together, shard by shard.
    fn totals(&self) -> Totals;

    /// Number of keys of a database.
    fn count(&self, of: Database) -> usize;

    /// Bytes that a database takes up.
    fn bytes_of(&self, of: Database) -> usize;

    /// The number of shards. Threads that load different shards do not wait for each other.
    fn shards(&self) -> usize;

    /// The shard of a key, less than [`Store::shards`].
    fn shard_of(&self, key: &[u8]) -> usize;

    /// Shows `look` at least `count` entries, or all of a stretch in which there are few, and
    /// returns the cursor to go on with; 0 begins a scan, and ends it. A caller that goes on until
    /// 0 has seen every key that was there all the time.
    fn scan(&self, of: Database, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64;

    /// Cursors are below this, and this is below 2^53: some clients keep a cursor in a double. Each
    /// shard has an equal part of them, in order.
    fn cursors(&self) -> u64;

    /// The cursor at which a scan comes to this key, whether or not it is there, in any database. It takes
    /// no lock.
    fn cursor_of(&self, key: &[u8]) -> u64;

    /// Number of keys of all databases. Those that have expired count until they are removed.
    fn len(&self) -> usize {
        self.totals().keys
    }

    /// Whether there are no keys.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys that have an expiry.
    fn expiring(&self) -> usize {
        self.totals().expiring
    }

    /// Bytes that the keys and values take up, with everything that is needed to find them. What
    /// the allocator adds is not counted.
    fn bytes(&self) -> usize {
        self.totals().bytes
    }

    /// Of those, the bytes that are needed to find an entry.
    fn index_bytes(&self) -> usize {
        self.totals().index_bytes
    }
}

/// What is counted of all databases together: see the methods of [`Store`] that are called the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of keys.
    pub keys: usize,
    /// Number of keys that have an expiry.
    pub expiring: usize,
    /// Bytes that all of it takes up.
    pub bytes: usize,
    /// Of those, the bytes that are needed to find an entry.
    pub index_bytes: usize,
}

/// What is counted of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The database.
    pub space: Space,
    /// Its number.
    pub number: u16,
    /// Number of keys.
    pub keys: usize,
    /// Number of keys that have an expiry.
    pub expiring: usize,
    /// The sum of their expiries, in milliseconds of Unix time.
    pub expiries: i128,
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
    use crate::command::FIRST;

    fn apply(store: &dyn Store, mutations: Vec<Mutation>) {
        store.apply(&mut Changed::of(FIRST, mutations), false);
    }

    fn value(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
        let mut found = None;
        store.get(Database::Space(FIRST), key, &mut |entry| {
            found = entry.map(|entry| entry.value().to_vec())
        });
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
                apply(&*store, (0..500).map(set).collect());
            }
            assert_eq!(store.len(), 500);
            assert_eq!(value(&*store, b"3"), Some(b"23".to_vec()));
            let both = vec![
                Mutation::Delete(b"3"[..].into()),
                Mutation::Set(Entry::new(b"4", b"first")),
                Mutation::Set(Entry::new(b"4", b"last")),
                Mutation::Delete(b"none"[..].into()),
            ];
            let mut both = Changed::of(FIRST, both);
            store.apply(&mut both, true);
            assert!(both.is_empty());
            assert_eq!(store.len(), 499);
            assert_eq!(value(&*store, b"3"), None);
            assert_eq!(value(&*store, b"4"), Some(b"last".to_vec()));
            let mut values = Vec::new();
            let keys = [&b"4"[..], b"3", b"4"];
            store.get_all(Database::Space(FIRST), &keys, &mut |entry| {
                values.push(entry.map(|e| e.value().to_vec()))
            });
            assert_eq!(values, [Some(b"last".to_vec()), None, Some(b"last".to_vec())]);

            // More keys than take their steps together, some twice, some missing, and those of an empty database.
            let keys: Vec<Vec<u8>> =
                (0..700_u32).map(|key| (key * 7 % 650).to_string().into_bytes()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            store.fetch(Database::Space(FIRST), &keys);
            let mut values = Vec::new();
            store.get_all(Database::Space(FIRST), &keys, &mut |entry| {
                values.push(entry.map(|e| e.value().to_vec()))
            });
            assert_eq!(values, keys.iter().map(|key| value(&*store, key)).collect::<Vec<_>>());
            store.fetch(Database::Space(Space(5)), &keys);
            let mut missing = 0;
            store.get_all(Database::Space(Space(5)), &keys, &mut |entry| {
                missing += usize::from(entry.is_none())
            });
            assert_eq!(missing, 700);

            let before = store.bytes();
            let long = Entry::new(b"long", &[0; 100_000]);
            apply(&*store, vec![Mutation::Set(long)]);
            assert!((100_000..110_000).contains(&(store.bytes() - before)));
            apply(&*store, vec![Mutation::Set(Entry::new(b"long", b""))]);
            assert!(store.bytes() - before < 10_000);
            apply(&*store, vec![Mutation::Clear, Mutation::Set(Entry::new(b"a", b""))]);
            assert_eq!(store.len(), 1);
        }
    }

    /// Seen: a batch's changes of database 0 were applied before those of database 1, in whatever order one client
    /// had made them, so that another saw the second without the first. Now a batch of several is seen as a whole.
    #[test]
    fn changes_of_several_databases_are_seen_in_no_other_order_than_they_were_made() {
        const ROUNDS: u32 = 200;
        /// They make the time between the two changes long enough to be seen.
        const BETWEEN: u32 = 1000;
        let store = &*new(8, 10);
        let number = |space: u16| {
            let mut number = 0;
            store.get(Database::Space(Space(space)), b"key", &mut |entry| {
                let text = entry.map(|entry| String::from_utf8_lossy(entry.value()).into_owned());
                number = text.map_or(0, |text| text.parse().expect("a number"));
            });
            number
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    let value = round.to_string();
                    let set = |key: &[u8]| Mutation::Set(Entry::new(key, value.as_bytes()));
                    let others = (0..BETWEEN).map(|other| set(&other.to_le_bytes()));
                    let first = std::iter::once(set(b"key")).chain(others).collect();
                    let mut changed = Changed::of(Space(0), first);
                    changed.in_space(Space(1)).push(set(b"key"));
                    store.apply(&mut changed, false);
                }
            });
            let mut second = 0;
            while second < ROUNDS {
                second = number(0);
                let first = number(1);
                assert!(first >= second, "{second} was set after {first}");
            }
        });
    }

    #[test]
    fn a_scan_through_all_shards_shows_every_key_and_ends() {
        for shards in [1, 8] {
            let store = new(shards, 0);
            let set = |key: u32| Mutation::Set(Entry::new(&key.to_le_bytes(), b""));
            apply(&*store, (0..5000).map(set).collect());
            let (mut cursor, mut steps, mut seen) = (0, 0, std::collections::HashSet::new());
            loop {
                let before = cursor;
                cursor = store.scan(Database::Space(FIRST), cursor, 10, &mut |entry| {
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
            let past =
                store.scan(Database::Space(FIRST), u64::MAX, 10, &mut |_| panic!("it is empty"));
            assert_eq!(past, 0);
        }
    }

    #[test]
    fn databases_are_apart_and_a_swap_exchanges_all_of_two_at_once() {
        for shards in [1, 8] {
            let store = new(shards, 0);
            let set = |value: u8| {
                let key = |key: u32| Mutation::Set(Entry::new(&key.to_le_bytes(), &[value]));
                (0..100).map(key).collect::<Vec<_>>()
            };
            let (one, other) = (Space(1), Space(900));
            let empty = store.totals();
            apply(&*store, set(0));
            let with_one = store.totals();
            store.apply(&mut Changed::of(one, set(1)), false);
            store.apply(&mut Changed::of(other, set(2)), true);
            let value = |number: u16| {
                let mut found: Vec<u8> = Vec::new();
                store.get(Database::Number(number), &7_u32.to_le_bytes(), &mut |entry| {
                    found.extend(entry.map(Entry::value).unwrap_or_default());
                });
                found
            };
            assert_eq!([0, 1, 2, 900].map(value), [vec![0], vec![1], vec![], vec![2]]);
            let order = Order::default().swapped(0, 900);
            let mut swap = Changed { order: Some(order.clone()), ..Changed::default() };
            store.apply(&mut swap, true);
            assert!(swap.is_empty());
            assert_eq!([0, 1, 900].map(value), [vec![2], vec![1], vec![0]]);
            assert_eq!((store.order(), store.len()), (order, 300));
            let counts: Vec<_> =
                store.databases().iter().map(|all| (all.space.0, all.number, all.keys)).collect();
            assert_eq!(counts, [(0, 900, 100), (1, 1, 100), (900, 0, 100)]);
            // An empty one takes up nothing.
            store.apply(&mut Changed::of(one, vec![Mutation::Clear]), true);
            store.apply(&mut Changed::of(other, vec![Mutation::Clear]), true);
            assert_eq!(store.totals(), with_one);
            store.apply(&mut Changed { clears_all: true, ..Changed::default() }, true);
            assert_eq!(store.totals(), empty);
        }
    }

    #[test]
    fn a_database_that_was_large_takes_up_nothing_after_its_last_key_is_deleted() {
        let store = new(1, 0);
        let empty = store.totals();
        let key = |number: u32| number.to_le_bytes();
        let set = |number| Mutation::Set(Entry::new(&key(number), b""));
        let delete = |number| Mutation::Delete(key(number).into());
        store.apply(&mut Changed::of(Space(3), (0..5000).map(set).collect()), false);
        store.apply(&mut Changed::of(Space(3), (0..5000).map(delete).collect()), false);
        assert_eq!(store.totals(), empty);
        store.apply(&mut Changed::of(Space(3), vec![set(1), delete(1)]), false);
        assert!(store.bytes() - empty.bytes < 1000, "{}", store.bytes() - empty.bytes);
    }
}
