//! A mutation as the log keeps it.
//!
//! The text of a record is the seed program's own, so that `strings` on a log reads as the seed's
//! does: `3SET5hello5world\n`, `3DEL5hello0\n`. Alone it is ambiguous, because a key or value that
//! begins with a digit runs into the length before it (`3SET11...`). So a header goes before it,
//! the reader slices by that, and holds the text against it:
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | length of the key, little-endian |
//! | 4 | length of the value, 0 for DEL |
//! | 4 | zero: room for a third field |
//! | | text, `<opLen><op><keyLen><key><valueLen><value>\n` |
//!
//! Records are absolute: replaying one twice is harmless (promise 3).

use crate::command::Mutation;
use crate::entry::Entry;

const HEADER_BYTES: usize = 12;
const SET: &[u8] = b"3SET";
const DEL: &[u8] = b"3DEL";

/// Hands the bytes of a record to `write`, piece by piece.
pub fn encode(mutation: &Mutation, mut write: impl FnMut(&[u8])) {
    let (op, key, value) = match mutation {
        Mutation::Set(entry) => (SET, entry.key(), entry.value()),
        Mutation::Delete(key) => (DEL, &key[..], &[][..]),
    };
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length(key).to_le_bytes());
    header[4..8].copy_from_slice(&length(value).to_le_bytes());
    write(&header);
    write(op);
    write(Decimal::new(length(key)).as_bytes());
    write(key);
    write(Decimal::new(length(value)).as_bytes());
    write(value);
    write(b"\n");
}

/// Reads the record at the start of `bytes`, and says how long it is. `None` if there is none.
pub fn decode(bytes: &[u8]) -> Option<(Mutation, usize)> {
    let mut rest = Slices(bytes);
    let key_length = rest.u32()?;
    let value_length = rest.u32()?;
    if rest.u32()? != 0 {
        return None;
    }
    let op = rest.take(SET.len())?;
    rest.expect(Decimal::new(key_length).as_bytes())?;
    let key = rest.take(key_length as usize)?;
    rest.expect(Decimal::new(value_length).as_bytes())?;
    let value = rest.take(value_length as usize)?;
    rest.expect(b"\n")?;
    let mutation = match op {
        SET => Mutation::Set(Entry::new(key, value)),
        DEL if value.is_empty() => Mutation::Delete(key.into()),
        _ => return None,
    };
    Some((mutation, bytes.len() - rest.0.len()))
}

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
    }

    #[test]
    fn records_are_read_back_and_every_shorter_or_changed_one_is_refused() {
        let mutations = [
            Mutation::Set(Entry::new(b"1", b"23")),
            Mutation::Set(Entry::new(b"", b"")),
            Mutation::Set(Entry::new(b"\n\0\xff", &[b'3'; 1000])),
            Mutation::Delete(b"12"[..].into()),
        ];
        for mutation in mutations {
            let bytes = encoded(&mutation);
            assert_eq!(decode(&bytes), Some((mutation, bytes.len())));
            for shorter in 0..bytes.len() {
                assert_eq!(decode(&bytes[..shorter]), None, "{shorter} of {bytes:?}");
            }
        }
        let mut bytes = encoded(&Mutation::Set(Entry::new(b"key", b"value")));
        bytes[HEADER_BYTES + 1] ^= 1;
        assert_eq!(decode(&bytes), None);
    }
}
