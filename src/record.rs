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
//! A long value is changed in place: `5PATCH5hello2!!3` `5 5\n` says that the bytes `!!` stand at offset 5 of the value of
//! `hello`, which had 5 bytes before; `3EXP5hello013` `1795000000000\n` that `hello` expires then, and `3EXP5hello0\n` that it
//! does not. Before there were such records every change of a value was a SET of all of it. An older program cannot read
//! these, either, and refuses the log. Snapshots have none.
//!
//! Alone the text is ambiguous, because a key or value that begins with a digit runs into the length before it
//! (`3SET11...`). So a header goes before it; the reader slices by that, and checks the text
//! against it:
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | length of the key, little-endian |
//! | 4 | length of the value, 0 for DEL |
//! | 4 | length of the third field, 0 if there is none |
//! | | text, `<opLen><op><keyLen><key><valueLen><value>[<thirdLen><third>]\n` |
//!
//! # Why replaying a record twice is harmless
//!
//! Records are absolute (promise 3). For those that tell the whole state of a key this is plain. A start replays the log
//! from a seal on, over a snapshot whose walk came to the key at some later moment *t*; so the state that it begins with,
//! S(t), may have the first records after the seal in it already. Let R1 … Rn be the records of a key after the seal, R1 …
//! Rt those that the walk saw; the log has all of them, because it is synced before the snapshot counts.
//!
//! - If one of them is a SET or a DEL (or empties the database), it leaves the same whatever was before. From the last
//!   such record on everything is as it was the first time. A PATCH before it may meet a value of another life of the key, or
//!   none; that record replaces any result of it.
//! - Otherwise the key is there all the time, and its value never becomes shorter. A PATCH says how long the value was
//!   before; S(t) is at least as long, for the first t of them, and exactly as long for the others, so each is carried out. Of
//!   a byte that some Rj writes, the last such Rj decides, in both histories. A byte that none writes is in S(t) as it was at
//!   the seal: a PATCH that lets the value grow writes every byte by which it grows, so it fills nothing with zeros that a
//!   later record had written. The length is the greatest end of all of them, in both histories. The expiry is that of the
//!   last EXP, or that of S(t) if there is none.
//!
//! So a PATCH whose value is missing, or shorter than it says, is passed over: that happens only before a record which tells
//! the whole state, or if what the log had before is missing. The second must not go unnoticed. A start and `repair` never
//! leave out anything in the middle of a log; `tools::salvage` does, and leaves out every PATCH and EXP whose value
//! may not be the one that it was made for.

use itoa::Buffer;

use crate::command::{
    Change, Changed, FIRST, Logged, MOST_DATABASES, Mutation, Order, Patch, Space,
};
use crate::entry::{Entry, Parts};

const HEADER_BYTES: usize = 12;

/// The shortest record: a DEL of the empty key.
pub const LEAST_BYTES: usize = HEADER_BYTES + 7;

const SET: &[u8] = b"SET";
const DEL: &[u8] = b"DEL";
const CLEAR: &[u8] = b"FLUSH";
const CLEAR_ALL: &[u8] = b"FLUSHALL";
const ORDER: &[u8] = b"ORDER";
const PATCH: &[u8] = b"PATCH";
const EXPIRE: &[u8] = b"EXP";

/// No value that a flag allows is longer: `-maxvalue`'s own limit. A PATCH beyond it was written by no program.
const LONGEST_VALUE: usize = 1 << 30;

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
                encode_fields(Op::of(DEL, space), key, &[], "", write);
            }
            New::In(space, Mutation::Clear) => {
                encode_fields(Op::naming(CLEAR, space), &[], &[], "", write);
            }
            New::In(space, Mutation::Patch(patch)) => {
                let place = format!("{} {}", patch.offset, patch.before);
                encode_fields(Op::of(PATCH, space), &patch.key, &patch.bytes, &place, write);
            }
            New::In(space, Mutation::Expire(expiry)) => {
                let mut digits = Buffer::new();
                let at = expiry.at.map_or("", |at| digits.format(at));
                encode_fields(Op::of(EXPIRE, space), &expiry.key, &[], at, write);
            }
            New::ClearAll => encode_fields(Op::new(CLEAR_ALL), &[], &[], "", write),
            New::Order(order) => {
                encode_fields(Op::new(ORDER), &[], order.text().as_bytes(), "", write);
            }
        }
    }
}

fn encode_set(space: Space, entry: &Entry, write: impl FnMut(&[u8])) {
    let mut digits = Buffer::new();
    let at = entry.expiry().map_or("", |at| digits.format(at));
    encode_fields(Op::of(SET, space), entry.key(), entry.value(), at, write);
}

/// An operation, with its length before it.
struct Op {
    bytes: [u8; 1 + LONGEST_OP],
    length: usize,
}

/// FLUSH or PATCH with the number of a space.
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

fn encode_fields(op: Op, key: &[u8], value: &[u8], third: &str, mut write: impl FnMut(&[u8])) {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length(key).to_le_bytes());
    header[4..8].copy_from_slice(&length(value).to_le_bytes());
    header[8..].copy_from_slice(&length(third.as_bytes()).to_le_bytes());
    write(&header);
    write(&op.bytes[..op.length]);
    write(Buffer::new().format(length(key)).as_bytes());
    write(key);
    write(Buffer::new().format(length(value)).as_bytes());
    write(value);
    if !third.is_empty() {
        write(Buffer::new().format(length(third.as_bytes())).as_bytes());
        write(third.as_bytes());
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
        let third = if lengths[2] > 0 { field(lengths[2]) } else { 0 };
        rest.take(digits(lengths[0]))?;
        let key = rest.take(lengths[0] as usize)?;
        rest.take(field(lengths[1]) + third + b"\n".len())?;
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
        let [key, value, third] = self.lengths;
        let (key, value) = (rest.field(key)?, rest.field(value)?);
        let third = match third {
            0 => None,
            length => Some(std::str::from_utf8(rest.field(length)?).ok()?),
        };
        rest.expect(b"\n")?;
        if !rest.0.is_empty() {
            return None;
        }
        let (has_key, has_value) = (!key.is_empty(), !value.is_empty());
        let at = |third: Option<&str>| third.map(str::parse).transpose().ok();
        let change = match name {
            SET => Change::Set(Parts { key, value, expiry: at(third)? }),
            PATCH => Change::Patch(patch(key, value, third?)?),
            EXPIRE if !has_value => Change::Expire(key, at(third)?),
            DEL if !has_value && third.is_none() => Change::Delete(key),
            CLEAR if !has_key && !has_value && third.is_none() => Change::Clear,
            CLEAR_ALL if !has_key && !has_value && third.is_none() => {
                return Some(Logged::ClearAll);
            }
            ORDER if !has_key && third.is_none() => {
                return Order::parse(std::str::from_utf8(value).ok()?).map(Logged::Order);
            }
            _ => return None,
        };
        Some(Logged::In(space, change))
    }
}

/// A PATCH at `<offset> <length before>`, spelled as it is written.
fn patch<'a>(key: &'a [u8], bytes: &'a [u8], place: &str) -> Option<Patch<'a>> {
    let number = |text: &str| {
        let number: usize = text.parse().ok()?;
        (Buffer::new().format(number) == text).then_some(number)
    };
    let (offset, before) = place.split_once(' ')?;
    let patch = Patch { key, before: number(before)?, offset: number(offset)?, bytes };
    let is_within = patch.offset <= patch.before && patch.before <= LONGEST_VALUE;
    (is_within && patch.length() <= LONGEST_VALUE).then_some(patch)
}

/// The name of an operation, and the database that it is about.
fn operation(op: &[u8]) -> Option<(&'static [u8], Space)> {
    let names = [SET, DEL, PATCH, EXPIRE, CLEAR_ALL, CLEAR, ORDER];
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

    fn patch(key: &[u8], (before, offset): (usize, usize), bytes: &[u8]) -> Mutation {
        Mutation::Patch(Box::new(Patch { key, before, offset, bytes }.to_owned()))
    }

    fn expire(key: &[u8], at: Option<i64>) -> Mutation {
        Change::Expire(key, at).to_mutation()
    }

    #[test]
    fn a_change_in_place_tells_only_what_is_new_and_which_value_it_was_made_for() {
        let text =
            |space, mutation| encoded(New::In(Space(space), &mutation))[HEADER_BYTES..].to_vec();
        assert_eq!(text(0, patch(b"hello", (5, 5), b"!!")), b"5PATCH5hello2!!35 5\n");
        assert_eq!(text(1023, patch(b"a", (70_000, 12), b"b")), b"9PATCH10231a1b812 70000\n");
        assert_eq!(text(0, expire(b"hello", None)), b"3EXP5hello0\n");
        let at = Some(1_795_000_000_000);
        assert_eq!(text(7, expire(b"hello", at)), b"4EXP75hello0131795000000000\n");
    }

    #[test]
    fn a_change_at_no_place_of_a_value_is_no_record() {
        let read = |place: &str| super::patch(b"key", b"12", place).is_some();
        for place in ["0 0", "5 5", "0 5", "4 5", "0 1073741824", "1073741822 1073741823"] {
            assert!(read(place), "{place}");
        }
        let wrong = [
            "",
            "5",
            "5 ",
            " 5",
            "6 5",
            "05 5",
            "5 05",
            "+5 5",
            "-1 5",
            "5  5",
            "5 5 ",
            "5 5 5",
            "a 5",
            "0 1073741825",
            "1073741823 1073741823",
            "18446744073709551615 18446744073709551615",
            "0 18446744073709551616",
        ];
        for place in wrong {
            assert!(!read(place), "{place}");
        }
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
            patch(b"key", (5, 5), b"56"),
            patch(b"", (1 << 30, 0), b""),
            patch(b"1", (12, 3), &[b'1'; 1000]),
            expire(b"key", None),
            expire(b"3", Some(i64::MIN)),
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
            "PATCH0",
            "PATCH01",
            "PATCH1024",
            "EXP0",
            "EXPIRE",
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
    fn a_program_that_knows_no_databases_and_no_changes_in_place_refuses_their_records() {
        for new in of(&changed()) {
            let is_old = match new {
                New::In(space, mutation) => {
                    let is_known = matches!(mutation, Mutation::Set(_) | Mutation::Delete(_));
                    space == FIRST && is_known
                }
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
