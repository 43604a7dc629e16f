//! What a value is expected to be, for a command that changes it only then.

use xxhash_rust::xxh3::xxh3_64;

/// A value that is expected, or expected not to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What it is compared with.
    pub with: Expected,
    /// The result that is wanted.
    pub wanted: Wanted,
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// These bytes.
    Value(Box<[u8]>),
    /// Bytes with this digest.
    Digest(u64),
}

/// Whether two values are to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// They are.
    Equal,
    /// They are not. A value that is missing differs from all.
    Different,
}

impl Comparison {
    /// Whether a value, or none, is as it is wanted.
    pub fn holds(&self, value: Option<&[u8]>) -> bool {
        let is_equal = value.is_some_and(|value| match &self.with {
            Expected::Value(expected) => value == &**expected,
            Expected::Digest(expected) => digest(value) == *expected,
        });
        is_equal == (self.wanted == Wanted::Equal)
    }

    /// How many bytes it looks at of a value of this length, beyond those that its client sent for it.
    pub fn looks_at(&self, length: usize) -> usize {
        match &self.with {
            Expected::Value(_) => 0,
            Expected::Digest(_) => length,
        }
    }

    /// Bytes that it takes up in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Comparison>()
            + match &self.with {
                Expected::Value(expected) => expected.len(),
                Expected::Digest(_) => 0,
            }
    }
}

/// The digest of a value that DIGEST tells: XXH3, as Redis has it.
pub fn digest(value: &[u8]) -> u64 {
    xxh3_64(value)
}
