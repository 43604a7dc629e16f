//! A key with its value and, if it has one, its time of expiry, in one allocation.
//!
//! It is made once, on the client's thread, from the bytes of the request, and then handed on: the
//! log copies from it, the store keeps it. Nothing else holds keys or values.
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | length of the key, little-endian; the highest bit says that an expiry follows |
//! | 0 or 8 | expiry, milliseconds of Unix time, little-endian |
//! | | key |
//! | | value |
//!
//! So a key without expiry pays nothing for it.

use std::time::{SystemTime, UNIX_EPOCH};

const LENGTH_BYTES: usize = 4;
const EXPIRY_BYTES: usize = 8;
const EXPIRES: u32 = 1 << 31;

/// A key and its value, both any bytes. The default is no entry at all: what is left behind where
/// one is taken.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entry(Box<[u8]>);

impl Entry {
    /// Copies key and value, without expiry.
    pub fn new(key: &[u8], value: &[u8]) -> Entry {
        Entry::expiring(key, value, None)
    }

    /// Copies key and value. A key is far shorter than 2 GiB; the protocol sees to that.
    pub fn expiring(key: &[u8], value: &[u8], expiry: Option<i64>) -> Entry {
        let length = u32::try_from(key.len()).ok().filter(|length| length & EXPIRES == 0);
        let length = length.expect("keys are limited to far less than 2 GiB");
        let size = LENGTH_BYTES + EXPIRY_BYTES + key.len() + value.len();
        let mut bytes = Vec::with_capacity(size - if expiry.is_some() { 0 } else { EXPIRY_BYTES });
        match expiry {
            None => bytes.extend_from_slice(&length.to_le_bytes()),
            Some(at) => {
                bytes.extend_from_slice(&(length | EXPIRES).to_le_bytes());
                bytes.extend_from_slice(&at.to_le_bytes());
            }
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Entry(bytes.into_boxed_slice())
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let (start, length) = self.key_place();
        &self.0[start..start + length]
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        let (start, length) = self.key_place();
        &self.0[start + length..]
    }

    /// When it expires, in milliseconds of Unix time.
    pub fn expiry(&self) -> Option<i64> {
        let at = self.0.get(LENGTH_BYTES..LENGTH_BYTES + EXPIRY_BYTES)?;
        let mut eight = [0; EXPIRY_BYTES];
        eight.copy_from_slice(at);
        (self.length_word() & EXPIRES != 0).then(|| i64::from_le_bytes(eight))
    }

    /// Whether it has expired at a time in milliseconds.
    pub fn is_expired(&self, now: i64) -> bool {
        self.expiry().is_some_and(|at| at <= now)
    }

    /// Bytes it takes up.
    pub fn bytes(&self) -> usize {
        size_of::<Entry>() + self.0.len()
    }

    fn key_place(&self) -> (usize, usize) {
        let word = self.length_word();
        let start = if word & EXPIRES == 0 { LENGTH_BYTES } else { LENGTH_BYTES + EXPIRY_BYTES };
        (start, (word & !EXPIRES) as usize)
    }

    fn length_word(&self) -> u32 {
        let mut four = [0; LENGTH_BYTES];
        four.copy_from_slice(&self.0[..LENGTH_BYTES]);
        u32::from_le_bytes(four)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return write!(f, "taken");
        }
        write!(f, "{} = {}", self.key().escape_ascii(), self.value().escape_ascii())?;
        self.expiry().map_or(Ok(()), |at| write!(f, ", expires at {at}"))
    }
}

/// The time in milliseconds of Unix time, which expiries are held against. Nothing else is decided
/// by it.
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_value_and_expiry_come_back_whatever_their_bytes() {
        for (key, value) in [(&b""[..], &b""[..]), (b"k", b""), (b"", b"v"), (b"\0\xff", &[9; 300])]
        {
            for expiry in [None, Some(0), Some(i64::MAX), Some(-1)] {
                let entry = Entry::expiring(key, value, expiry);
                assert_eq!((entry.key(), entry.value(), entry.expiry()), (key, value, expiry));
            }
        }
        assert_eq!(Entry::new(b"key", b"value").bytes(), size_of::<Entry>() + 4 + 8);
    }

    #[test]
    fn an_entry_expires_at_its_time_and_not_before() {
        let entry = Entry::expiring(b"k", b"v", Some(1000));
        assert!(!entry.is_expired(999));
        assert!(entry.is_expired(1000));
        assert!(!Entry::new(b"k", b"v").is_expired(i64::MAX));
    }
}
