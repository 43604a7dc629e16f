//! Changes of one database on top of something, and how to find one among them.
//!
//! Finding a key, counting the keys and a step of a walk cost the same however many changes there are. The
//! indexes for that are built when they are first asked for, and extended from then on: a batch of nothing
//! but SETs builds none. Nothing here reads or changes a store.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::altered::Altered;
use crate::command::{Key, Mutation, Shape};
use crate::entry::Entry;

/// Room for this many changes is kept from one batch to the next: a batch of small SETs that is full has
/// about half as many.
const KEPT_CHANGES: usize = 16 << 10;

/// Changes in their order.
///
/// - `altered` has those keys whose last change is partial: all that is said of them by changes of theirs before is
///   in there.
/// - A [`Mutation::Clear`] stands first or nowhere: changes before it are dropped. After it all below is
///   `hidden`, which may also be so because all databases were emptied.
#[derive(Default)]
pub struct Changes {
    pub(super) mutations: Vec<Mutation>,
    hidden: bool,
    /// What they add to the memory that the database takes up.
    pub grown: i64,
    pub(super) index: Index,
    catalog: Catalog,
    pub(super) altered: HashMap<Key, Altered>,
}

/// What the changes say about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This is its entry.
    Set(&'a Entry),
    /// It is there, and a part of its entry has changed.
    Altered(&'a Altered),
    /// It is not there.
    Gone,
    /// Nothing: it is as it was.
    Unchanged,
}

/// What the changes are on top of.
pub trait Below {
    /// Where a walk comes to this key.
    fn cursor_of(&self, key: &[u8]) -> u64;
    /// Whether the key is there, expired or not.
    fn holds(&mut self, key: &[u8]) -> bool;
}

impl Changes {
    /// The changes, to be logged or applied.
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// Hands the changes over, and forgets them.
    pub fn take(&mut self) -> Vec<Mutation> {
        let mutations = std::mem::take(&mut self.mutations);
        self.clear();
        mutations
    }

    /// Takes an empty list as memory for changes to come.
    pub fn reuse(&mut self, mut memory: Vec<Mutation>) {
        debug_assert!(self.is_empty() && memory.is_empty(), "memory is used for one thing");
        memory.shrink_to(KEPT_CHANGES);
        self.mutations = memory;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.mutations.is_empty()
    }

    /// Whether everything below is hidden.
    pub fn hides_all(&self) -> bool {
        self.hidden
    }

    /// Hides everything below, without a change of its own, and forgets the changes so far.
    pub fn hide_all(&mut self) {
        self.clear();
        self.hidden = true;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.mutations.clear();
        self.mutations.shrink_to(KEPT_CHANGES);
        self.index.clear();
        self.altered.clear();
        self.catalog = Catalog::default();
        (self.hidden, self.grown) = (false, 0);
    }

    /// Adds a change that is not partial; it replaces an earlier one of the same key.
    pub fn put(&mut self, mutation: Mutation) {
        if matches!(mutation, Mutation::Clear) {
            self.hide_all();
            return self.mutations.push(mutation);
        }
        debug_assert!(!mutation.is_partial(), "a partial change comes with the shape after it");
        if !self.altered.is_empty() {
            // Earlier partial changes stay, and are of no consequence.
            self.altered.remove(mutation.key());
        }
        match self.index.find(&self.mutations, mutation.key()) {
            Some(at) => {
                self.catalog.replace(at, &self.mutations[at], &mutation);
                self.mutations[at] = mutation;
            }
            None => self.mutations.push(mutation),
        }
    }

    /// Moves all changes of `later` to the end of these.
    pub fn append(&mut self, later: &mut Changes) {
        if later.hides_all() {
            self.hide_all();
        }
        self.append_altered(later);
        self.grown += later.grown;
        self.mutations.append(&mut later.mutations);
        debug_assert!(self.catalog.seen <= self.mutations.len(), "only what is there was seen");
        later.clear();
    }

    /// Moves all changes of `later` here; each replaces an earlier one of the same key, or alters it.
    pub fn absorb(&mut self, later: &mut Changes) {
        if later.hides_all() {
            self.hide_all();
        }
        let grown = self.grown + later.grown;
        for mutation in later.mutations.drain(..) {
            match later.altered.get(mutation.key()) {
                _ if !mutation.is_partial() => self.put(mutation),
                Some(altered) => self.alter(mutation, altered.shape),
                // A later one tells the whole state.
                None => {}
            }
        }
        for (key, Altered { whole, shape, .. }) in later.altered.drain() {
            debug_assert_eq!(self.shape(&key), Some(shape), "its shape was known");
            if let (Some(whole), Some(altered)) = (whole, self.altered.get_mut(&key)) {
                altered.whole = Some(whole);
            }
        }
        self.grown = grown;
        later.clear();
    }

    /// The last change of a key, if there is one.
    pub fn find(&mut self, key: &[u8]) -> Found<'_> {
        let hidden = self.hides_all();
        match self.index.find(&self.mutations, key) {
            None if hidden => Found::Gone,
            None => Found::Unchanged,
            Some(at) => match &self.mutations[at] {
                Mutation::Set(entry) => Found::Set(entry),
                Mutation::Delete(_) | Mutation::Clear => Found::Gone,
                Mutation::Patch(_) | Mutation::Expire(_) => {
                    Found::Altered(self.altered.get(key).expect("its last change is partial"))
                }
            },
        }
    }

    /// Length and expiry of an entry that is set or altered.
    fn shape(&mut self, key: &[u8]) -> Option<Shape> {
        match self.find(key) {
            Found::Set(entry) => Some(Shape::of(entry)),
            Found::Altered(altered) => Some(altered.shape),
            Found::Gone | Found::Unchanged => None,
        }
    }

    /// The number of keys, if there are `count` below.
    pub fn count(&mut self, below: &mut dyn Below, count: usize) -> usize {
        self.catalog.update(&self.mutations, self.hidden, below);
        let count = if self.hides_all() { 0 } else { count };
        count.checked_add_signed(self.catalog.grown).expect("only what is there can go")
    }

    /// The cursor after the first `count` changed keys from `cursor` on, if there are as many.
    pub fn cursor_after(
        &mut self,
        below: &mut dyn Below,
        cursor: u64,
        count: usize,
    ) -> Option<u64> {
        self.catalog.update(&self.mutations, self.hidden, below);
        let mut places = self.catalog.places.range((cursor, 0)..);
        places.nth(count.saturating_sub(1)).map(|(place, _)| place + 1)
    }

    /// The entries that are set from the cursor `from` to before `to`; of one that is altered, as it was before. Only
    /// after [`Changes::cursor_after`].
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        let places = self.catalog.places.range((from, 0)..(to, 0));
        places.filter_map(|&(_, at)| match &self.mutations[at] {
            Mutation::Set(entry) => Some(&**entry),
            Mutation::Patch(_) | Mutation::Expire(_) => {
                self.altered(self.mutations[at].key()).and_then(|altered| self.base(altered))
            }
            Mutation::Delete(_) | Mutation::Clear => None,
        })
    }
}

/// Finds the last change of a key.
#[derive(Default)]
pub(super) struct Index {
    last: HashTable<usize>,
    indexed: usize,
    hasher: RandomState,
}

impl Index {
    fn clear(&mut self) {
        match self.last.capacity() > KEPT_CHANGES {
            true => self.last = HashTable::new(),
            false => self.last.clear(),
        }
        self.indexed = 0;
    }

    pub(super) fn find(&mut self, mutations: &[Mutation], key: &[u8]) -> Option<usize> {
        if mutations.is_empty() {
            return None;
        }
        self.update(mutations);
        self.known(mutations, key)
    }

    /// The same, if all changes are indexed.
    pub(super) fn known(&self, mutations: &[Mutation], key: &[u8]) -> Option<usize> {
        debug_assert_eq!(self.indexed, mutations.len(), "a key was looked for before");
        let hash = self.hasher.hash_one(key);
        self.last.find(hash, |&at| mutations[at].key() == key).copied()
    }

    fn update(&mut self, mutations: &[Mutation]) {
        let Index { last, indexed, hasher } = self;
        let hash = |at: &usize| hasher.hash_one(mutations[*at].key());
        for at in *indexed..mutations.len() {
            if matches!(mutations[at], Mutation::Clear) {
                continue;
            }
            let same = |other: &usize| mutations[*other].key() == mutations[at].key();
            last.entry(hash(&at), same, hash).and_modify(|before| *before = at).or_insert(at);
        }
        *indexed = mutations.len();
    }
}

/// The changed keys in the order of a walk, and what they add to the number of keys.
///
/// - `places` has one place for each key of the first `seen` changes: its cursor and its last change
///   among them.
#[derive(Default)]
struct Catalog {
    places: BTreeSet<(u64, usize)>,
    grown: isize,
    seen: usize,
}

impl Catalog {
    fn update(&mut self, mutations: &[Mutation], is_hidden: bool, below: &mut dyn Below) {
        for (at, mutation) in mutations.iter().enumerate().skip(self.seen) {
            if matches!(mutation, Mutation::Clear) {
                continue;
            }
            let key = mutation.key();
            let cursor = below.cursor_of(key);
            let mut near = self.places.range((cursor, 0)..=(cursor, usize::MAX));
            let before = near.find(|(_, at)| mutations[*at].key() == key).copied();
            let was_there = match before {
                Some((_, before)) => mutations[before].keeps_key(),
                None => !is_hidden && below.holds(key),
            };
            self.grown += isize::from(mutation.keeps_key()) - isize::from(was_there);
            before.map(|before| self.places.remove(&before));
            self.places.insert((cursor, at));
        }
        self.seen = mutations.len();
    }

    fn replace(&mut self, at: usize, old: &Mutation, new: &Mutation) {
        if at < self.seen {
            self.grown += isize::from(new.keeps_key()) - isize::from(old.keeps_key());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::command::{Change, Patch};

    /// Some keys; a key's first byte is where a walk comes to it.
    struct Keys(Vec<Vec<u8>>);

    impl Below for Keys {
        fn cursor_of(&self, key: &[u8]) -> u64 {
            u64::from(key[0])
        }

        fn holds(&mut self, key: &[u8]) -> bool {
            self.0.iter().any(|held| held == key)
        }
    }

    #[test]
    fn changes_count_find_and_walk_as_a_map_does_whatever_is_put_and_appended() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let mut below = Keys((0..8).map(|key| vec![key, key % 2]).collect());
            let mut expected: BTreeMap<Vec<u8>, bool> =
                below.0.iter().map(|key| (key.clone(), false)).collect();
            let (mut changes, mut later) = (Changes::default(), Changes::default());
            for _ in 0..random(60) {
                let key = vec![random(10) as u8, random(2) as u8];
                let mutation = match random(20) {
                    0 => Mutation::Clear,
                    1..8 => Mutation::Delete(key.clone().into()),
                    _ => Mutation::Set(Entry::new(&key, b"")),
                };
                match &mutation {
                    Mutation::Clear => expected.clear(),
                    Mutation::Delete(_) => drop(expected.remove(&key)),
                    _ => drop(expected.insert(key.clone(), true)),
                }
                later.put(mutation);
                if random(2) == 0 {
                    changes.append(&mut later);
                    let count = changes.count(&mut below, 8);
                    assert_eq!(count, expected.len());
                }
            }
            changes.absorb(&mut later);
            assert_eq!(changes.count(&mut below, 8), expected.len());
            let (mut cursor, mut walked) = (0, Vec::new());
            while cursor < 256 {
                let step = 1 + random(3) as usize;
                let next = changes.cursor_after(&mut below, cursor, step).unwrap_or(256);
                walked.extend(changes.between(cursor, next).map(|entry| entry.key().to_vec()));
                cursor = next;
            }
            walked.sort_unstable();
            let set = |(key, is_set): (&Vec<u8>, &bool)| is_set.then_some(key.clone());
            assert_eq!(walked, expected.iter().filter_map(set).collect::<Vec<_>>());
            for key in (0..10).flat_map(|first| [vec![first, 0], vec![first, 1]]) {
                let found = match changes.find(&key) {
                    Found::Set(_) | Found::Altered(_) => Some(true),
                    Found::Gone => None,
                    Found::Unchanged => below.holds(&key).then_some(false),
                };
                assert_eq!(found, expected.get(&key).copied());
            }
        }
    }

    #[test]
    fn several_changes_in_place_that_are_absorbed_change_the_value_that_was_set_before() {
        let (mut changes, mut later) = (Changes::default(), Changes::default());
        changes.put(Mutation::Set(Entry::new(b"a", b"12")));
        let patch = Patch { key: b"a", before: 2, offset: 2, bytes: b"3" };
        later.alter(Change::Patch(patch).to_mutation(), Shape { length: 3, expiry: None });
        let shape = Shape { length: 3, expiry: Some(1) };
        later.alter(Change::Expire(b"a", Some(1)).to_mutation(), shape);
        changes.absorb(&mut later);
        let expected = Mutation::Set(Entry::expiring(b"a", b"123", Some(1)));
        assert_eq!(changes.mutations(), [expected]);
    }

    #[test]
    fn of_one_key_only_the_last_change_is_kept() {
        let mut changes = Changes::default();
        for value in [&b"1"[..], b"2", b"3"] {
            changes.put(Mutation::Set(Entry::new(b"a", value)));
            changes.put(Mutation::Set(Entry::new(b"b", value)));
        }
        let last = |key| Mutation::Set(Entry::new(key, b"3"));
        assert_eq!(changes.mutations(), [last(b"a"), last(b"b")]);
    }
}
