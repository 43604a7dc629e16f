//! A key with its value and, if it has one, its time of expiry, as one run of bytes.
//!
//! It is made on the client's thread, from the bytes of the request, and then handed on: the log copies
//! from it, and the store keeps it as it is, or packs it with others. Nothing else holds keys or values.
//!
//! | bytes | field |
//! |------:|-------|
//! | 1 | 128 if there is an expiry, plus 64 if the lengths are wide, otherwise the key's length |
//! | 1 or 8 | length of the value; or, if wide, of the key and of the value, 4 bytes each |
//! | 0 or 8 | expiry, milliseconds of Unix time; or room for one, which is 0 |
//! | | key |
//! | | value |
//!
//! Numbers are little-endian. A short key with a short value costs two bytes more, and because both
//! lengths come first, entries can lie one after another.
//!
//! A value longer than `ROOM_FROM` always has room for an expiry before it. So EXPIRE and PERSIST move none of its
//! bytes: to shift 400 MB by eight bytes takes 0.1 s, in which no reader of its shard goes on.

use std::time::{SystemTime, UNIX_EPOCH};

use bytemuck::TransparentWrapper;
use bytemuck::allocation::TransparentWrapperAlloc;

const EXPIRES: u8 = 128;
const WIDE: u8 = 64;
/// What the flags leave of the first byte.
const LONGEST_NARROW_KEY: usize = WIDE as usize - 1;
const LONGEST_NARROW_VALUE: usize = u8::MAX as usize;
const NARROW_BYTES: usize = 2;
const WIDE_BYTES: usize = 9;
const EXPIRY_BYTES: usize = 8;

/// Eight bytes more are less than 0.2 per cent of a longer value; a shorter one is shifted in 0.1 µs.
const ROOM_FROM: usize = 4096;

/// A key and its value, both any bytes. Like `str` it is only met behind a pointer; `Box<Entry>`
/// owns one. The default box holds no entry at all: it is what taking one leaves behind.
///
/// - The bytes are one entry, to the last; only the default box has none.
#[derive(PartialEq, Eq, TransparentWrapper)]
#[repr(transparent)]
pub struct Entry([u8]);

/// What an entry is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// When it expires, in milliseconds of Unix time.
    pub expiry: Option<i64>,
}

/// An entry on its way into a store: made already, or the parts of one, which is then made directly
/// in its place.
pub enum New<'a> {
    /// An entry.
    Made(Box<Entry>),
    /// What it is made of.
    Parts(Parts<'a>),
}

/// What the first bytes of an entry say.
struct Header {
    expires: bool,
    /// Length of the header, after which an expiry stands.
    bytes: usize,
    key: usize,
    value: usize,
}

impl Header {
    fn new(key: usize, value: usize, expires: bool) -> Header {
        let wide = key > LONGEST_NARROW_KEY || value > LONGEST_NARROW_VALUE;
        let bytes = if wide { WIDE_BYTES } else { NARROW_BYTES };
        Header { expires, bytes, key, value }
    }

    /// Writes all that stands before the key.
    fn write(&self, expiry: Option<i64>, write: &mut impl FnMut(&[u8])) {
        let flag = if self.expires { EXPIRES } else { 0 };
        if self.bytes == NARROW_BYTES {
            write(&[flag | self.key as u8, self.value as u8]);
        } else {
            let length = |part: usize| u32::try_from(part).expect("it is less than 4 GiB");
            write(&[flag | WIDE]);
            write(&length(self.key).to_le_bytes());
            write(&length(self.value).to_le_bytes());
        }
        if self.has_room() {
            write(&expiry.unwrap_or(0).to_le_bytes());
        }
    }

    fn of(bytes: &[u8]) -> Header {
        let first = bytes[0];
        let expires = first & EXPIRES != 0;
        if first & WIDE == 0 {
            let key = usize::from(first & !EXPIRES);
            return Header { expires, bytes: NARROW_BYTES, key, value: bytes[1].into() };
        }
        let length = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(four) as usize
        };
        Header { expires, bytes: WIDE_BYTES, key: length(1), value: length(5) }
    }

    /// Whether an expiry stands after the header, or room for one.
    fn has_room(&self) -> bool {
        self.expires || self.value > ROOM_FROM
    }

    fn key_start(&self) -> usize {
        self.bytes + if self.has_room() { EXPIRY_BYTES } else { 0 }
    }

    fn value_start(&self) -> usize {
        self.key_start() + self.key
    }

    fn end(&self) -> usize {
        self.value_start() + self.value
    }
}

impl Parts<'_> {
    /// Bytes of the entry that they make.
    pub fn bytes(&self) -> usize {
        self.header().end()
    }

    /// The entry that they make.
    pub fn to_entry(&self) -> Box<Entry> {
        let mut bytes = Vec::with_capacity(self.bytes());
        self.pieces(|piece| bytes.extend_from_slice(piece));
        Entry::wrap_box(bytes.into_boxed_slice())
    }

    /// Writes the entry that they make; `bytes` is as long as that.
    pub fn write_to(&self, bytes: &mut [u8]) {
        let mut rest = bytes;
        self.pieces(|piece| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
            here.copy_from_slice(piece);
            rest = after;
        });
    }

    /// The entry that they make, piece by piece. The protocol keeps each length far below 4 GiB.
    fn pieces(&self, mut write: impl FnMut(&[u8])) {
        self.header().write(self.expiry, &mut write);
        write(self.key);
        write(self.value);
    }

    fn header(&self) -> Header {
        Header::new(self.key.len(), self.value.len(), self.expiry.is_some())
    }
}

impl New<'_> {
    /// Its key.
    pub fn key(&self) -> &[u8] {
        match self {
            New::Made(entry) => entry.key(),
            New::Parts(parts) => parts.key,
        }
    }

    /// When it expires, in milliseconds of Unix time.
    pub fn expiry(&self) -> Option<i64> {
        match self {
            New::Made(entry) => entry.expiry(),
            New::Parts(parts) => parts.expiry,
        }
    }

    /// Bytes of the entry.
    pub fn bytes(&self) -> usize {
        match self {
            New::Made(entry) => entry.bytes(),
            New::Parts(parts) => parts.bytes(),
        }
    }

    /// Writes the entry; `bytes` is as long as that.
    pub fn write_to(&self, bytes: &mut [u8]) {
        match self {
            New::Made(entry) => bytes.copy_from_slice(entry.as_bytes()),
            New::Parts(parts) => parts.write_to(bytes),
        }
    }

    /// The entry on its own.
    pub fn into_box(self) -> Box<Entry> {
        match self {
            New::Made(entry) => entry,
            New::Parts(parts) => parts.to_entry(),
        }
    }
}

impl Entry {
    /// Copies key and value, without expiry.
    pub fn new(key: &[u8], value: &[u8]) -> Box<Entry> {
        Entry::expiring(key, value, None)
    }

    /// Copies key and value.
    pub fn expiring(key: &[u8], value: &[u8], expiry: Option<i64>) -> Box<Entry> {
        Parts { key, value, expiry }.to_entry()
    }

    /// An entry whose value of `length` bytes, all zero at first, is written in place by `fill`: so
    /// a long value is made without an intermediate copy.
    pub fn filled(
        key: &[u8],
        length: usize,
        expiry: Option<i64>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Box<Entry> {
        let header = Header::new(key.len(), length, expiry.is_some());
        let mut bytes = vec![0; header.end()];
        let mut at = 0;
        let mut write = |piece: &[u8]| {
            bytes[at..][..piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        header.write(expiry, &mut write);
        write(key);
        fill(&mut bytes[at..]);
        Entry::wrap_box(bytes.into_boxed_slice())
    }

    /// Bytes of an entry with a key and a value of these lengths.
    pub fn bytes_with(key: usize, value: usize, expires: bool) -> usize {
        Header::new(key, value, expires).end()
    }

    /// The entry at the start of `bytes`, whatever follows it.
    pub fn at_start_of(bytes: &[u8]) -> &Entry {
        Entry::wrap_ref(&bytes[..Header::of(bytes).end()])
    }

    /// All of it, as [`Entry::at_start_of`] reads it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let header = Header::of(&self.0);
        &self.0[header.key_start()..][..header.key]
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0[Header::of(&self.0).value_start()..]
    }

    /// When it expires, in milliseconds of Unix time.
    pub fn expiry(&self) -> Option<i64> {
        expiry_in(&self.0, &Header::of(&self.0))
    }

    /// The same with these bytes at a place of the value, which grows if they reach beyond its end. The other bytes
    /// of a long value stay where they are, or the kernel moves their pages (mremap, by way of realloc).
    pub fn patched(self: Box<Entry>, offset: usize, part: &[u8]) -> Box<Entry> {
        let old = Header::of(&self.0);
        assert!(offset <= old.value, "a value has no gap");
        let new = Header::new(old.key, old.value.max(offset + part.len()), old.expires);
        let (over, beyond) = part.split_at(part.len().min(old.value - offset));
        if new.value_start() != old.value_start() {
            return Entry::filled(self.key(), new.value, self.expiry(), |value| {
                value[..old.value].copy_from_slice(self.value());
                value[offset..][..part.len()].copy_from_slice(part);
            });
        }
        let mut bytes = Vec::from(Entry::peel_box(self));
        bytes[old.value_start() + offset..][..over.len()].copy_from_slice(over);
        if !beyond.is_empty() {
            bytes.reserve_exact(beyond.len());
            bytes.extend_from_slice(beyond);
            let (mut header, mut at) = ([0; WIDE_BYTES + EXPIRY_BYTES], 0);
            new.write(expiry_in(&bytes, &old), &mut |piece: &[u8]| {
                header[at..][..piece.len()].copy_from_slice(piece);
                at += piece.len();
            });
            bytes[..at].copy_from_slice(&header[..at]);
        }
        Entry::wrap_box(bytes.into_boxed_slice())
    }

    /// The same with another expiry. A long value stays where it is.
    pub fn with_expiry(self: Box<Entry>, expiry: Option<i64>) -> Box<Entry> {
        let old = Header::of(&self.0);
        let new = Header::new(old.key, old.value, expiry.is_some());
        if new.key_start() != old.key_start() {
            return Entry::expiring(self.key(), self.value(), expiry);
        }
        let mut bytes = Entry::peel_box(self);
        if new.has_room() {
            bytes[0] = bytes[0] & !EXPIRES | if new.expires { EXPIRES } else { 0 };
            bytes[new.bytes..][..EXPIRY_BYTES].copy_from_slice(&expiry.unwrap_or(0).to_le_bytes());
        }
        Entry::wrap_box(bytes)
    }

    /// Whether it has expired at a time in milliseconds.
    pub fn is_expired(&self, now: i64) -> bool {
        self.expiry().is_some_and(|at| at <= now)
    }

    /// Bytes it takes up.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

fn expiry_in(bytes: &[u8], header: &Header) -> Option<i64> {
    if !header.expires {
        return None;
    }
    let mut eight = [0; EXPIRY_BYTES];
    eight.copy_from_slice(&bytes[header.bytes..][..EXPIRY_BYTES]);
    Some(i64::from_le_bytes(eight))
}

impl ToOwned for Entry {
    type Owned = Box<Entry>;

    fn to_owned(&self) -> Box<Entry> {
        Entry::wrap_box(self.0.into())
    }
}

impl Clone for Box<Entry> {
    fn clone(&self) -> Box<Entry> {
        (**self).to_owned()
    }
}

impl Default for Box<Entry> {
    fn default() -> Box<Entry> {
        Entry::wrap_box(Box::default())
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

/// The present Unix time in milliseconds, with which expiries are compared. Nothing else is decided
/// by it.
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time now, in microseconds of Unix time.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_value_and_expiry_come_back_whatever_their_bytes_and_lengths() {
        let lengths = [0, 1, 62, 63, 64, 254, 255, 256, 70_000];
        for (key, value) in lengths.iter().flat_map(|key| lengths.map(|value| (*key, value))) {
            for expiry in [None, Some(0), Some(i64::MAX), Some(-1)] {
                for fill in [0, b'k', 255] {
                    let (key, value) = (vec![fill; key], vec![!fill; value]);
                    let entry = Entry::expiring(&key, &value, expiry);
                    assert_eq!((entry.key(), entry.value()), (&key[..], &value[..]));
                    assert_eq!(entry.expiry(), expiry);
                    assert_eq!(entry.clone(), entry);
                    let copy = |bytes: &mut [u8]| bytes.copy_from_slice(&value);
                    assert_eq!(Entry::filled(&key, value.len(), expiry, copy), entry);
                    let bytes = Entry::bytes_with(key.len(), value.len(), expiry.is_some());
                    assert_eq!(bytes, entry.bytes());

                    let among_others = [entry.as_bytes(), &[fill; 20]].concat();
                    assert_eq!(Entry::at_start_of(&among_others), &*entry);
                }
            }
        }
    }

    #[test]
    fn a_changed_entry_is_the_one_that_would_be_made_anew() {
        let lengths = [0, 1, 254, 255, 256, 300, 4095, 4096, 4097, 70_000];
        let expiries = [None, Some(0), Some(i64::MAX), Some(-1)];
        for (length, expiry) in lengths.iter().flat_map(|it| expiries.map(|at| (*it, at))) {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let entry = Entry::expiring(b"key", &value, expiry);
            for other in expiries {
                let changed = entry.clone().with_expiry(other);
                assert_eq!(changed, Entry::expiring(b"key", &value, other));
            }
            for offset in [0, 1, length / 2, length].into_iter().filter(|at| *at <= length) {
                for part in [0, 1, 2, 300, 5000] {
                    let part = vec![b'p'; part];
                    let mut expected = value.clone();
                    expected.resize(length.max(offset + part.len()), 0);
                    expected[offset..][..part.len()].copy_from_slice(&part);
                    let changed = entry.clone().patched(offset, &part);
                    assert_eq!(changed, Entry::expiring(b"key", &expected, expiry));
                }
            }
        }
    }

    #[test]
    fn a_short_entry_pays_two_bytes_and_eight_more_for_an_expiry() {
        assert_eq!(Entry::new(b"key", b"value").bytes(), 2 + 8);
        assert_eq!(Entry::expiring(b"key", b"value", Some(1)).bytes(), 2 + 8 + 8);
        assert_eq!(Entry::new(b"key", &[0; 256]).bytes(), 9 + 3 + 256);
    }

    #[test]
    fn an_entry_expires_at_its_time_and_not_before() {
        let entry = Entry::expiring(b"k", b"v", Some(1000));
        assert!(!entry.is_expired(999));
        assert!(entry.is_expired(1000));
        assert!(!Entry::new(b"k", b"v").is_expired(i64::MAX));
    }
}
