//! The value of the key `snapshot`: which snapshot is whole, and what it has to be.
//!
//! `v1 <lsn> <last_checksum> <writer> <pieces> <records> <bytes> <checksum>`, one space between two fields, numbers in
//! decimal, the checksums in 8 hexadecimal digits. The snapshot rebuilds everything up to `lsn`, and the batch after that
//! names `last_checksum`. Its pieces are entries (see [`super::entry`]) of a chain of their own that counts its
//! records from 1 and ends with `checksum`. `writer` is in the keys of the pieces: two snapshots of the same LSN do
//! not share any.

use std::fmt;

/// See the head of this file.
///
/// - There is a piece if there is a record, and no piece is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    /// The last LSN that the snapshot covers.
    pub lsn: u64,
    /// The checksum of the batch that ends there, 0 if there is none.
    pub last_checksum: u32,
    /// The term of the leader that wrote it.
    pub writer: u64,
    /// How many pieces it has.
    pub pieces: u64,
    /// How many records they have.
    pub records: u64,
    /// Bytes of all pieces.
    pub bytes: u64,
    /// The checksum of the last piece, 0 if there is none.
    pub checksum: u32,
}

impl Pointer {
    /// Reads a value. What it reads is what would be written.
    pub fn parse(value: &[u8]) -> Result<Pointer, String> {
        let text = String::from_utf8_lossy(&value[..value.len().min(LONGEST)]);
        let pointer = Pointer::fields(&text).filter(|it| {
            it.to_string().as_bytes() == value
                && it.pieces <= it.records
                && (it.pieces > 0) == (it.records > 0)
        });
        pointer.ok_or_else(|| {
            format!("the pointer to the snapshot is {text:?}, which no server writes")
        })
    }

    fn fields(text: &str) -> Option<Pointer> {
        let mut words = text.strip_prefix("v1 ")?.split(' ');
        let mut word = || words.next();
        let number = |word: Option<&str>| word?.parse::<u64>().ok();
        let checksum = |word: Option<&str>| u32::from_str_radix(word?, 16).ok();
        Some(Pointer {
            lsn: number(word())?,
            last_checksum: checksum(word())?,
            writer: number(word())?,
            pieces: number(word())?,
            records: number(word())?,
            bytes: number(word())?,
            checksum: checksum(word())?,
        })
    }
}

/// Longer than any pointer: its numbers have 20 digits at most.
const LONGEST: usize = 160;

impl fmt::Display for Pointer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pointer { lsn, last_checksum, writer, pieces, records, bytes, checksum } = self;
        write!(
            out,
            "v1 {lsn} {last_checksum:08x} {writer} {pieces} {records} {bytes} {checksum:08x}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_it_was_written_and_nothing_else_is_one() {
        let most = u64::MAX;
        let all = [
            Pointer::default(),
            Pointer {
                lsn: 9,
                last_checksum: 0xab,
                writer: 3,
                pieces: 2,
                records: 7,
                bytes: 99,
                checksum: 1,
            },
            Pointer {
                lsn: most,
                last_checksum: u32::MAX,
                writer: most,
                pieces: most,
                records: most,
                bytes: most,
                checksum: u32::MAX,
            },
        ];
        for pointer in all {
            let text = pointer.to_string();
            assert!(text.len() < LONGEST);
            assert_eq!(Pointer::parse(text.as_bytes()), Ok(pointer));
            for wrong in [
                format!("{text} "),
                format!(" {text}"),
                text.replace("v1", "v2"),
                text[..text.len() - 1].into(),
            ] {
                assert!(Pointer::parse(wrong.as_bytes()).is_err(), "{wrong}");
            }
        }
        for wrong in [
            "",
            "v1",
            "v1 9 000000ab 3 2 1 99 00000001",
            "v1 9 000000ab 3 0 7 99 00000001",
            "v1 9 ab 3 2 7 99 1",
        ] {
            assert!(Pointer::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
