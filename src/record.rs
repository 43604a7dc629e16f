//! A mutation as the log keeps it.
//!
//! The text of a record is the seed program's own, so that `strings` on a log reads as the seed's
//! does: `3SET5hello5world\n`, `3DEL5hello0\n`. An expiry is a third field, milliseconds of Unix
//! time: `3SET5hello5world13` `1795000000000\n`. `8FLUSHALL00\n` removes every key of every database.
//!
//! These are records of the first space (see [`Space`]), and the only ones before there were databases. The
//! name of any other space stands in the operation, which its length covers: `4SET75hello5world\n`,
//! `5DEL125hello0\n`. `6FLUSH000\n` removes every key of space 0. `5ORDER031 0\n` says that number 0 stands for
//! space 1, number 1 for space 0, and every other number for the space that is called the same. A program
//! that knows no databases cannot read these, and refuses the log.
//!
//! Alone the text is ambiguous, because a key or value that begins with a digit runs into the length before it
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

use crate::command::{Change, Changed, FIRST, Logged, MOST_DATABASES, Mutation, Order, Space};
use crate::entry::{Entry, Parts};

const HEADER_BYTES: usize = 12;

/// The shortest record: a DEL of the empty key.
pub const LEAST_BYTES: usize = HEADER_BYTES + 7;

const SET: &[u8] = b"SET";
const DEL: &[u8] = b"DEL";
const CLEAR: &[u8] = b"FLUSH";
const CLEAR_ALL: &[u8] = b"FLUSHALL";
const ORDER: &[u8] = b"ORDER";

/// A record to be written.
#[derive(Clone, Copy)]
pub enum New<'a> {
    /// A change of one database.
    In(Space, &'a Mutation),
    /// An entry in a database.
    Entry(Space, &'a Entry),
    /// No key is there, in no database.
    ClearAll,
    /// Which database has which number.
    Order(&'a Order),
}

/// The records of some changes, in the order in which they are to be read.
pub fn of(changed: &Changed) -> impl Iterator<Item = New<'_>> {
    let clear = changed.clears_all.then_some(New::ClearAll);
    let spaces = changed.spaces.iter();
    let mutations = spaces.flat_map(|(space, all)| all.iter().map(|one| New::In(*space, one)));
    clear.into_iter().chain(mutations).chain(changed.order.iter().map(New::Order))
}

impl New<'_> {
    /// Hands the bytes of the record to `write`, piece by piece.
    pub fn encode(self, write: impl FnMut(&[u8])) {
        match self {
            New::In(space, Mutation::Set(entry)) => encode_set(space, entry, write),
            New::Entry(space, entry) => encode_set(space, entry, write),
            New::In(space, Mutation::Delete(key)) => {
                encode_fields(Op::of(DEL, space), key, &[], None, write);
            }
            New::In(space, Mutation::Clear) => {
                encode_fields(Op::naming(CLEAR, space), &[], &[], None, write);
            }
            New::ClearAll => encode_fields(Op::new(CLEAR_ALL), &[], &[], None, write),
            New::Order(order) => {
                encode_fields(Op::new(ORDER), &[], order.text().as_bytes(), None, write);
            }
        }
    }
}

fn encode_set(space: Space, entry: &Entry, write: impl FnMut(&[u8])) {
    encode_fields(Op::of(SET, space), entry.key(), entry.value(), entry.expiry(), write);
}

/// An operation, with its length before it.
struct Op {
    bytes: [u8; 1 + LONGEST_OP],
    length: usize,
}

/// FLUSH with the number of a space.
const LONGEST_OP: usize = 9;

impl Op {
    fn new(name: &[u8]) -> Op {
        let mut op = Op { bytes: [b'0'; 1 + LONGEST_OP], length: 1 };
        op.append(name);
        op
    }

    /// The same, for a database; the first one is not named.
    fn of(name: &[u8], space: Space) -> Op {
        if space == FIRST { Op::new(name) } else { Op::naming(name, space) }
    }

    fn naming(name: &[u8], space: Space) -> Op {
        let mut op = Op::new(name);
        op.append(Buffer::new().format(space.0).as_bytes());
        op
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self.bytes[0] += bytes.len() as u8;
    }
}

fn encode_fields(
    op: Op,
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
    write(&op.bytes[..op.length]);
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
        rest.op()?;
        let field = |length: u32| digits(length) + length as usize;
        let expiry = if lengths[2] > 0 { field(lengths[2]) } else { 0 };
        rest.take(digits(lengths[0]))?;
        let key = rest.take(lengths[0] as usize)?;
        rest.take(field(lengths[1]) + expiry + b"\n".len())?;
        let text = &text[..text.len() - rest.0.len()];
        Some((Record { lengths, key, text }, rest.0))
    }

    /// The key that it is about.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Whether it is about no single key.
    pub fn is_about_all(&self) -> bool {
        matches!(self.text.get(1), Some(b'F' | b'O'))
    }

    /// Checks its text against its lengths, and reads it.
    pub fn read(&self) -> Result<Logged<'a>, NotRecords> {
        self.logged().ok_or(NotRecords)
    }

    fn logged(&self) -> Option<Logged<'a>> {
        let mut rest = Slices(self.text);
        let (name, space) = operation(rest.op()?)?;
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
        if name == SET {
            return Some(Logged::In(space, Change::Set(Parts { key, value, expiry: at })));
        }
        let (has_key, has_value) = (!key.is_empty(), !value.is_empty() || at.is_some());
        match name {
            DEL if !has_value => Some(Logged::In(space, Change::Delete(key))),
            CLEAR if !has_key && !has_value => Some(Logged::In(space, Change::Clear)),
            CLEAR_ALL if !has_key && !has_value => Some(Logged::ClearAll),
            ORDER if !has_key && at.is_none() => {
                Order::parse(std::str::from_utf8(value).ok()?).map(Logged::Order)
            }
            _ => None,
        }
    }
}

/// The name of an operation, and the database that it is about.
fn operation(op: &[u8]) -> Option<(&'static [u8], Space)> {
    let names = [SET, DEL, CLEAR_ALL, CLEAR, ORDER];
    let name = names.into_iter().find(|name| op.starts_with(name))?;
    let digits = &op[name.len()..];
    let is_of_first = digits.is_empty() && name != CLEAR;
    if is_of_first || name == CLEAR_ALL || name == ORDER {
        return is_of_first.then_some((name, FIRST));
    }
    let space: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let is_named = space > 0 || name == CLEAR;
    let is_as_written = Buffer::new().format(space).as_bytes() == digits;
    (is_named && is_as_written && space < MOST_DATABASES).then_some((name, Space(space)))
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
    mut take: impl FnMut(Logged<'a>),
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

    /// Takes the length of an operation, and the operation.
    fn op(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0].wrapping_sub(b'0');
        self.take(length.into()).filter(|op| (1..=LONGEST_OP).contains(&op.len()))
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

    fn encoded(new: New<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        new.encode(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    #[test]
    fn the_text_of_a_record_of_the_first_database_is_the_seeds() {
        let text = |mutation| encoded(New::In(FIRST, &mutation))[HEADER_BYTES..].to_vec();
        let set = Mutation::Set(Entry::new(b"hello", b"world"));
        assert_eq!(text(set), b"3SET5hello5world\n");
        assert_eq!(text(Mutation::Delete(b"hello"[..].into())), b"3DEL5hello0\n");
        let expiring = Mutation::Set(Entry::expiring(b"a", b"b", Some(1_795_000_000_000)));
        assert_eq!(text(expiring), b"3SET1a1b131795000000000\n");
        assert_eq!(&encoded(New::ClearAll)[HEADER_BYTES..], b"8FLUSHALL00\n");
    }

    #[test]
    fn the_text_of_any_other_record_names_its_database() {
        let text =
            |space, mutation| encoded(New::In(Space(space), &mutation))[HEADER_BYTES..].to_vec();
        let set = Mutation::Set(Entry::new(b"hello", b"world"));
        assert_eq!(text(7, set.clone()), b"4SET75hello5world\n");
        assert_eq!(text(1023, set), b"7SET10235hello5world\n");
        assert_eq!(text(12, Mutation::Delete(b"hello"[..].into())), b"5DEL125hello0\n");
        assert_eq!(text(0, Mutation::Clear), b"6FLUSH000\n");
        assert_eq!(text(1000, Mutation::Clear), b"9FLUSH100000\n");
        let order = Order::default().swapped(0, 1);
        assert_eq!(&encoded(New::Order(&order))[HEADER_BYTES..], b"5ORDER031 0\n");
    }

    /// Records of all kinds.
    fn changed() -> Changed {
        let mutations = [
            Mutation::Clear,
            Mutation::Set(Entry::new(b"1", b"23")),
            Mutation::Set(Entry::new(b"", b"")),
            Mutation::Set(Entry::new(b"\n\0\xff", &[b'3'; 1000])),
            Mutation::Set(Entry::expiring(b"key", b"5", Some(-1))),
            Mutation::Delete(b"12"[..].into()),
            Mutation::Delete(b""[..].into()),
        ];
        let spaces = [0, 1, 15, 100, 1023].map(|space| (Space(space), mutations.to_vec()));
        let order = Some(Order::default().swapped(0, 1023).swapped(3, 7));
        Changed { clears_all: true, spaces: spaces.into(), order }
    }

    #[test]
    fn records_are_read_back_and_every_shorter_or_changed_one_is_refused() {
        let changed = changed();
        let mut read = Vec::new();
        for new in of(&changed) {
            let bytes = encoded(new);
            let (record, rest) = Record::cut(&bytes).expect("a record");
            let key = if let New::In(_, mutation) = new { mutation.key() } else { b"" };
            assert_eq!((record.key(), rest), (key, &b""[..]));
            let is_of_key = matches!(new, New::In(_, mutation) if *mutation != Mutation::Clear);
            assert_eq!(record.is_about_all(), !is_of_key);
            for shorter in 0..bytes.len() {
                let cut = Record::cut(&bytes[..shorter]);
                assert!(cut.is_none(), "{shorter} of {bytes:?}");
            }
            read.push(bytes);
        }
        let mut back = Changed::<Change<'_>>::default();
        for bytes in &read {
            let (record, _) = Record::cut(bytes).expect("a record");
            back.add(record.read().expect("a record"));
        }
        let owned = |(space, all): &(Space, Vec<Change<'_>>)| {
            (*space, all.iter().map(|change| change.to_mutation()).collect())
        };
        let spaces = back.spaces.iter().map(owned).collect();
        assert_eq!(Changed { clears_all: back.clears_all, spaces, order: back.order }, changed);
        let mut bytes = encoded(New::In(FIRST, &Mutation::Set(Entry::new(b"key", b"value"))));
        bytes[HEADER_BYTES + 1] ^= 1;
        assert!(read_batch(&bytes, 1, drop).is_err());
    }

    #[test]
    fn an_operation_that_no_program_writes_is_no_record() {
        for op in [
            "SET0",
            "SET01",
            "DEL0",
            "SET1024",
            "SET99999",
            "FLUSH",
            "FLUSH01",
            "FLUSH1024",
            "FLUSHALL1",
            "ORDER1",
            "SETx",
            "SE",
            "set",
            "FLUSHAL",
            "",
        ] {
            assert_eq!(operation(op.as_bytes()), None, "{op}");
        }
    }

    /// The reader of a program that knew no databases, as it cut and read one record.
    fn earlier_program_reads(bytes: &[u8]) -> bool {
        let mut rest = Slices(bytes);
        let Some(lengths) = (|| Some([rest.u32()?, rest.u32()?, rest.u32()?]))() else {
            return false;
        };
        let op = [&b"3SET"[..], b"3DEL", b"8FLUSHALL"].into_iter();
        let Some(op) = op.into_iter().find(|op| rest.0.starts_with(op)) else {
            return false;
        };
        rest.expect(op).is_some() && rest.field(lengths[0]).is_some()
    }

    #[test]
    fn a_program_that_knows_no_databases_refuses_every_record_that_needs_them() {
        for new in of(&changed()) {
            let is_old = match new {
                New::In(space, mutation) => space == FIRST && *mutation != Mutation::Clear,
                New::Entry(space, _) => space == FIRST,
                New::ClearAll => true,
                New::Order(_) => false,
            };
            assert_eq!(earlier_program_reads(&encoded(new)), is_old);
        }
    }

    #[test]
    fn a_batch_is_exactly_its_records() {
        let payload = encoded(New::In(FIRST, &Mutation::Delete(b"key"[..].into()))).repeat(3);
        assert!(read_batch(&payload, 3, drop).is_ok());
        for records in [0, 2, 4, u32::MAX] {
            assert!(read_batch(&payload, records, drop).is_err(), "{records}");
        }
        assert!(read_batch(&payload[1..], 3, drop).is_err());
    }
}
