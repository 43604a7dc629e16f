//! A mutation as the log keeps it.
//!
//! The text of a record is the seed program's own, so that `strings` on a log reads as the seed's
//! does: `3SET5hello5world\n`, `3DEL5hello0\n`. An expiry is a third field, milliseconds of Unix
//! time: `3SET5hello5world13` `1795000000000\n`. `8FLUSHALL00\n` removes every key. Alone the text is
//! ambiguous, because a key or value that begins with a digit runs into the length before it
//! (`3SET11...`). So a header goes before it, the reader slices by that, and holds the text against it:
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | length of the key, little-endian |
//! | 4 | length of the value, 0 for DEL |
//! | 4 | length of the expiry, 0 if there is none |
//! | | text, `<opLen><op><keyLen><key><valueLen><value>[<expiryLen><expiry>]\n` |
//!
//! Records are absolute: replaying one twice is harmless (promise 3).

use crate::command::{Change, Mutation};
use crate::entry::{Entry, Parts};

const HEADER_BYTES: usize = 12;

/// No record is shorter: that is a DEL of the empty key.
pub const LEAST_BYTES: usize = HEADER_BYTES + 7;
const SET: &[u8] = b"3SET";
const DEL: &[u8] = b"3DEL";
const CLEAR: &[u8] = b"8FLUSHALL";

/// Hands the bytes of a record to `write`, piece by piece.
pub fn encode(mutation: &Mutation, write: impl FnMut(&[u8])) {
    match mutation {
        Mutation::Set(entry) => encode_set(entry, write),
        Mutation::Delete(key) => encode_fields(DEL, key, &[], None, write),
        Mutation::Clear => encode_fields(CLEAR, &[], &[], None, write),
    }
}

/// The same for a [`Mutation::Set`] of this entry.
pub fn encode_set(entry: &Entry, write: impl FnMut(&[u8])) {
    encode_fields(SET, entry.key(), entry.value(), entry.expiry(), write);
}

fn encode_fields(
    op: &[u8],
    key: &[u8],
    value: &[u8],
    expiry: Option<i64>,
    mut write: impl FnMut(&[u8]),
) {
    let expiry = expiry.map(|at| at.to_string()).unwrap_or_default();
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length(key).to_le_bytes());
    header[4..8].copy_from_slice(&length(value).to_le_bytes());
    header[8..].copy_from_slice(&length(expiry.as_bytes()).to_le_bytes());
    write(&header);
    write(op);
    write(Decimal::new(length(key)).as_bytes());
    write(key);
    write(Decimal::new(length(value)).as_bytes());
    write(value);
    if !expiry.is_empty() {
        write(Decimal::new(length(expiry.as_bytes())).as_bytes());
        write(expiry.as_bytes());
    }
    write(b"\n");
}

/// Which key the record at the start of `bytes` is about, and how long the record is. That it is one,
/// only [`decode`] makes sure of.
pub fn skim(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut rest = Slices(bytes);
    let lengths = [rest.u32()?, rest.u32()?, rest.u32()?];
    let op = if is_about_all(bytes) { CLEAR.len() } else { SET.len() };
    rest.take(op + Decimal::length(lengths[0]))?;
    let key = rest.take(lengths[0] as usize)?;
    let mut behind = Decimal::length(lengths[1]) + lengths[1] as usize + 1;
    if lengths[2] > 0 {
        behind += Decimal::length(lengths[2]) + lengths[2] as usize;
    }
    rest.take(behind)?;
    Some((key, bytes.len() - rest.0.len()))
}

/// Whether the record at the start of `bytes`, if it is one, is about every key.
pub fn is_about_all(bytes: &[u8]) -> bool {
    bytes.get(HEADER_BYTES) == Some(&CLEAR[0])
}

/// Reads the record at the start of `bytes`, and says how long it is. `None` if there is none.
pub fn decode(bytes: &[u8]) -> Option<(Change<'_>, usize)> {
    let mut rest = Slices(bytes);
    let key_length = rest.u32()?;
    let value_length = rest.u32()?;
    let expiry_length = rest.u32()?;
    let op = [SET, DEL, CLEAR].into_iter().find(|op| rest.0.starts_with(op))?;
    rest.expect(op)?;
    rest.expect(Decimal::new(key_length).as_bytes())?;
    let key = rest.take(key_length as usize)?;
    rest.expect(Decimal::new(value_length).as_bytes())?;
    let value = rest.take(value_length as usize)?;
    let mut expiry = None;
    if expiry_length > 0 {
        rest.expect(Decimal::new(expiry_length).as_bytes())?;
        let text = std::str::from_utf8(rest.take(expiry_length as usize)?).ok()?;
        expiry = Some(text.parse().ok()?);
    }
    rest.expect(b"\n")?;
    let change = match op {
        SET => Change::Set(Parts { key, value, expiry }),
        DEL if value.is_empty() && expiry.is_none() => Change::Delete(key),
        CLEAR if key.is_empty() && value.is_empty() && expiry.is_none() => Change::Clear,
        _ => return None,
    };
    Some((change, bytes.len() - rest.0.len()))
}

/// Hands the records of a batch on. An error if they are not exactly its payload.
pub fn decode_batch<'a>(
    payload: &'a [u8],
    records: u32,
    mut take: impl FnMut(Change<'a>),
) -> Result<(), NotRecords> {
    let mut rest = payload;
    for _ in 0..records {
        let (change, length) = decode(rest).ok_or(NotRecords)?;
        take(change);
        rest = &rest[length..];
    }
    if rest.is_empty() { Ok(()) } else { Err(NotRecords) }
}

/// A payload that is not made of the records it should be.
#[derive(Debug)]
pub struct NotRecords;

impl std::fmt::Display for NotRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the payload is not made of that many records")
    }
}

impl std::error::Error for NotRecords {}

fn length(field: &[u8]) -> u32 {
    u32::try_from(field.len()).expect("keys and values are limited to less than 4 GiB")
}

/// Bytes taken from the front, never past the end.
struct Slices<'a>(&'a [u8]);

impl<'a> Slices<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        (self.take(bytes.len())? == bytes).then_some(())
    }

    fn u32(&mut self) -> Option<u32> {
        let mut four = [0; 4];
        four.copy_from_slice(self.take(4)?);
        Some(u32::from_le_bytes(four))
    }
}

/// A number in decimal digits, without an allocation: two of them are in every record.
struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    fn new(mut number: u32) -> Decimal {
        let mut decimal = Decimal { digits: [0; 10], start: 10 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    /// How many digits a number has.
    fn length(number: u32) -> usize {
        number.checked_ilog10().map_or(1, |log| log as usize + 1)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(mutation: &Mutation) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(mutation, |piece| bytes.extend_from_slice(piece));
        bytes
    }

    #[test]
    fn the_text_of_a_record_is_the_seeds() {
        let set = encoded(&Mutation::Set(Entry::new(b"hello", b"world")));
        assert_eq!(&set[HEADER_BYTES..], b"3SET5hello5world\n");
        let del = encoded(&Mutation::Delete(b"hello"[..].into()));
        assert_eq!(&del[HEADER_BYTES..], b"3DEL5hello0\n");
        let expiring =
            encoded(&Mutation::Set(Entry::expiring(b"a", b"b", Some(1_795_000_000_000))));
        assert_eq!(&expiring[HEADER_BYTES..], b"3SET1a1b131795000000000\n");
    }

    #[test]
    fn records_are_read_back_and_every_shorter_or_changed_one_is_refused() {
        let mutations = [
            Mutation::Set(Entry::new(b"1", b"23")),
            Mutation::Set(Entry::new(b"", b"")),
            Mutation::Set(Entry::new(b"\n\0\xff", &[b'3'; 1000])),
            Mutation::Set(Entry::expiring(b"key", b"5", Some(-1))),
            Mutation::Delete(b"12"[..].into()),
            Mutation::Clear,
        ];
        for mutation in mutations {
            let bytes = encoded(&mutation);
            assert_eq!(skim(&bytes), Some((mutation.key(), bytes.len())));
            assert_eq!(is_about_all(&bytes), mutation == Mutation::Clear);
            for shorter in 0..bytes.len() {
                assert_eq!(skim(&bytes[..shorter]), None, "{shorter} of {bytes:?}");
                assert_eq!(decode(&bytes[..shorter]), None, "{shorter} of {bytes:?}");
            }
            let decoded = decode(&bytes).map(|(change, length)| (change.to_mutation(), length));
            assert_eq!(decoded, Some((mutation, bytes.len())));
        }
        let mut bytes = encoded(&Mutation::Set(Entry::new(b"key", b"value")));
        bytes[HEADER_BYTES + 1] ^= 1;
        assert_eq!(decode(&bytes), None);
    }
}
