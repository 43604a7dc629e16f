//! Memory for small entries: pages of one size, without a hole among them.
//!
//! A general allocator keeps a page of memory as long as one of the pieces in it is in use, so after
//! a large delete hardly anything comes back, and pieces that grow through its size classes leave
//! holes (measured: 27 to 43 percent, with glibc and with mimalloc, when each leaf had one
//! buffer that grew). Here every piece is a page, and a page that becomes free is filled with the
//! last one: what is in use lies together, and whole chunks go back to the operating system.
//!
//! [`Pages`] knows no entries. It is told the owner of each page, and tells when it has moved one.

use memmap2::{Advice, MmapMut};

/// Entries of up to a quarter of a page lie in pages. A page ends where the next entry does not
/// fit, so half an entry is lost in each, and half a page in each leaf: together 5 to 10 percent.
pub const PAGE_BYTES: usize = 2 << 10;

/// Pages that are mapped at once. A process may have some 65,000 mappings, which are 64 GiB even if
/// the kernel does not merge them; memory that was never written to takes up nothing, so an empty
/// store is small.
const CHUNK_PAGES: usize = (1 << 20) / PAGE_BYTES;

/// Free pages up to this number are not filled: a leaf that is packed takes again the pages that it
/// gave back a moment before.
const SPARE_PAGES: usize = 8;

/// The owner of a page that is not in use.
const FREE: u32 = u32::MAX;

/// Pages, each by its number.
///
/// - `owners` has one owner for each page there is; pages of `FREE` are counted by `free`, and are
///   in `holes`, which may hold others, too. Between two calls of [`Pages::close_hole`] the last
///   page may be free without being in `holes`.
#[derive(Default)]
pub struct Pages {
    chunks: Vec<MmapMut>,
    owners: Vec<u32>,
    holes: Vec<u32>,
    free: usize,
}

/// A page that has another number now.
pub struct MovedPage {
    /// Its owner.
    pub owner: u32,
    /// Its number before.
    pub from: u32,
    /// Its number now.
    pub to: u32,
}

impl Pages {
    /// What is in a page.
    pub fn get(&self, page: u32) -> &[u8] {
        let (chunk, start) = place(page);
        &self.chunks[chunk][start..][..PAGE_BYTES]
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, page: u32) -> &mut [u8] {
        let (chunk, start) = place(page);
        &mut self.chunks[chunk][start..][..PAGE_BYTES]
    }

    /// Gives a page to an owner. Its content is arbitrary.
    pub fn take(&mut self, owner: u32) -> u32 {
        debug_assert_ne!(owner, FREE, "a page that is taken has an owner");
        while let Some(page) = self.holes.pop() {
            if self.is_free(page) {
                self.owners[page as usize] = owner;
                self.free -= 1;
                return page;
            }
        }
        let page = u32::try_from(self.owners.len()).expect("2^32 pages are 8 TiB");
        if self.owners.len() == self.chunks.len() * CHUNK_PAGES {
            let chunk = MmapMut::map_anon(CHUNK_PAGES * PAGE_BYTES);
            let chunk = chunk.expect("without memory there is no going on");
            // If every mapping got huge pages, a shard with one key would take up 2 MiB. A kernel
            // without huge pages refuses this call, which is as good.
            if self.chunks.is_empty() {
                chunk.advise(Advice::NoHugePage).ok();
            }
            self.chunks.push(chunk);
        }
        self.owners.push(owner);
        page
    }

    /// Takes a page back.
    pub fn give_back(&mut self, page: u32) {
        assert!(!self.is_free(page), "a page is given back once");
        self.owners[page as usize] = FREE;
        self.holes.push(page);
        self.free += 1;
    }

    /// Moves the last page into a hole, if there are more than `SPARE_PAGES`. To be called until it
    /// moves nothing any more.
    pub fn close_hole(&mut self) -> Option<MovedPage> {
        while self.owners.last() == Some(&FREE) {
            self.owners.pop();
            self.free -= 1;
        }
        // Half a chunk more than needed stays, so that a page that comes and goes costs little.
        self.chunks.truncate((self.owners.len() + CHUNK_PAGES / 2).div_ceil(CHUNK_PAGES));
        if self.free <= SPARE_PAGES {
            return None;
        }
        debug_assert!(self.free < self.owners.len(), "the last page is in use");
        let to = loop {
            let page = self.holes.pop()?;
            if self.is_free(page) {
                break page;
            }
        };
        let from = self.owners.len() as u32 - 1;
        let mut moving = [0; PAGE_BYTES];
        moving.copy_from_slice(self.get(from));
        self.get_mut(to).copy_from_slice(&moving);
        let owner = std::mem::replace(&mut self.owners[from as usize], FREE);
        self.owners[to as usize] = owner;
        Some(MovedPage { owner, from, to })
    }

    /// Bytes of all pages that there are.
    pub fn bytes(&self) -> usize {
        self.owners.len() * PAGE_BYTES
    }

    fn is_free(&self, page: u32) -> bool {
        self.owners.get(page as usize) == Some(&FREE)
    }
}

/// The chunk that a page is in, and where it begins there.
fn place(page: u32) -> (usize, usize) {
    (page as usize / CHUNK_PAGES, page as usize % CHUNK_PAGES * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_what_is_in_them_wherever_they_move_and_all_chunks_go_back() {
        let mut pages = Pages::default();
        let mut numbers: Vec<u32> = Vec::new();
        let fill = |owner: u32| owner.to_le_bytes();
        for owner in 0..2000 {
            let page = pages.take(owner);
            pages.get_mut(page)[..4].copy_from_slice(&fill(owner));
            numbers.push(page);
        }
        assert_eq!(pages.bytes(), 2000 * PAGE_BYTES);
        // From the front, so that all pages that stay have to move.
        for gone in 0..1990 {
            pages.give_back(numbers[gone]);
            while let Some(MovedPage { owner, from, to }) = pages.close_hole() {
                assert_eq!(std::mem::replace(&mut numbers[owner as usize], to), from);
            }
            for (owner, page) in numbers.iter().enumerate().skip(gone + 1) {
                assert_eq!(pages.get(*page)[..4], fill(owner as u32));
            }
        }
        assert!(pages.bytes() <= (10 + SPARE_PAGES) * PAGE_BYTES);
        assert!(pages.chunks.len() <= 2);
        let taken: Vec<u32> = (0..50).map(|owner| pages.take(owner)).collect();
        assert!(
            taken.iter().all(|page| !numbers[1990..].contains(page)),
            "each page is taken once"
        );
    }
}
