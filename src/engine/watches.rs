//! Watched keys: which connections are to learn that one of their keys has changed.
//!
//! Only the committing thread touches this, so that a change and an EXEC which asks for it cannot overtake
//! each other. As in Redis (from 6.0.9), a change is what could be seen: a key that was there at WATCH and
//! has expired by EXEC has changed; one that was missing or had expired at WATCH has not changed when it is
//! reclaimed, nor when everything is removed. A SET is a change, even to the same value.
//!
//! A key is watched in the database with a number. A SWAPDB changes the keys of both numbers that are there, or
//! that were when the connection looked.
//!
//! The memory for what a connection watches is counted, limited, and freed when it no longer watches: nothing
//! here outlives its connection.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::command::{Key, Mutation, Reply, Watcher};
use crate::metrics::Metrics;

/// The most bytes of keys that one connection may watch. Applications watch a handful; these are some
/// 3,000, and to add or remove them takes about two milliseconds, in which no other thread can commit.
pub const WATCHED_BYTES: usize = 512 << 10;

/// The same for all connections together: 128 that use all they may.
const ALL_WATCHED_BYTES: usize = 64 << 20;

/// Bytes of a watched key beside its name: counts of the `Arc`, a bucket of the table at least half
/// full, a list of the connections that watch it, and its place in the connection's own list.
const KEY_BYTES: usize = 168;

/// Which connection watches which keys.
///
/// - A connection is in the list of each of its keys, unless that key has changed since: then every
///   connection that was in its list is `changed`.
/// - Lists are in the order of the connections' numbers.
#[derive(Default)]
pub struct Watches {
    /// The databases, by number, in which a key is watched.
    databases: BTreeMap<u16, Watched>,
    by_connection: HashMap<u64, Watching>,
    keys: usize,
    bytes: usize,
}

/// The watched keys of a database.
#[derive(Default)]
struct Watched {
    by_key: HashMap<Arc<[u8]>, Vec<Watch>>,
    /// The connections that found one of their keys there, and would see it go.
    seeing: HashSet<u64>,
}

/// A connection watches a key.
struct Watch {
    connection: u64,
    /// The key was there when the connection looked.
    was_there: bool,
}

/// The watches of a connection.
struct Watching {
    watcher: Arc<Watcher>,
    /// Each with the number of its database.
    keys: Vec<(u16, Arc<[u8]>)>,
    bytes: usize,
    /// One of them has changed.
    changed: bool,
    /// When the first of them expires.
    expires_at: Option<i64>,
}

/// A key as a connection that begins to watch it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is not there, or has expired.
    Missing,
    /// It is there, and may expire.
    There(Option<i64>),
}

/// Each of these keys once, or why no connection can watch all of them. For the connection's own thread:
/// no other thread waits while it sorts.
pub fn distinct(words: &[&[u8]]) -> Result<Vec<Key>, Reply<'static>> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words.dedup();
    let keys: Vec<Key> = words.into_iter().map(Key::from).collect();
    let bytes: usize = keys.iter().map(|key| bytes_of(key)).sum();
    if bytes > WATCHED_BYTES { Err(too_many()) } else { Ok(keys) }
}

fn bytes_of(key: &[u8]) -> usize {
    KEY_BYTES + key.len()
}

fn too_many() -> Reply<'static> {
    let text = format!(
        "ERR too many watched keys: those of one connection may take up {WATCHED_BYTES} bytes, with \
         {KEY_BYTES} for each beside its name"
    );
    Reply::Error(text.into())
}

fn too_many_of_all() -> Reply<'static> {
    let text = format!(
        "ERR too many watched keys: those of all connections may take up {ALL_WATCHED_BYTES} bytes"
    );
    Reply::Error(text.into())
}

impl Watches {
    /// Whether no connection watches anything.
    pub fn is_empty(&self) -> bool {
        self.by_connection.is_empty()
    }

    /// The connection watches these keys of a database from now on, all or none of them.
    pub fn add(
        &mut self,
        watcher: &Arc<Watcher>,
        number: u16,
        keys: &[Key],
        mut see: impl FnMut(&[u8]) -> Seen,
    ) -> Reply<'static> {
        // A connection that has left would never be forgotten.
        if watcher.has_left() {
            return Reply::Ok;
        }
        let new = || Watching {
            watcher: watcher.clone(),
            keys: Vec::new(),
            bytes: 0,
            changed: false,
            expires_at: None,
        };
        let watched = self.by_connection.get(&watcher.id);
        // Whatever it watches now, its EXEC fails.
        if watched.is_some_and(|watching| watching.changed) {
            return Reply::Ok;
        }
        let watched_bytes = watched.map_or(0, |watching| watching.bytes);
        let bytes: usize = keys.iter().map(|key| bytes_of(key)).sum();
        let known = |key: &&Key| {
            let watched = self.databases.get(&number);
            let list = watched.and_then(|watched| watched.by_key.get(&***key));
            list.is_some_and(|list| place_of(list, watcher.id).is_ok())
        };
        let all_bytes = self.bytes;
        let is_over = |bytes: usize| {
            (watched_bytes + bytes > WATCHED_BYTES, all_bytes + bytes > ALL_WATCHED_BYTES)
        };
        // Which of the keys it watches already is looked up only if that decides.
        if is_over(bytes) != (false, false) {
            let old: usize = keys.iter().filter(known).map(|key| bytes_of(key)).sum();
            match is_over(bytes - old) {
                (true, _) => return too_many(),
                (_, true) => return too_many_of_all(),
                _ => {}
            }
        }
        // Registered only now: a connection that is refused leaves nothing here.
        let watching = self.by_connection.entry(watcher.id).or_insert_with(new);
        let watched = self.databases.entry(number).or_default();
        for key in keys {
            let seen = see(key);
            if let Seen::There(expiry) = seen {
                watched.seeing.insert(watcher.id);
                watching.expires_at = watching.expires_at.into_iter().chain(expiry).min();
            }
            let was_there = seen != Seen::Missing;
            let key: Arc<[u8]> = key[..].into();
            let list = watched.by_key.entry(key.clone()).or_default();
            match place_of(list, watcher.id) {
                Ok(place) => list[place].was_there |= was_there,
                Err(place) => {
                    list.insert(place, Watch { connection: watcher.id, was_there });
                    watching.bytes += bytes_of(&key);
                    self.bytes += bytes_of(&key);
                    self.keys += 1;
                    watching.keys.push((number, key));
                }
            }
        }
        assert!(watching.bytes <= WATCHED_BYTES, "more is refused before it is watched");
        assert!(self.bytes <= ALL_WATCHED_BYTES, "more is refused before it is watched");
        watcher.watches(watching.keys.len(), watching.bytes);
        Reply::Ok
    }

    /// Ends all watching of a connection. Returns whether anything that it watched has changed.
    pub fn end(&mut self, connection: u64, now: i64) -> bool {
        let Some(watching) = self.by_connection.remove(&connection) else {
            return false;
        };
        for (number, key) in &watching.keys {
            let Some(watched) = self.databases.get_mut(number) else {
                continue;
            };
            watched.seeing.remove(&connection);
            let Slot::Occupied(mut slot) = watched.by_key.entry(key.clone()) else {
                continue;
            };
            if let Ok(place) = place_of(slot.get(), connection) {
                slot.get_mut().remove(place);
            }
            if slot.get().is_empty() {
                slot.remove();
            }
        }
        self.shrink();
        let counted = watching.bytes <= self.bytes && watching.keys.len() <= self.keys;
        assert!(counted, "what a connection watches is counted among what all do");
        self.bytes -= watching.bytes;
        self.keys -= watching.keys.len();
        watching.watcher.watches(0, 0);
        watching.watcher.note_changed(false);
        watching.changed || watching.expires_at.is_some_and(|at| at <= now)
    }

    /// Gives memory back.
    fn shrink(&mut self) {
        for Watched { by_key, .. } in self.databases.values_mut() {
            if by_key.len() < by_key.capacity() / 4 {
                by_key.shrink_to(by_key.len() * 2);
            }
        }
        self.databases
            .retain(|_, watched| !watched.by_key.is_empty() || !watched.seeing.is_empty());
    }

    /// Notes that all databases have been emptied.
    pub fn touch_all(&mut self) {
        let numbers: Vec<u16> = self.databases.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.touch(number, &[Mutation::Clear]));
    }

    /// Notes that the database with this number is another one now, which `has` these keys.
    pub fn touch_swapped(&mut self, number: u16, mut has: impl FnMut(&[u8]) -> bool) {
        let Some(watched) = self.databases.get_mut(&number) else {
            return;
        };
        for (key, list) in &mut watched.by_key {
            let is_there = has(key);
            for watch in list.extract_if(.., |watch| watch.was_there || is_there) {
                note_change(&mut self.by_connection, watch.connection);
            }
        }
        watched.by_key.retain(|_, list| !list.is_empty());
    }

    /// Notes the changes of a database at the connections that watch these keys.
    pub fn touch(&mut self, number: u16, mutations: &[Mutation]) {
        let Some(watched) = self.databases.get_mut(&number) else {
            return;
        };
        for mutation in mutations {
            match mutation {
                Mutation::Clear => {
                    for connection in watched.seeing.drain() {
                        note_change(&mut self.by_connection, connection);
                    }
                }
                Mutation::Set(_) | Mutation::Patch(_) | Mutation::Expire(_) => {
                    for watch in watched.by_key.remove(mutation.key()).unwrap_or_default() {
                        note_change(&mut self.by_connection, watch.connection);
                    }
                }
                Mutation::Delete(key) => {
                    let Some(list) = watched.by_key.get_mut(&**key) else {
                        continue;
                    };
                    for watch in list.extract_if(.., |watch| watch.was_there) {
                        note_change(&mut self.by_connection, watch.connection);
                    }
                    if list.is_empty() {
                        watched.by_key.remove(&**key);
                    }
                }
            }
        }
    }

    /// Counts all of it, for INFO.
    pub fn count(&self, metrics: &Metrics) {
        metrics.watching_clients.set(self.by_connection.len() as u64);
        metrics.watched_keys.set(self.keys as u64);
        metrics.watched_bytes.set(self.bytes as u64);
    }
}

fn place_of(list: &[Watch], connection: u64) -> Result<usize, usize> {
    list.binary_search_by_key(&connection, |watch| watch.connection)
}

fn note_change(by_connection: &mut HashMap<u64, Watching>, connection: u64) {
    if let Some(watching) = by_connection.get_mut(&connection) {
        watching.changed = true;
        watching.watcher.note_changed(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;

    const MISSING: Seen = Seen::Missing;
    const THERE: Seen = Seen::There(None);

    fn watch(watches: &mut Watches, connection: u64, key: &[u8], seen: Seen) {
        let watcher = Arc::new(Watcher::new(connection));
        assert_eq!(watches.add(&watcher, 0, &[key.into()], |_| seen), Reply::Ok);
    }

    #[test]
    fn a_change_is_what_could_be_seen() {
        let set = || Mutation::Set(Entry::new(b"k", b"1"));
        let delete = || Mutation::Delete(b"k"[..].into());
        for (seen, touched, now, changed) in [
            (MISSING, vec![], 100, false),
            (THERE, vec![], 100, false),
            (Seen::There(Some(101)), vec![], 100, false),
            (Seen::There(Some(100)), vec![], 100, true),
            (MISSING, vec![set()], 0, true),
            (THERE, vec![set()], 0, true),
            (THERE, vec![delete()], 0, true),
            // An expired key is reclaimed.
            (MISSING, vec![delete()], 0, false),
            (MISSING, vec![Mutation::Clear], 0, false),
            (THERE, vec![Mutation::Clear], 0, true),
            (MISSING, vec![delete(), Mutation::Clear, set()], 0, true),
        ] {
            let mut watches = Watches::default();
            watch(&mut watches, 1, b"k", seen);
            watches.touch(1, &touched);
            watches.touch(0, &touched);
            assert_eq!(watches.end(1, now), changed, "{seen:?} {touched:?}");
            assert!(!watches.end(1, now), "it watches nothing any more");
        }
    }

    #[test]
    fn nothing_is_left_of_connections_that_watch_no_more() {
        let mut watches = Watches::default();
        for connection in [5, 3, 4, 3] {
            for key in [b"a", b"b", b"c"] {
                let seen = if key == b"a" { MISSING } else { THERE };
                watch(&mut watches, connection, key, seen);
            }
        }
        assert_eq!((watches.keys, watches.bytes), (9, 9 * (KEY_BYTES + 1)));
        watches.touch(0, &[Mutation::Delete(b"b"[..].into())]);
        assert_eq!([3, 4, 5].map(|connection| watches.end(connection, 0)), [true; 3]);
        assert!(watches.databases.is_empty() && watches.by_connection.is_empty());
        assert_eq!((watches.keys, watches.bytes), (0, 0));

        let gone = Arc::new(Watcher::new(6));
        gone.leave();
        watches.add(&gone, 0, &[b"a"[..].into()], |_| THERE);
        assert!(watches.by_connection.is_empty(), "its WATCH came later than its end");
    }

    #[test]
    fn keys_over_a_limit_are_refused_all_together_and_a_key_counts_once() {
        let mut watches = Watches::default();
        let keys = |from: usize| -> Vec<Key> {
            let key = |number: usize| vec![number as u8; 1000 + number].into();
            (from..from + 100).map(key).collect()
        };
        let mut refused = None;
        for connection in 0..200 {
            let watcher = Arc::new(Watcher::new(connection));
            for from in (0..).step_by(100) {
                let before = (watches.keys, watches.bytes);
                match watches.add(&watcher, 0, &keys(from), |_| THERE) {
                    Reply::Error(text) if text.contains("one connection") => {
                        assert!(from >= 300, "{from}");
                        assert_eq!((watches.keys, watches.bytes), before);
                        assert_eq!(watches.add(&watcher, 0, &keys(0), |_| THERE), Reply::Ok);
                        break;
                    }
                    Reply::Error(_) => {
                        refused = refused.or(Some(connection));
                        assert_eq!((watches.keys, watches.bytes), before);
                        break;
                    }
                    reply => assert_eq!(reply, Reply::Ok),
                }
            }
            assert!(watches.bytes <= ALL_WATCHED_BYTES);
        }
        assert!(
            !watches.by_connection.contains_key(&199),
            "a refused connection is not registered"
        );
        assert!(refused.is_some_and(|refused| refused >= 128), "{refused:?}");
        let keys: Vec<_> = (0..50_000_u32).map(u32::to_le_bytes).collect();
        let words = |numbers: usize| -> Vec<&[u8]> {
            keys.iter().take(numbers).cycle().take(keys.len()).map(|key| &key[..]).collect()
        };
        assert_eq!(distinct(&words(3000)).map(|keys| keys.len()), Ok(3000));
        assert!(distinct(&words(50_000)).is_err());
    }
}
