//! What a connection and the committing thread share about the keys that the connection watches.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A connection that may watch keys, and what it watches at the moment.
#[derive(Debug)]
pub struct Watcher {
    /// The connection's number.
    pub id: u64,
    left: AtomicBool,
    changed: AtomicBool,
    keys: AtomicUsize,
    bytes: AtomicUsize,
}

impl Watcher {
    /// A connection that watches nothing.
    pub fn new(id: u64) -> Watcher {
        let (left, changed) = (false.into(), false.into());
        Watcher { id, left, changed, keys: 0.into(), bytes: 0.into() }
    }

    /// Notes that the connection has ended: from now on it begins to watch nothing.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether the connection has ended.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// For the committing thread: how many keys the connection watches now, and their bytes in memory.
    pub fn watches(&self, keys: usize, bytes: usize) {
        self.keys.store(keys, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// For the committing thread: whether one of the keys has changed.
    pub fn note_changed(&self, changed: bool) {
        self.changed.store(changed, Ordering::Relaxed);
    }

    /// Whether one of them has changed.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// How many keys it watches.
    pub fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Bytes that they take up in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}
