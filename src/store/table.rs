//! A hash table of entries, without a lock, that grows without a pause.
//!
//! It is an extendible hash table (Fagin et al., "Extendible Hashing", ACM TODS 1979): a directory,
//! indexed by the first bits of a 24-bit prefix taken from the hash, points to leaves of a few
//! hundred entries. A full leaf is split in two, which costs microseconds however many keys there
//! are; the directory doubles now and then, at four bytes per leaf. Leaves in the order of their
//! prefixes are also what SCAN walks along: a split makes the ranges finer and never moves a key to
//! a place that a cursor has passed.
//!
//! Entries hold their own key, so a key is stored once; a leaf packs them together.

use super::hash::KeyHasher;
use super::leaf::{LEAF_ENTRIES, Removed, is_large, large_bytes};
use super::leaves::{Guess, Leaves};
use crate::command::{Change, Mutation, Patch};
use crate::entry::{Entry, New};

/// Bits of the hash that choose a leaf. hashbrown itself uses the lowest bits of a hash and the
/// highest seven, so these are taken from between.
const PREFIX_BITS: u8 = 24;
const PREFIX_SHIFT: u32 = 32;

/// What a leaf needs to find an entry: five bytes for each bucket of hashbrown's table, and of the
/// buckets about two thirds are in use.
const INDEX_BYTES: usize = 8;

/// The most leaves that one step of a walk looks at: after a large delete many may be empty.
const SCANNED_LEAVES: usize = 1000;

/// Where a walk through all prefixes ends.
pub const SCAN_END: u32 = 1 << PREFIX_BITS;

/// Entries by key.
///
/// - `directory.len() == 1 << depth`; each leaf of depth `d` is pointed to by the `1 << (depth - d)`
///   neighbours whose index begins with the leaf's `d` bits.
pub struct Table {
    directory: Vec<u32>,
    depth: u8,
    leaves: Leaves,
    /// The depth of each leaf.
    depths: Vec<u8>,
    len: usize,
    expiring: usize,
    /// The sum of all expiries.
    expiries: i128,
    large_bytes: usize,
    hasher: KeyHasher,
}

/// A lookup that has begun.
pub struct Probe {
    hash: u64,
    leaf: usize,
}

impl Table {
    /// A table with leaves for `capacity` keys.
    pub fn new(capacity: usize, hasher: KeyHasher) -> Table {
        // Half full, as leaves are after a split.
        let leaves = (capacity / (LEAF_ENTRIES / 2)).next_power_of_two();
        let depth = (leaves.ilog2() as u8).min(PREFIX_BITS);
        Table {
            directory: (0..1 << depth).collect(),
            depth,
            leaves: Leaves::new(1 << depth, hasher.clone()),
            depths: vec![depth; 1 << depth],
            len: 0,
            expiring: 0,
            expiries: 0,
            large_bytes: 0,
            hasher,
        }
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.find(&self.probe(self.hasher.hash(key)), key)
    }

    /// Where the key with this hash would be.
    pub fn probe(&self, hash: u64) -> Probe {
        Probe { hash, leaf: self.leaf_index(prefix(hash)) }
    }

    /// The entry of the key that a probe is for.
    pub fn find(&self, probe: &Probe, key: &[u8]) -> Option<&Entry> {
        self.leaves.get(probe.leaf, probe.hash, key)
    }

    /// The first step of a lookup, see [`super::together`]: fetches the leaf. The result means nothing.
    pub fn touch_leaf(&self, probe: &Probe) -> usize {
        self.leaves.len(probe.leaf)
    }

    /// The second step: fetches the leaf's index, and guesses a place from it without a look at the key.
    pub fn guess(&self, probe: &Probe) -> Option<Guess> {
        self.leaves.guess(probe.leaf, probe.hash)
    }

    /// The third step: fetches the entry. The result means nothing.
    pub fn touch_entry(&self, guess: Option<Guess>) -> u8 {
        guess.map_or(0, |guess| self.leaves.touch(guess))
    }

    /// Makes a change of a key with this hash.
    pub fn apply(&mut self, hash: u64, mutation: Mutation) {
        match mutation {
            Mutation::Set(entry) => self.insert(hash, New::Made(entry)),
            Mutation::Delete(key) => self.remove(hash, &key),
            Mutation::Clear => self.clear(),
            Mutation::Patch(patch) => {
                let is_done = self.patch(hash, patch.borrowed());
                assert!(is_done, "a value that is changed in place is there, as long as it was");
            }
            Mutation::Expire(expiry) => {
                let is_done = self.expire(hash, &expiry.key, expiry.at);
                assert!(is_done, "a key whose expiry changes is there");
            }
        }
    }

    /// Makes many changes, leaf by leaf, so that each leaf comes into the processor's cache once (or a few
    /// times while there are few leaves). Those of one key stay in their order.
    pub fn load(&mut self, changes: &[Change<'_>]) {
        let clear = changes.iter().rposition(|change| *change == Change::Clear);
        if clear.is_some() {
            self.clear();
        }
        let changes = &changes[clear.map_or(0, |place| place + 1)..];
        let hash = |change: &Change<'_>| self.hasher.hash(change.key());
        let hashes: Vec<u64> = changes.iter().map(hash).collect();
        let by_prefix =
            |(place, hash): (usize, &u64)| u64::from(prefix(*hash)) << 32 | place as u64;
        let mut order: Vec<u64> = hashes.iter().enumerate().map(by_prefix).collect();
        order.sort_unstable();
        for place in order.into_iter().map(|prefix_and_place| prefix_and_place as u32 as usize) {
            match changes[place] {
                Change::Set(parts) => self.insert(hashes[place], New::Parts(parts)),
                Change::Delete(key) => self.remove(hashes[place], key),
                Change::Clear => {}
                // In a log these may come to a key as it was later, or to none: see the head of `crate::record`.
                Change::Patch(patch) => drop(self.patch(hashes[place], patch)),
                Change::Expire(key, at) => drop(self.expire(hashes[place], key, at)),
            }
        }
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        *self = Table::new(0, self.hasher.clone());
    }

    /// Number of keys, including those that have expired and are not yet reclaimed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of keys with an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// The sum of their expiries.
    pub fn expiries(&self) -> i128 {
        self.expiries
    }

    /// Whether it has no key, and more than what an empty table has.
    pub fn is_idle(&self) -> bool {
        self.len == 0 && self.leaves.count() > 1
    }

    /// Bytes of everything in it.
    pub fn bytes(&self) -> usize {
        self.leaves.bytes().0 + self.large_bytes + self.index_bytes()
    }

    /// Of those, the bytes that are needed to find an entry.
    pub fn index_bytes(&self) -> usize {
        self.len * INDEX_BYTES
            + self.leaves.bytes().1
            + self.depths.len()
            + self.directory.len() * size_of::<u32>()
    }

    /// Shows all entries of whole leaves, from the prefix `from` on, until it has shown `count` or
    /// looked at `SCANNED_LEAVES`. Returns the prefix to go on from: [`SCAN_END`] if that was all.
    pub fn scan(&self, from: u32, count: usize, look: &mut dyn FnMut(&Entry)) -> u32 {
        let (mut at, mut seen, mut leaves) = (from, 0, 0);
        while at < SCAN_END && seen < count && leaves < SCANNED_LEAVES {
            leaves += 1;
            let leaf = self.leaf_index(at);
            self.leaves.entries(leaf).for_each(&mut *look);
            seen += self.leaves.len(leaf);
            let span = 1 << (PREFIX_BITS - self.depths[leaf]);
            at = (at / span + 1) * span;
        }
        at
    }

    fn insert(&mut self, hash: u64, new: New<'_>) {
        self.len += 1;
        if let Some(at) = new.expiry() {
            self.expiring += 1;
            self.expiries += i128::from(at);
        }
        self.large_bytes += large_bytes(new.bytes());
        loop {
            let index = self.leaf_index(prefix(hash));
            let is_full = self.leaves.len(index) >= LEAF_ENTRIES;
            let may_split = is_full && self.depths[index] < PREFIX_BITS;
            if !may_split || self.leaves.get(index, hash, new.key()).is_some() {
                let removed = self.leaves.insert(index, hash, new);
                return self.count_removed(removed);
            }
            self.split(index, prefix(hash));
        }
    }

    /// Changes a value in place; false if there is none that the change fits.
    fn patch(&mut self, hash: u64, patch: Patch<'_>) -> bool {
        let fits = |value: &[u8]| patch.fits(value.len());
        self.change(hash, patch.key, fits, |entry| entry.patched(patch.offset, patch.bytes))
    }

    /// Changes when a key expires; false if it is not there.
    fn expire(&mut self, hash: u64, key: &[u8], at: Option<i64>) -> bool {
        self.change(hash, key, |_| true, |entry| entry.with_expiry(at))
    }

    /// Changes an entry whose value `fits`. A long one stays in its box, so that it is not copied.
    fn change(
        &mut self,
        hash: u64,
        key: &[u8],
        fits: impl FnOnce(&[u8]) -> bool,
        change: impl FnOnce(Box<Entry>) -> Box<Entry>,
    ) -> bool {
        let leaf = self.leaf_index(prefix(hash));
        let Some(entry) = self.leaves.get(leaf, hash, key) else { return false };
        if !fits(entry.value()) {
            return false;
        }
        // By its value alone it is large, with and without an expiry.
        if !is_large(entry.value().len()) {
            let changed = change(entry.to_owned());
            self.insert(hash, New::Made(changed));
            return true;
        }
        let changed = self.leaves.change_large(leaf, hash, key, change);
        let (before, after) = changed.expect("it was just there, and large");
        self.len += 1;
        self.large_bytes += after.large_bytes;
        if let Some(at) = after.expiry {
            self.expiring += 1;
            self.expiries += i128::from(at);
        }
        self.count_removed(Some(before));
        true
    }

    fn remove(&mut self, hash: u64, key: &[u8]) {
        let removed = self.leaves.remove(self.leaf_index(prefix(hash)), hash, key);
        self.count_removed(removed);
    }

    fn count_removed(&mut self, removed: Option<Removed>) {
        if let Some(Removed { expiry, large_bytes }) = removed {
            debug_assert!(
                self.len > 0 && self.large_bytes >= large_bytes,
                "only what is there goes"
            );
            self.len -= 1;
            if let Some(at) = expiry {
                self.expiring -= 1;
                self.expiries -= i128::from(at);
            }
            self.large_bytes -= large_bytes;
        }
    }

    /// Splits the leaf that holds `prefix`.
    fn split(&mut self, index: usize, prefix: u32) {
        assert!(self.depths[index] < PREFIX_BITS, "a leaf of the last depth only grows");
        if self.depths[index] == self.depth {
            self.directory = self.directory.iter().flat_map(|&leaf| [leaf, leaf]).collect();
            self.depth += 1;
        }
        let depth = self.depths[index] + 1;
        self.depths[index] = depth;
        let bit = 1 << (PREFIX_BITS - depth);
        let new = self.leaves.split(index, |hash| self::prefix(hash) & bit != 0);
        self.depths.push(depth);
        assert_eq!(self.depths.len(), self.leaves.count(), "each leaf has a depth");

        assert_eq!(
            self.directory.len(),
            1 << self.depth,
            "the directory has a place for each prefix"
        );
        let span = 1_usize << (self.depth - depth);
        let shift = PREFIX_BITS - self.depth;
        let first = ((prefix & !(bit - 1)) | bit) >> shift;
        self.directory[first as usize..][..span].fill(new);
    }

    fn leaf_index(&self, prefix: u32) -> usize {
        self.directory[(prefix >> (PREFIX_BITS - self.depth)) as usize] as usize
    }
}

/// The bits of a hash that choose a leaf; a scan comes to keys in the order of these.
pub fn prefix(hash: u64) -> u32 {
    (hash >> PREFIX_SHIFT) as u32 & (SCAN_END - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn set(key: u32) -> Mutation {
        Mutation::Set(Entry::new(&key.to_le_bytes(), b""))
    }

    fn apply(table: &mut Table, mutation: Mutation) {
        table.apply(table.hasher.hash(mutation.key()), mutation);
    }

    #[test]
    fn a_table_finds_every_key_while_it_grows_and_after_most_are_gone() {
        let mut table = Table::new(0, KeyHasher::default());
        for key in 0..20_000_u32 {
            apply(&mut table, set(key));
        }
        assert_eq!(table.len(), 20_000);
        assert!(table.leaves.count() > 20_000 / LEAF_ENTRIES);
        assert!((0..20_000_u32).all(|key| table.get(&key.to_le_bytes()).is_some()));
        for key in 100..20_000_u32 {
            apply(&mut table, Mutation::Delete(key.to_le_bytes().into()));
        }
        assert_eq!(table.len(), 100);
        assert!((0..200_u32).all(|key| table.get(&key.to_le_bytes()).is_some() == (key < 100)));
        apply(&mut table, Mutation::Clear);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_scan_shows_every_key_that_is_there_all_the_time_while_the_table_grows() {
        let mut table = Table::new(0, KeyHasher::default());
        (0..5000).for_each(|key| apply(&mut table, set(key)));
        let mut seen = HashSet::new();
        let (mut at, mut new) = (0, 5000);
        while at < SCAN_END {
            at = table.scan(at, 10, &mut |entry| {
                seen.insert(entry.key().to_vec());
            });
            (new..new + 100).for_each(|key| apply(&mut table, set(key)));
            new += 100;
        }
        assert!(new > 5500, "it took some steps");
        assert!((0..5000_u32).all(|key| seen.contains(&key.to_le_bytes()[..])));
    }

    #[test]
    fn keys_with_an_expiry_are_counted() {
        let mut table = Table::new(0, KeyHasher::default());
        apply(&mut table, Mutation::Set(Entry::expiring(b"a", b"", Some(1))));
        apply(&mut table, Mutation::Set(Entry::expiring(b"b", b"", Some(1))));
        assert_eq!((table.expiring(), table.expiries()), (2, 2));
        apply(&mut table, Mutation::Set(Entry::new(b"a", b"")));
        apply(&mut table, Mutation::Delete(b"b"[..].into()));
        assert_eq!((table.expiring(), table.expiries(), table.len()), (0, 0, 1));
    }
}
