//! A few hundred entries, found by their hash, in as little memory as they need.
//!
//! Small entries lie one after the other in pages, and the index keeps for each of them its place
//! there: four bytes, and one of hashbrown's own. A separate allocation for each would cost more:
//! up to 15 bytes of rounding, a header and a pointer.
//!
//! Large entries would take long to move, so they stay in their boxes.

use hashbrown::HashTable;

use super::hash::KeyHasher;
use super::pages::{MovedPage, PAGE_BYTES, Pages};
use crate::entry::{Entry, New};

/// A longer entry stays in its box, where a pointer of 16 bytes and the allocator's rounding are a
/// few percent of it. A page holds at least four entries of up to this length.
const LARGEST_SMALL_BYTES: usize = PAGE_BYTES / 4;

/// Small entries are packed together when one byte in `DEAD_PART` is dead, and the dead ones make
/// more than a page. Packing costs some nanoseconds for each entry that stays, so some tens for
/// each that went.
const DEAD_PART: usize = 8;

/// A leaf with this many entries is split. hashbrown fills a table of 512 buckets up to seven
/// eighths; one more entry would make it double.
pub const LEAF_ENTRIES: usize = 448;

/// Entries whose hashes begin alike.
///
/// - `index` has exactly one place for each entry; no two entries have the same key.
/// - The entries in `pages` lie one after the other from the start of each page, and in the last
///   one up to `filled`. Their bytes sum to `small_bytes`; `dead_bytes` more belong to entries that
///   are gone.
/// - Every entry in `large` has a place.
#[derive(Default)]
pub struct Leaf {
    index: HashTable<Place>,
    pages: Vec<u32>,
    filled: usize,
    small_bytes: usize,
    dead_bytes: usize,
    large: Vec<Box<Entry>>,
}

/// What a leaf needs of its table to change.
pub struct LeafContext<'a> {
    /// The pages of all leaves.
    pub pages: &'a mut Pages,
    /// The number of this leaf, the owner of the pages that it takes.
    pub number: u32,
    /// How keys are hashed.
    pub hasher: &'a KeyHasher,
}

/// Where an entry is: its offset in the leaf's pages, as if they lay one after the other; or, with
/// the highest bit set, its index in `large`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

const IS_LARGE: u32 = 1 << 31;

/// What the table has to subtract for an entry that is gone.
pub struct Removed {
    /// When it would have expired.
    pub expiry: Option<i64>,
    /// The bytes it took up outside the pages.
    pub large_bytes: usize,
}

impl Leaf {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The entry of a key.
    pub fn get<'a>(&'a self, pages: &'a Pages, hash: u64, key: &[u8]) -> Option<&'a Entry> {
        let place = self.index.find(hash, |&place| self.entry(pages, place).key() == key)?;
        Some(self.entry(pages, *place))
    }

    /// The page and the offset of the first small entry whose hash looks like this one: in one of some hundred cases
    /// it is another key's.
    pub fn guess(&self, hash: u64) -> Option<(u32, usize)> {
        let place = self.index.find(hash, |_| true)?;
        let (page, offset) = place.large().is_none().then(|| place.small())?;
        Some((self.pages[page], offset))
    }

    /// All entries.
    pub fn iter<'a>(&'a self, pages: &'a Pages) -> impl Iterator<Item = &'a Entry> {
        self.index.iter().map(|&place| self.entry(pages, place))
    }

    /// Inserts an entry; removes the one with the same key.
    pub fn insert(
        &mut self,
        context: &mut LeafContext<'_>,
        hash: u64,
        new: New<'_>,
    ) -> Option<Removed> {
        let found = self.find(context.pages, hash, new.key());
        let gone = found.map(|place| self.removed(context.pages, place));
        match found {
            // As many bytes: overwrites it in place.
            Some(place) if self.entry(context.pages, place).bytes() == new.bytes() => {
                match place.large() {
                    Some(number) => self.large[number] = new.into_box(),
                    None => {
                        let (page, offset) = place.small();
                        let page = context.pages.get_mut(self.pages[page]);
                        new.write_to(&mut page[offset..][..new.bytes()]);
                    }
                }
            }
            Some(_) => {
                self.remove(context, hash, new.key());
                self.add(context, hash, new);
            }
            None => self.add(context, hash, new),
        }
        gone
    }

    /// Removes the entry of a key.
    pub fn remove(
        &mut self,
        context: &mut LeafContext<'_>,
        hash: u64,
        key: &[u8],
    ) -> Option<Removed> {
        let Leaf { index, pages, large, .. } = &mut *self;
        let is_it = |&place: &Place| entry_at(context.pages, pages, large, place).key() == key;
        let (place, _) = index.find_entry(hash, is_it).ok()?.remove();
        let gone = self.removed(context.pages, place);
        if place.large().is_none() {
            let bytes = self.entry(context.pages, place).bytes();
            self.small_bytes -= bytes;
            self.dead_bytes += bytes;
        }
        if let Some(number) = place.large() {
            self.large.swap_remove(number);
            if let Some(moved) = self.large.get(number) {
                let before = Place::of_large(self.large.len());
                let hash = context.hasher.hash(moved.key());
                let its_place = self.index.find_mut(hash, |&it| it == before);
                *its_place.expect("every entry has a place") = place;
            }
        }
        self.shrink(context);
        Some(gone)
    }

    /// Changes an entry that is large, and stays so. Returns the entry's figures before and after; `None` if
    /// there is no such entry.
    pub fn change_large(
        &mut self,
        pages: &Pages,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(Box<Entry>) -> Box<Entry>,
    ) -> Option<(Removed, Removed)> {
        let place = self.find(pages, hash, key)?;
        let before = self.removed(pages, place);
        let entry = &mut self.large[place.large()?];
        *entry = change(std::mem::take(entry));
        assert!(is_large(entry.bytes()), "a small entry lies in a page");
        Some((before, self.removed(pages, place)))
    }

    /// Moves the entries whose hash `goes` to a new leaf with this number.
    pub fn split_off(
        &mut self,
        context: &mut LeafContext<'_>,
        goes: impl Fn(u64) -> bool,
        number: u32,
    ) -> Leaf {
        let Leaf { index, pages, mut large, .. } = std::mem::take(self);
        // Copied page by page, and only then read in the order of the index: without the copy most
        // looks at an entry would wait for memory.
        let small = context.copy_of(&pages);
        pages.iter().for_each(|&page| context.pages.give_back(page));
        let (mut going, mut staying) = (Vec::new(), Vec::new());
        for place in index {
            let entry = match place.large() {
                Some(number) => &*large[number],
                None => Entry::at_start_of(&small[place.0 as usize..]),
            };
            let hash = context.hasher.hash(entry.key());
            let half = if goes(hash) { &mut going } else { &mut staying };
            half.push((hash, place));
        }
        *self = Leaf::from_parts(context, &staying, &small, &mut large);
        let mut context = LeafContext { number, pages: &mut *context.pages, ..*context };
        Leaf::from_parts(&mut context, &going, &small, &mut large)
    }

    /// Notes that one of its pages has another number now.
    pub fn page_moved(&mut self, moved: &MovedPage) {
        let page = self.pages.iter_mut().find(|page| **page == moved.from);
        *page.expect("a page is its owner's") = moved.to;
    }

    fn from_parts(
        context: &mut LeafContext<'_>,
        parts: &[(u64, Place)],
        small: &[u8],
        large: &mut [Box<Entry>],
    ) -> Leaf {
        // Room for all entries it will have: to grow it would hash all of their keys again.
        let index = HashTable::with_capacity(LEAF_ENTRIES.max(parts.len()));
        let mut leaf = Leaf { index, ..Leaf::default() };
        for &(hash, place) in parts {
            let place = match place.large() {
                Some(number) => leaf.push_large(std::mem::take(&mut large[number])),
                None => leaf.push_copy(context, Entry::at_start_of(&small[place.0 as usize..])),
            };
            leaf.index.insert_unique(hash, place, |_| unreachable!("there is room for all"));
        }
        leaf
    }

    fn add(&mut self, context: &mut LeafContext<'_>, hash: u64, new: New<'_>) {
        let place = match is_large(new.bytes()) {
            true => self.push_large(new.into_box()),
            false => self.push_small(context, new.bytes(), |bytes| new.write_to(bytes)),
        };
        let Leaf { index, pages, large, .. } = self;
        index.insert_unique(hash, place, |&place| {
            context.hasher.hash(entry_at(context.pages, pages, large, place).key())
        });
    }

    fn find(&self, pages: &Pages, hash: u64, key: &[u8]) -> Option<Place> {
        self.index.find(hash, |&place| self.entry(pages, place).key() == key).copied()
    }

    /// Gives memory back after a large delete, except a page and a small index: leaves are not
    /// merged again. The factors keep a leaf from growing and shrinking in turn.
    fn shrink(&mut self, context: &mut LeafContext<'_>) {
        let all_dead = self.small_bytes == 0 && self.dead_bytes > 0;
        if all_dead || self.dead_bytes > PAGE_BYTES.max(self.small_bytes / DEAD_PART) {
            self.pack(context);
        }
        let Leaf { index, pages, large, .. } = self;
        if index.capacity() > 8 && index.len() < index.capacity() / 4 {
            index.shrink_to(index.len() * 2, |&place| {
                context.hasher.hash(entry_at(context.pages, pages, large, place).key())
            });
        }
        if large.len() < large.capacity() / 4 {
            large.shrink_to(large.len() * 2);
        }
    }

    /// Packs the small entries together, without the dead bytes.
    fn pack(&mut self, context: &mut LeafContext<'_>) {
        let small = context.copy_of(&self.pages);
        self.pages.drain(..).for_each(|page| context.pages.give_back(page));
        (self.small_bytes, self.dead_bytes) = (0, 0);
        let mut index = std::mem::take(&mut self.index);
        for place in index.iter_mut().filter(|place| place.large().is_none()) {
            *place = self.push_copy(context, Entry::at_start_of(&small[place.0 as usize..]));
        }
        self.index = index;
    }

    fn push_small(
        &mut self,
        context: &mut LeafContext<'_>,
        bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Place {
        if self.pages.is_empty() || PAGE_BYTES - self.filled < bytes {
            // Exactly one more: a leaf has few pages, and there are many leaves.
            self.pages.reserve_exact(1);
            self.pages.push(context.pages.take(context.number));
            self.filled = 0;
        }
        let last = self.pages.len() - 1;
        let page = context.pages.get_mut(self.pages[last]);
        write(&mut page[self.filled..][..bytes]);
        let place = Place::of_small(last, self.filled);
        self.filled += bytes;
        self.small_bytes += bytes;
        place
    }

    fn push_copy(&mut self, context: &mut LeafContext<'_>, entry: &Entry) -> Place {
        self.push_small(context, entry.bytes(), |bytes| bytes.copy_from_slice(entry.as_bytes()))
    }

    fn push_large(&mut self, entry: Box<Entry>) -> Place {
        self.large.push(entry);
        Place::of_large(self.large.len() - 1)
    }

    fn entry<'a>(&'a self, pages: &'a Pages, place: Place) -> &'a Entry {
        entry_at(pages, &self.pages, &self.large, place)
    }

    fn removed(&self, pages: &Pages, place: Place) -> Removed {
        let entry = self.entry(pages, place);
        Removed { expiry: entry.expiry(), large_bytes: large_bytes(entry.bytes()) }
    }
}

/// What an entry of this many bytes takes up outside the pages.
pub fn large_bytes(bytes: usize) -> usize {
    if is_large(bytes) { bytes + size_of::<Box<Entry>>() } else { 0 }
}

/// Whether an entry of this many bytes stays in its box.
pub fn is_large(bytes: usize) -> bool {
    bytes > LARGEST_SMALL_BYTES
}

impl LeafContext<'_> {
    /// The content of these pages, one after the other: a [`Place`] of a small entry is its offset
    /// there.
    fn copy_of(&self, pages: &[u32]) -> Vec<u8> {
        let mut copy = Vec::with_capacity(pages.len() * PAGE_BYTES);
        pages.iter().for_each(|&page| copy.extend_from_slice(self.pages.get(page)));
        copy
    }
}

impl Place {
    fn of_small(page: usize, offset: usize) -> Place {
        let place = u32::try_from(page * PAGE_BYTES + offset).ok();
        let place = place.filter(|place| place & IS_LARGE == 0);
        Place(place.expect("a leaf of small entries is far smaller than 2 GiB"))
    }

    fn of_large(number: usize) -> Place {
        Place(IS_LARGE | u32::try_from(number).expect("a leaf has far fewer entries"))
    }

    fn large(self) -> Option<usize> {
        (self.0 & IS_LARGE != 0).then_some((self.0 & !IS_LARGE) as usize)
    }

    fn small(self) -> (usize, usize) {
        (self.0 as usize / PAGE_BYTES, self.0 as usize % PAGE_BYTES)
    }
}

fn entry_at<'a>(all: &'a Pages, pages: &[u32], large: &'a [Box<Entry>], place: Place) -> &'a Entry {
    match place.large() {
        Some(number) => &large[number],
        None => {
            let (page, offset) = place.small();
            Entry::at_start_of(&all.get(pages[page])[offset..])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A leaf, and what it needs of a table.
    struct Alone {
        leaf: Leaf,
        pages: Pages,
        hasher: KeyHasher,
    }

    impl Alone {
        fn new() -> Alone {
            let (leaf, pages) = (Leaf::default(), Pages::default());
            Alone { leaf, pages, hasher: KeyHasher::default() }
        }

        fn change<T>(&mut self, change: impl FnOnce(&mut Leaf, &mut LeafContext<'_>) -> T) -> T {
            let Alone { leaf, pages, hasher } = self;
            let changed = change(leaf, &mut LeafContext { pages, number: 0, hasher });
            while let Some(moved) = pages.close_hole() {
                leaf.page_moved(&moved);
            }
            changed
        }

        fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
            let hash = self.hasher.hash(key);
            self.change(|leaf, context| {
                leaf.insert(context, hash, New::Made(Entry::new(key, value)))
            })
            .is_some()
        }

        fn remove(&mut self, key: &[u8]) -> bool {
            let hash = self.hasher.hash(key);
            self.change(|leaf, context| leaf.remove(context, hash, key)).is_some()
        }

        fn check(&self, leaf: &Leaf, expected: &HashMap<Vec<u8>, Vec<u8>>) {
            let entries = leaf.iter(&self.pages).count();
            assert_eq!((leaf.len(), entries), (expected.len(), expected.len()));
            for (key, value) in expected {
                let found = leaf.get(&self.pages, self.hasher.hash(&key[..]), key);
                assert_eq!(found.map(Entry::value), Some(&value[..]), "{}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn a_leaf_is_a_map_whatever_comes_and_goes_small_and_large() {
        let (mut alone, mut expected) = (Alone::new(), HashMap::new());
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for step in 0..20_000 {
            let key = random(100).to_string().into_bytes();
            if random(3) == 0 {
                assert_eq!(alone.remove(&key), expected.remove(&key).is_some());
            } else {
                let value = vec![step as u8; [0, 1, 1, 40, 500, 520, 3000][random(7) as usize]];
                assert_eq!(alone.insert(&key, &value), expected.insert(key, value).is_some());
            }
            alone.check(&alone.leaf, &expected);
        }
        let upper = alone.change(|leaf, context| leaf.split_off(context, |hash| hash & 1 == 1, 1));
        let (odd, even) =
            expected.into_iter().partition(|(key, _)| alone.hasher.hash(&key[..]) & 1 == 1);
        alone.check(&upper, &odd);
        alone.check(&alone.leaf, &even);
    }

    #[test]
    fn memory_is_given_back_when_most_entries_go_or_are_overwritten_many_times() {
        let mut alone = Alone::new();
        let key = |number: u32| number.to_le_bytes();
        for round in 0..20_usize {
            for number in 0..400 {
                alone.insert(&key(number), &vec![b'v'; 30 + round % 7]);
            }
            assert!(alone.pages.bytes() < 400 * (2 + 4 + 37) * 3 / 2);
        }
        for number in 40..400 {
            alone.remove(&key(number));
        }
        assert!(alone.pages.bytes() < 12 * PAGE_BYTES, "{}", alone.pages.bytes());
        assert!(alone.leaf.index.capacity() < 200);
        for number in 0..40 {
            alone.remove(&key(number));
        }
        assert!(alone.leaf.pages.is_empty() && alone.leaf.dead_bytes == 0);
    }
}
