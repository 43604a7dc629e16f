//! The leaves of a table, and the pages that their small entries share: all of the packing is behind this type.
//!
//! A leaf is reached by its number. Whenever entries have gone, the holes among the pages are
//! filled, so that whole chunks go back to the operating system.

use super::hash::KeyHasher;
use super::leaf::{Leaf, LeafContext, Removed};
use super::pages::Pages;
use crate::entry::{Entry, New};

/// Bytes that come from memory at a time.
const CACHE_LINE: usize = 64;

/// Where an entry probably is.
#[derive(Clone, Copy)]
pub struct Guess {
    page: u32,
    offset: usize,
}

/// - Each page in `pages` that is in use belongs to the leaf that is its owner, and to no other.
pub struct Leaves {
    leaves: Vec<Leaf>,
    pages: Pages,
    hasher: KeyHasher,
}

impl Leaves {
    /// This many empty leaves.
    pub fn new(count: usize, hasher: KeyHasher) -> Leaves {
        let leaves = (0..count).map(|_| Leaf::default()).collect();
        Leaves { leaves, pages: Pages::default(), hasher }
    }

    /// Number of leaves.
    pub fn count(&self) -> usize {
        self.leaves.len()
    }

    /// Number of entries in a leaf.
    pub fn len(&self, leaf: usize) -> usize {
        self.leaves[leaf].len()
    }

    /// Bytes of the pages, and of the leaves themselves.
    pub fn bytes(&self) -> (usize, usize) {
        (self.pages.bytes(), self.leaves.len() * size_of::<Leaf>())
    }

    /// The entry of a key.
    pub fn get(&self, leaf: usize, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.leaves[leaf].get(&self.pages, hash, key)
    }

    /// The page that probably has the entry of a key in a leaf, if it is in one.
    pub fn guess(&self, leaf: usize, hash: u64) -> Option<Guess> {
        let (page, offset) = self.leaves[leaf].guess(hash)?;
        Some(Guess { page, offset })
    }

    /// Fetches that place: an entry of the usual length is in one line of the cache or in two.
    pub fn touch(&self, guess: Guess) -> u8 {
        let page = self.pages.get(guess.page);
        let next = (guess.offset + CACHE_LINE).min(page.len() - 1);
        page[guess.offset].wrapping_add(page[next])
    }

    /// All entries of a leaf.
    pub fn entries(&self, leaf: usize) -> impl Iterator<Item = &Entry> {
        self.leaves[leaf].iter(&self.pages)
    }

    /// Inserts an entry; removes the one with the same key.
    pub fn insert(&mut self, leaf: usize, hash: u64, new: New<'_>) -> Option<Removed> {
        let (it, mut context) = self.leaf_mut(leaf);
        let removed = it.insert(&mut context, hash, new);
        self.close_holes();
        removed
    }

    /// Removes the entry of a key.
    pub fn remove(&mut self, leaf: usize, hash: u64, key: &[u8]) -> Option<Removed> {
        let (it, mut context) = self.leaf_mut(leaf);
        let removed = it.remove(&mut context, hash, key);
        self.close_holes();
        removed
    }

    /// See [`Leaf::change_large`].
    pub fn change_large(
        &mut self,
        leaf: usize,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(Box<Entry>) -> Box<Entry>,
    ) -> Option<(Removed, Removed)> {
        self.leaves[leaf].change_large(&self.pages, hash, key, change)
    }

    /// Moves those entries of a leaf whose hash `goes` into a new one, and returns its number.
    pub fn split(&mut self, leaf: usize, goes: impl Fn(u64) -> bool) -> u32 {
        let new = u32::try_from(self.leaves.len()).expect("there are at most 2^24 leaves");
        let (it, mut context) = self.leaf_mut(leaf);
        let upper = it.split_off(&mut context, goes, new);
        self.leaves.push(upper);
        new
    }

    fn leaf_mut(&mut self, leaf: usize) -> (&mut Leaf, LeafContext<'_>) {
        let Leaves { leaves, pages, hasher } = self;
        (&mut leaves[leaf], LeafContext { pages, number: leaf as u32, hasher })
    }

    fn close_holes(&mut self) {
        while let Some(moved) = self.pages.close_hole() {
            self.leaves[moved.owner as usize].page_moved(&moved);
        }
    }
}
