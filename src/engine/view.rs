//! What a command sees: the store as it is, or as it will be after the running batch.
//!
//! Either way a key that has expired is not there, whether or not it has been reclaimed.

use crate::command::Key;
use crate::entry::Entry;
use crate::store::Store;

/// A state of the data at one point in time.
pub trait View {
    /// Milliseconds of Unix time.
    fn now(&self) -> i64;
    /// Shows the entry of a key.
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>));
    /// Shows the entries of several keys, as they are at one moment.
    fn get_all(&mut self, keys: &[Key], look: &mut dyn FnMut(Option<&Entry>));
    /// Number of keys.
    fn count(&mut self) -> usize;
    /// A step of a walk through all entries; see [`Store::scan`].
    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64;
    /// A cursor is below this.
    fn cursors(&self) -> u64;
}

/// The store as it is.
pub struct StoreView<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Milliseconds of Unix time.
    pub now: i64,
}

impl View for StoreView<'_> {
    fn now(&self) -> i64 {
        self.now
    }

    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        let now = self.now;
        self.store.get(key, &mut |entry| look(entry.filter(|entry| !entry.is_expired(now))));
    }

    fn get_all(&mut self, keys: &[Key], look: &mut dyn FnMut(Option<&Entry>)) {
        let now = self.now;
        self.store.get_all(keys, &mut |entry| look(entry.filter(|entry| !entry.is_expired(now))));
    }

    fn count(&mut self) -> usize {
        self.store.len()
    }

    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let now = self.now;
        let mut live = |entry: &Entry| {
            if !entry.is_expired(now) {
                look(entry);
            }
        };
        self.store.scan(cursor, count, &mut live)
    }

    fn cursors(&self) -> u64 {
        self.store.cursors()
    }
}
