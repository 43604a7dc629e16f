//! A batch being evaluated: what the store will be like once it is durable.
//!
//! Operations are evaluated one after the other against the store plus what the batch has changed
//! so far, by the only thread that is on the commit path, so that no lock and no guess is needed. The
//! result is a list of absolute [`Mutation`]s.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use hashbrown::HashTable;

use super::view::{StoreView, View};
use crate::command::{Key, Mutation, Watch, WatchFlag};
use crate::entry::Entry;
use crate::store::Store;

/// Changes on top of a store.
///
/// - `mutations` after the last [`Mutation::Clear`] are those that count.
pub struct Batch {
    /// What has changed, in order.
    pub mutations: Vec<Mutation>,
    /// Whether readers have to see all of it at one moment: some command changes several keys.
    pub together: bool,
    /// The time at which it is evaluated.
    pub now: i64,
    /// The longest value.
    pub max_value: usize,
    /// What the store may still grow by; `None` if that is not limited, and less than nothing if it is
    /// over its limit. Everything that has been pushed counts already.
    pub room: Option<i64>,
    /// What the entries that were pushed take up.
    pub bytes: usize,
    cleared: bool,
    index: Index,
    watches: Watches,
}

/// Finds the last mutation of a key. It is built when the first operation asks for it: a batch of
/// nothing but SETs never does.
#[derive(Default)]
struct Index {
    last: HashTable<usize>,
    indexed: usize,
    hasher: RandomState,
}

/// Who wants to know that a key has changed. Only who is on the commit path is ever here, so that a
/// change and a look at the flag cannot overtake each other.
#[derive(Default)]
struct Watches {
    by_key: HashMap<Key, Vec<Weak<WatchFlag>>>,
    /// With more keys than this, those that nobody watches any more are forgotten.
    many: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new(max_value: usize) -> Batch {
        Batch {
            mutations: Vec::new(),
            together: false,
            now: 0,
            max_value,
            room: None,
            bytes: 0,
            cleared: false,
            index: Index::default(),
            watches: Watches::default(),
        }
    }

    /// Forgets everything but who watches.
    pub fn clear(&mut self) {
        self.mutations.clear();
        self.together = false;
        self.bytes = 0;
        self.cleared = false;
        self.index.clear();
    }

    fn push(&mut self, mutation: Mutation) {
        self.watches.touch(&mutation);
        if mutation == Mutation::Clear {
            self.cleared = true;
            self.index.clear();
            self.index.indexed = self.mutations.len() + 1;
        }
        self.mutations.push(mutation);
    }

    /// From now on, changes of these keys set the flag.
    pub fn watch(&mut self, keys: &[Key], watch: &Watch) {
        self.watches.add(keys, watch);
    }

    /// The data as it will be.
    pub fn over<'a>(&'a mut self, store: &'a dyn Store) -> BatchView<'a> {
        BatchView { batch: self, store }
    }
}

/// A store with a batch on top.
pub struct BatchView<'a> {
    /// The batch.
    pub batch: &'a mut Batch,
    store: &'a dyn Store,
}

impl BatchView<'_> {
    /// Adds a change.
    pub fn push(&mut self, mutation: Mutation) {
        let bytes = match &mutation {
            Mutation::Set(entry) => entry.bytes(),
            Mutation::Delete(_) | Mutation::Clear => 0,
        };
        self.batch.bytes += bytes;
        // Only where memory is limited it is looked up what goes. A FLUSHALL counts with the next batch.
        if self.batch.room.is_some() {
            let mut before = 0;
            self.get(mutation.key(), &mut |entry| before = entry.map_or(0, Entry::bytes));
            let grown = bytes as i64 - before as i64;
            self.batch.room = self.batch.room.map(|room| room - grown);
        }
        self.batch.push(mutation);
    }

    /// Whether nothing may be added.
    pub fn is_full(&self) -> bool {
        self.batch.room.is_some_and(|room| room < 0)
    }

    /// A copy of the entry of a key.
    pub fn entry(&mut self, key: &[u8]) -> Option<Box<Entry>> {
        let mut found = None;
        self.get(key, &mut |entry| found = entry.map(Entry::to_owned));
        found
    }

    /// Whether a key is there.
    pub fn has(&mut self, key: &[u8]) -> bool {
        let mut there = false;
        self.get(key, &mut |entry| there = entry.is_some());
        there
    }

    /// Whether a key has expired and is still to be removed.
    pub fn has_expired(&mut self, key: &[u8]) -> bool {
        let Batch { mutations, index, cleared, now, .. } = &mut *self.batch;
        let is_expired = |entry: &Entry| entry.is_expired(*now);
        match index.find(mutations, key) {
            Some(Mutation::Set(entry)) => is_expired(entry),
            Some(_) => false,
            None if *cleared => false,
            None => {
                let mut expired = false;
                self.store.get(key, &mut |entry| expired = entry.is_some_and(is_expired));
                expired
            }
        }
    }

    fn below(&self) -> StoreView<'_> {
        StoreView { store: self.store, now: self.batch.now }
    }

    /// The keys that the batch sets or deletes, with their last change.
    fn changed(&mut self) -> Vec<&Mutation> {
        let Batch { index, mutations, .. } = &mut *self.batch;
        index.update(mutations);
        index.last.iter().map(|&at| &mutations[at]).collect()
    }
}

impl View for BatchView<'_> {
    fn now(&self) -> i64 {
        self.batch.now
    }

    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        let Batch { mutations, index, cleared, now, .. } = &mut *self.batch;
        if mutations.is_empty() {
            return self.below().get(key, look);
        }
        match index.find(mutations, key) {
            Some(Mutation::Set(entry)) if !entry.is_expired(*now) => look(Some(entry)),
            Some(_) => look(None),
            None if *cleared => look(None),
            None => self.below().get(key, look),
        }
    }

    fn get_all(&mut self, keys: &[Key], look: &mut dyn FnMut(Option<&Entry>)) {
        // Nobody else changes anything meanwhile, so one after the other is one moment.
        keys.iter().for_each(|key| self.get(key, look));
    }

    fn count(&mut self) -> usize {
        let (store, cleared) = (self.store, self.batch.cleared);
        let mut count = if cleared { 0 } else { store.len() };
        for mutation in self.changed() {
            let mut was_there = false;
            if !cleared {
                store.get(mutation.key(), &mut |entry| was_there = entry.is_some());
            }
            count -= usize::from(was_there);
            count += usize::from(matches!(mutation, Mutation::Set(_)));
        }
        count
    }

    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let (cleared, now, store) = (self.batch.cleared, self.batch.now, self.store);
        if self.batch.mutations.is_empty() {
            return self.below().scan(cursor, count, look);
        }
        // What the batch has set is shown with the first step.
        if cursor == 0 {
            for mutation in self.changed() {
                if let Mutation::Set(entry) = mutation
                    && !entry.is_expired(now)
                {
                    look(entry);
                }
            }
        }
        if cleared {
            return 0;
        }
        let Batch { index, mutations, .. } = &mut *self.batch;
        StoreView { store, now }.scan(cursor, count, &mut |entry| {
            if index.find(mutations, entry.key()).is_none() {
                look(entry);
            }
        })
    }

    fn cursors(&self) -> u64 {
        self.store.cursors()
    }
}

impl Index {
    fn clear(&mut self) {
        self.last.clear();
        self.indexed = 0;
    }

    fn update(&mut self, mutations: &[Mutation]) {
        let Index { last, indexed, hasher } = self;
        let hash = |at: &usize| hasher.hash_one(mutations[*at].key());
        for at in *indexed..mutations.len() {
            let same = |other: &usize| mutations[*other].key() == mutations[at].key();
            last.entry(hash(&at), same, hash).and_modify(|before| *before = at).or_insert(at);
        }
        *indexed = mutations.len();
    }

    fn find<'a>(&mut self, mutations: &'a [Mutation], key: &[u8]) -> Option<&'a Mutation> {
        self.update(mutations);
        let hash = self.hasher.hash_one(key);
        let found = self.last.find(hash, |&at| mutations[at].key() == key)?;
        Some(&mutations[*found])
    }
}

impl Watches {
    fn add(&mut self, keys: &[Key], watch: &Watch) {
        if self.by_key.len() > self.many {
            self.by_key.retain(|_, flags| flags.iter().any(|flag| flag.strong_count() > 0));
            self.many = (self.by_key.len() * 2).max(1000);
        }
        for key in keys {
            let flags = self.by_key.entry(key.clone()).or_default();
            flags.retain(|flag| flag.strong_count() > 0);
            flags.push(Arc::downgrade(watch));
        }
    }

    fn touch(&mut self, mutation: &Mutation) {
        if self.by_key.is_empty() {
            return;
        }
        let touched: Vec<Weak<WatchFlag>> = match mutation {
            Mutation::Clear => self.by_key.drain().flat_map(|(_, flags)| flags).collect(),
            Mutation::Set(_) | Mutation::Delete(_) => {
                self.by_key.remove(mutation.key()).unwrap_or_default()
            }
        };
        for flag in touched.iter().filter_map(Weak::upgrade) {
            flag.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Reply, SetOptions};
    use crate::engine::write::write;

    fn set(key: &[u8], value: &[u8]) -> Command {
        Command::Set(Entry::new(key, value), SetOptions::default())
    }

    #[test]
    fn operations_see_what_the_batch_has_done_before_them_and_the_store_does_not() {
        let store = crate::store::new(2, 0);
        store.apply(&mut vec![Mutation::Set(Entry::new(b"old", b"1"))], false);
        let mut batch = Batch::new(1000);
        let mut ask = |mut command| write(&mut batch.over(&*store), &mut command);
        let del = |key: &[u8]| Command::Del(vec![key.into()]);
        assert_eq!(ask(del(b"old")), Reply::Integer(1));
        assert_eq!(ask(del(b"old")), Reply::Integer(0));
        assert_eq!(ask(set(b"old", b"2")), Reply::Ok);
        assert_eq!(ask(set(b"new", b"3")), Reply::Ok);
        assert_eq!(ask(del(b"new")), Reply::Integer(1));
        assert_eq!(batch.over(&*store).entry(b"old"), Some(Entry::new(b"old", b"2")));
        assert_eq!(batch.over(&*store).count(), 1);
        assert_eq!(batch.mutations.len(), 4);
        store.get(b"old", &mut |entry| assert_eq!(entry.map(Entry::value), Some(&b"1"[..])));
    }

    #[test]
    fn after_a_clear_the_batch_sees_nothing_of_the_store() {
        let store = crate::store::new(2, 0);
        store.apply(&mut vec![Mutation::Set(Entry::new(b"old", b"1"))], false);
        let mut batch = Batch::new(1000);
        write(&mut batch.over(&*store), &mut set(b"before", b""));
        write(&mut batch.over(&*store), &mut Command::Clear);
        write(&mut batch.over(&*store), &mut set(b"after", b""));
        let mut view = batch.over(&*store);
        assert!(!view.has(b"old") && !view.has(b"before") && view.has(b"after"));
        assert_eq!(view.count(), 1);
        let mut seen = Vec::new();
        assert_eq!(view.scan(0, 10, &mut |entry| seen.push(entry.key().to_vec())), 0);
        assert_eq!(seen, [b"after".to_vec()]);
    }
}
