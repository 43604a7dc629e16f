//! A batch being evaluated: what the store will be like once it is durable.
//!
//! Operations are evaluated one after the other against the store plus what the batch has changed
//! so far, by the only thread that changes anything, so that no lock and no guess is needed. The
//! result is a list of absolute [`Mutation`]s.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::command::{Command, Mutation, Reply};
use crate::entry::Entry;
use crate::store::Store;

/// Changes on top of a store.
#[derive(Default)]
pub struct Batch {
    /// What has changed, in order.
    pub mutations: Vec<Mutation>,
    index: Index,
}

/// Finds the last mutation of a key. It is built when the first operation asks for it: a batch of
/// nothing but SETs never does.
#[derive(Default)]
struct Index {
    last: HashTable<usize>,
    indexed: usize,
    hasher: RandomState,
}

impl Batch {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.mutations.clear();
        self.index.last.clear();
        self.index.indexed = 0;
    }

    /// Does what `command` asks, on top of `store`. A SET's entry is taken out of it.
    pub fn write(&mut self, store: &dyn Store, command: &mut Command) -> Reply<'static> {
        match command {
            Command::Set(entry) => {
                self.mutations.push(Mutation::Set(std::mem::take(entry)));
                Reply::Ok
            }
            Command::Del(key) => {
                let mut there = false;
                self.get(store, key, &mut |entry| there = entry.is_some());
                if there {
                    self.mutations.push(Mutation::Delete(key.clone()));
                }
                Reply::Integer(there.into())
            }
            Command::Get(_) | Command::Info | Command::Mistake(_) => {
                unreachable!("a read changes nothing")
            }
        }
    }

    /// Shows `look` the entry of a key as it will be.
    pub fn get(&mut self, store: &dyn Store, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        if self.mutations.is_empty() {
            return store.get(key, look);
        }
        match self.index.find(&self.mutations, key) {
            Some(Mutation::Set(entry)) => look(Some(entry)),
            Some(Mutation::Delete(_)) => look(None),
            None => store.get(key, look),
        }
    }
}

impl Index {
    fn find<'a>(&mut self, mutations: &'a [Mutation], key: &[u8]) -> Option<&'a Mutation> {
        let Index { last, indexed, hasher } = self;
        let hash = |at: &usize| hasher.hash_one(mutations[*at].key());
        for at in *indexed..mutations.len() {
            let same = |other: &usize| mutations[*other].key() == mutations[at].key();
            last.entry(hash(&at), same, hash).and_modify(|before| *before = at).or_insert(at);
        }
        *indexed = mutations.len();
        let found = last.find(hasher.hash_one(key), |&at| mutations[at].key() == key)?;
        Some(&mutations[*found])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_see_what_the_batch_has_done_before_them_and_the_store_does_not() {
        let store = crate::store::new(2, 0);
        store.apply(&mut vec![Mutation::Set(Entry::new(b"old", b"1"))]);
        let mut batch = Batch::default();
        let del =
            |batch: &mut Batch, key: &[u8]| batch.write(&*store, &mut Command::Del(key.into()));
        let set = |batch: &mut Batch, key: &[u8], value: &[u8]| {
            batch.write(&*store, &mut Command::Set(Entry::new(key, value)))
        };
        assert_eq!(del(&mut batch, b"old"), Reply::Integer(1));
        assert_eq!(del(&mut batch, b"old"), Reply::Integer(0));
        assert_eq!(set(&mut batch, b"old", b"2"), Reply::Ok);
        assert_eq!(set(&mut batch, b"new", b"3"), Reply::Ok);
        assert_eq!(del(&mut batch, b"new"), Reply::Integer(1));
        let mut seen = None;
        batch.get(&*store, b"old", &mut |entry| seen = entry.cloned());
        assert_eq!(seen, Some(Entry::new(b"old", b"2")));
        assert_eq!(batch.mutations.len(), 4);
        store.get(b"old", &mut |entry| assert_eq!(entry.map(Entry::value), Some(&b"1"[..])));
    }
}
