//! A string as Redis's DUMP has it, written and read.
//!
//! | bytes | field |
//! |------:|-------|
//! | 1 | type, 0 for a string |
//! | | the value: a length and the bytes, or one of the codes below |
//! | 2 | version of the format, little-endian |
//! | 8 | CRC-64 (Jones) of all before it, little-endian |
//!
//! The first two bits of a length say how long it is itself: 00, the other six bits; 01, the other six and the
//! next byte; `0x80`, four bytes; `0x81`, eight bytes; all big-endian. 11 is a code instead:
//!
//! | first byte | value |
//! |-----------:|-------|
//! | `0xc0`, `0xc1`, `0xc2` | a number of one, two or four bytes, little-endian |
//! | `0xc3` | LZF: the packed length, the length, and the packed bytes |
//!
//! Nothing is written packed. That is as valid, and a payload needs no more memory than its value.

use crc::{CRC_64_REDIS, Crc, Table};

use crate::command::integer;

/// Redis 7.2's version of the format. A later one is refused, as it does.
const VERSION: u16 = 11;

/// Bytes after the value.
const FOOTER: usize = 2 + 8;

/// Bytes that a payload has beside its value, at most.
pub const FRAME: usize = 1 + 9 + FOOTER;

const STRING: u8 = 0;

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Why a payload is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its version is a later one, or its checksum is wrong.
    Footer,
    /// It is not made as this file says.
    Format,
    /// It is of another type.
    OtherType,
    /// Its value is longer than it may be.
    TooLong,
}

/// The payload of a value.
pub fn write(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + FRAME);
    out.push(STRING);
    match integer(value).and_then(|number| i32::try_from(number).ok()) {
        Some(number) => write_number(number, &mut out),
        None => {
            write_length(value.len(), &mut out);
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    let sum = CRC.checksum(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn write_number(number: i32, out: &mut Vec<u8>) {
    if let Ok(number) = i8::try_from(number) {
        out.push(0xc0);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xc1);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(0xc2);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("values are limited to less than 4 GiB");
    let [_, _, high, low] = bytes_of(length);
    match length {
        0..0x40 => out.push(low),
        0x40..0x4000 => out.extend_from_slice(&[0x40 | high, low]),
        _ => {
            out.push(0x80);
            out.extend_from_slice(&bytes_of(length));
        }
    }
}

/// The bytes of a number, the highest first.
fn bytes_of(number: u32) -> [u8; 4] {
    [24, 16, 8, 0].map(|shift| (number >> shift) as u8)
}

/// Reads the value of a payload, unless it is longer than `longest`.
pub fn read(payload: &[u8], longest: usize) -> Result<Vec<u8>, Unreadable> {
    let (rest, footer) = payload
        .len()
        .checked_sub(FOOTER)
        .map(|at| payload.split_at(at))
        .ok_or(Unreadable::Footer)?;
    let (version, sum) = footer.split_at(2);
    let is_right = CRC.checksum(&payload[..payload.len() - 8]).to_le_bytes() == sum;
    if u16::from_le_bytes([version[0], version[1]]) > VERSION || !is_right {
        return Err(Unreadable::Footer);
    }
    let mut rest = Bytes(rest);
    if rest.byte().ok_or(Unreadable::Format)? != STRING {
        return Err(Unreadable::OtherType);
    }
    let value = read_value(&mut rest, longest)?;
    // Redis overlooks bytes after the value; such a payload was not made by DUMP.
    if rest.0.is_empty() { Ok(value) } else { Err(Unreadable::Format) }
}

fn read_value(rest: &mut Bytes<'_>, longest: usize) -> Result<Vec<u8>, Unreadable> {
    let format = Unreadable::Format;
    let number = match rest.0.first().ok_or(format)? {
        0xc0 => i8::from_le_bytes(rest.coded().ok_or(format)?).into(),
        0xc1 => i16::from_le_bytes(rest.coded().ok_or(format)?).into(),
        0xc2 => i32::from_le_bytes(rest.coded().ok_or(format)?),
        0xc3 => {
            rest.byte();
            let packed = rest.length().ok_or(format)?;
            let length = rest.length().ok_or(format)?;
            if length > longest {
                return Err(Unreadable::TooLong);
            }
            return unpack(rest.take(packed).ok_or(format)?, length).ok_or(format);
        }
        _ => {
            let length = rest.length().ok_or(format)?;
            let value = rest.take(length).ok_or(format)?;
            return if length > longest { Err(Unreadable::TooLong) } else { Ok(value.to_vec()) };
        }
    };
    Ok(number.to_string().into_bytes())
}

/// Unpacks LZF. A byte below 32 says how many bytes follow as they are, less one. In any other, the first three
/// bits are a length less two (seven: the next byte is added), and the other five with the byte after that say
/// how far back to copy from, less one.
fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    // Three bytes become 264 at most; so a claim is no reason to take more memory than that.
    if length / 88 > packed.len() + 1 {
        return None;
    }
    let (mut out, mut rest) = (Vec::with_capacity(length), Bytes(packed));
    while let Some(control) = rest.byte().map(usize::from) {
        if control < 32 {
            out.extend_from_slice(rest.take(control + 1)?);
        } else {
            let mut count = control >> 5;
            if count == 7 {
                count += usize::from(rest.byte()?);
            }
            let back = (control & 31) << 8 | usize::from(rest.byte()?);
            let start = out.len().checked_sub(back + 1)?;
            if out.len() + count + 2 > length {
                return None;
            }
            // The source may overlap the place of the copy.
            (start..start + count + 2).for_each(|at| out.push(out[at]));
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

/// Bytes taken from the front, never past the end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// The bytes of a number after its code.
    fn coded<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        self.byte()?;
        self.take(COUNT)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        let first = self.byte()?;
        let mut number = |start: usize, count: usize| {
            let bytes = self.take(count)?;
            bytes.iter().try_fold(start, |number, byte| {
                number.checked_mul(256)?.checked_add(usize::from(*byte))
            })
        };
        match first {
            0..0x40 => Some(first.into()),
            0x40..0x80 => number((first & 0x3f).into(), 1),
            0x80 => number(0, 4),
            0x81 => number(0, 8),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_and_no_changed_or_shorter_payload_is() {
        let values: [&[u8]; 9] = [
            b"",
            b"1",
            b"-128",
            b"12345",
            b"-2147483648",
            b"2147483648",
            b"01",
            &[7; 64],
            &[8; 20_000],
        ];
        for value in values {
            let payload = write(value);
            assert!(payload.len() <= value.len() + FRAME);
            assert_eq!(read(&payload, value.len()).as_deref(), Ok(value));
            for at in 0..payload.len().min(100) {
                let mut changed = payload.clone();
                changed[at] ^= 1;
                assert!(read(&changed, usize::MAX).is_err(), "{value:?} {at}");
                assert!(read(&payload[..at], usize::MAX).is_err(), "{value:?} {at}");
            }
        }
        assert_eq!(read(&write(&[1; 100]), 99), Err(Unreadable::TooLong));
    }

    /// A payload with these bytes after the type.
    fn with_value(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut payload = [&[kind], bytes, &VERSION.to_le_bytes()[..]].concat();
        let sum = CRC.checksum(&payload);
        payload.extend_from_slice(&sum.to_le_bytes());
        payload
    }

    #[test]
    fn payloads_of_redis_are_read_and_wrong_ones_take_no_memory() {
        // `SET k aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, DUMP by Redis 7.0.
        let packed = b"\x00\xc3\t\x1e\x01aa\xe0\x11\x00\x01aa\n\x00Es|\xbb+d{\xbb";
        assert_eq!(read(packed, 30), Ok(vec![b'a'; 30]));
        assert_eq!(read(packed, 29), Err(Unreadable::TooLong));
        for (kind, bytes, why) in [
            (1, &b"\x01\x01a"[..], Unreadable::OtherType),
            (0, b"\x02a", Unreadable::Format),
            (0, b"\x01ab", Unreadable::Format),
            (0, b"\xff", Unreadable::Format),
            (0, b"\xc4a", Unreadable::Format),
            (0, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff", Unreadable::Format),
            (0, b"\xc3\x01\x80\xff\xff\xff\xff\x00", Unreadable::TooLong),
            (0, b"\xc3\x02\x80\x00\x01\x00\x00\x20\x00", Unreadable::Format),
            (0, b"\xc3\x03\x0a\xe0\x13\x00", Unreadable::Format),
        ] {
            assert_eq!(read(&with_value(kind, bytes), 1 << 20), Err(why), "{bytes:x?}");
        }
    }
}
