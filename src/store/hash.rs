//! How tables hash their keys: SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
//! INDOCRYPT 2012), which std's own maps use too, with a secret that no client learns. So no client can
//! choose keys that collide.
//!
//! The secret is kept in snapshots. A snapshot lists each shard's leaves in the order of the table's
//! directory; a start that hashes as the snapshot's writer did, into as many shards, comes to its own
//! leaves in that order, and goes through them once instead of jumping about.
//!
//! So it is as secret as the data, which lies beside it, and lasts as long as the snapshots: who has
//! one of them, and may write, can make the table large and slow. A store that starts without a
//! snapshot gets a new one.

use std::hash::{BuildHasher, RandomState};

use siphasher::sip::SipHasher13;

/// The secret that a hash is keyed with.
#[derive(Clone, Copy)]
pub struct HashKey(SipHasher13);

impl HashKey {
    /// A key that nobody knows.
    pub fn random() -> HashKey {
        // What std has for the same purpose, and does not show: two outputs of it are as good.
        let random = RandomState::new();
        HashKey(SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)))
    }

    /// The one that is this number.
    pub fn from_number(number: u128) -> HashKey {
        HashKey(SipHasher13::new_with_keys(number as u64, (number >> 64) as u64))
    }

    /// As a number, to be kept.
    pub fn number(&self) -> u128 {
        let (low, high) = self.0.keys();
        u128::from(high) << 64 | u128::from(low)
    }

    /// The hash of these bytes.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_kept_hashes_as_before_and_another_does_not() {
        let (key, other) = (HashKey::random(), HashKey::random());
        assert_eq!(HashKey::from_number(key.number()).hash(b"a"), key.hash(b"a"));
        assert_ne!(other.hash(b"a"), key.hash(b"a"));
        let high = HashKey::from_number(1 << 100);
        assert_eq!(high.number(), 1 << 100);
    }
}
