//! A mutation as the log keeps it.
//!
//! The text of a record is the seed program's own, so that `strings` on a log reads as the seed's
//! does: `3SET5hello5world\n`, `3DEL5hello0\n`. An expiry is a third field, milliseconds of Unix
//! time: `3SET5hello5world13` `1795000000000\n`. `8FLUSHALL00\n` removes every key. Alone the text
//! is ambiguous, because a key or value that begins with a digit runs into the length before it
//! (`3SET11...`). So a header goes before it; the reader slices by that, and checks the text
//! against it:
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | length of the key, little-endian |
//! | 4 | length of the value, 0 for DEL |
//! | 4 | length of the expiry, 0 if there is none |
//! | | text, `<opLen><op><keyLen><key><valueLen><value>[<expiryLen><expiry>]\n` |
//!
//! Records are absolute: replaying one twice is harmless (promise 3).

use itoa::Buffer;

use crate::command::{Change, Mutation};
use crate::entry::{Entry, Parts};

const HEADER_BYTES: usize = 12;

/// The shortest record: a DEL of the empty key.
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
    let mut expiry_digits = Buffer::new();
    let expiry = expiry.map_or("", |at| expiry_digits.format(at));
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length(key).to_le_bytes());
    header[4..8].copy_from_slice(&length(value).to_le_bytes());
    header[8..].copy_from_slice(&length(expiry.as_bytes()).to_le_bytes());
    write(&header);
    write(op);
    write(Buffer::new().format(length(key)).as_bytes());
    write(key);
    write(Buffer::new().format(length(value)).as_bytes());
    write(value);
    if !expiry.is_empty() {
        write(Buffer::new().format(length(expiry.as_bytes())).as_bytes());
        write(expiry.as_bytes());
    }
    write(b"\n");
}

/// A record as its lengths cut it out of a batch. Its text has not been checked against them yet.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    lengths: [u32; 3],
    key: &'a [u8],
    text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Cuts off the record at the start of `bytes`, and what follows it. `None` if there is none.
    pub fn cut(bytes: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
        let mut rest = Slices(bytes);
        let lengths = [rest.u32()?, rest.u32()?, rest.u32()?];
        let text = rest.0;
        let is_clear = text.first() == Some(&CLEAR[0]);
        let op = if is_clear { CLEAR.len() } else { SET.len() };
        let field = |length: u32| digits(length) + length as usize;
        let expiry = if lengths[2] > 0 { field(lengths[2]) } else { 0 };
        rest.take(op + digits(lengths[0]))?;
        let key = rest.take(lengths[0] as usize)?;
        rest.take(field(lengths[1]) + expiry + b"\n".len())?;
        let text = &text[..text.len() - rest.0.len()];
        Some((Record { lengths, key, text }, rest.0))
    }

    /// The key that it is about.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Whether it is about every key.
    pub fn is_about_all(&self) -> bool {
        self.text.first() == Some(&CLEAR[0])
    }

    /// Checks its text against its lengths, and reads it.
    pub fn read(&self) -> Result<Change<'a>, NotRecords> {
        self.change().ok_or(NotRecords)
    }

    fn change(&self) -> Option<Change<'a>> {
        let mut rest = Slices(self.text);
        let op = [SET, DEL, CLEAR].into_iter().find(|op| rest.0.starts_with(op))?;
        rest.expect(op)?;
        let [key, value, expiry] = self.lengths;
        let (key, value) = (rest.field(key)?, rest.field(value)?);
        let mut at = None;
        if expiry > 0 {
            at = Some(std::str::from_utf8(rest.field(expiry)?).ok()?.parse().ok()?);
        }
        rest.expect(b"\n")?;
        if !rest.0.is_empty() {
            return None;
        }
        match op {
            SET => Some(Change::Set(Parts { key, value, expiry: at })),
            DEL if value.is_empty() && at.is_none() => Some(Change::Delete(key)),
            CLEAR if key.is_empty() && value.is_empty() && at.is_none() => Some(Change::Clear),
            _ => None,
        }
    }
}

/// Cuts a batch into its records. The last item is an error if they are not exactly its payload.
pub fn cut(payload: &[u8], records: u32) -> impl Iterator<Item = Result<Record<'_>, NotRecords>> {
    let mut left = Some((payload, records));
    std::iter::from_fn(move || {
        let (rest, count) = left.take()?;
        if count == 0 {
            return if rest.is_empty() { None } else { Some(Err(NotRecords)) };
        }
        let Some((record, rest)) = Record::cut(rest) else {
            return Some(Err(NotRecords));
        };
        left = Some((rest, count - 1));
        Some(Ok(record))
    })
}

/// Hands on the changes of a batch. Fails if its records are not exactly its payload.
pub fn read_batch<'a>(
    payload: &'a [u8],
    records: u32,
    mut take: impl FnMut(Change<'a>),
) -> Result<(), NotRecords> {
    cut(payload, records).try_for_each(|record| {
        take(record?.read()?);
        Ok(())
    })
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

    /// Takes the digits of a field's length, and the field.
    fn field(&mut self, length: u32) -> Option<&'a [u8]> {
        self.expect(Buffer::new().format(length).as_bytes())?;
        self.take(length as usize)
    }

    fn u32(&mut self) -> Option<u32> {
        let mut four = [0; 4];
        four.copy_from_slice(self.take(4)?);
        Some(u32::from_le_bytes(four))
    }
}

/// How many decimal digits a number has.
fn digits(number: u32) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
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
            let (record, rest) = Record::cut(&bytes).expect("a record");
            assert_eq!((record.key(), rest), (mutation.key(), &b""[..]));
            assert_eq!(record.is_about_all(), mutation == Mutation::Clear);
            for shorter in 0..bytes.len() {
                let cut = Record::cut(&bytes[..shorter]);
                assert!(cut.is_none(), "{shorter} of {bytes:?}");
            }
            assert_eq!(record.read().map(|change| change.to_mutation()).ok(), Some(mutation));
        }
        let mut bytes = encoded(&Mutation::Set(Entry::new(b"key", b"value")));
        bytes[HEADER_BYTES + 1] ^= 1;
        assert!(read_batch(&bytes, 1, drop).is_err());
    }

    #[test]
    fn a_batch_is_exactly_its_records() {
        let payload = encoded(&Mutation::Delete(b"key"[..].into())).repeat(3);
        assert!(read_batch(&payload, 3, drop).is_ok());
        for records in [0, 2, 4, u32::MAX] {
            assert!(read_batch(&payload, records, drop).is_err(), "{records}");
        }
        assert!(read_batch(&payload[1..], 3, drop).is_err());
    }
}
