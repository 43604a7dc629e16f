//! How tables hash their keys: std's SipHash-1-3 with a random secret, as in std's own maps, so that no client
//! can choose keys that collide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A secret, the same for all tables of a store.
#[derive(Clone, Default)]
pub struct KeyHasher(RandomState);

impl KeyHasher {
    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        // Only the bytes: the length that `hash_one` adds is of use only if something else follows
        // the key.
        hasher.write(key);
        hasher.finish()
    }
}
