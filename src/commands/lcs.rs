//! LCS: the longest common subsequence of two values.
//!
//! A table says for each pair of beginnings how long theirs is. Only one row of it is kept, and a bit for each
//! place: which of its neighbours was longer. These lead back from the end.

use super::words::*;
use crate::command::{Answer, Refusal, Reply, Text, View, Words, is};
use crate::entry::Entry;

/// Places of the table: as many as Redis has room for with its default `proto-max-bulk-len`. They take 16 MiB,
/// and a fraction of a second on the client's own thread.
const PLACES: usize = 1 << 27;

/// A walk over keys looks at one entry in the time that this takes for so many places. In a transaction, while
/// all other writes wait, that makes a million places.
const PLACES_PER_ENTRY: usize = 100;

const TOO_LONG: &str =
    "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";

const TOO_LONG_HERE: &str =
    "ERR a transaction may compare only short values by LCS; use it outside of one";

struct Options {
    form: Form,
    shortest: usize,
    with_lengths: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Length,
    Places,
}

pub fn lcs(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let options = options(&words[3..])?;
    let (mut found, mut values) = (Vec::new(), Vec::new());
    let length_of = |entry: &Entry| entry.value().len();
    view.get_all(&words[1..3], &mut |entry| found.push(entry.map(length_of)));
    words[1..3].iter().zip(&found).for_each(|(key, found)| view.count_read(key, found.is_some()));
    check(&[found[0].unwrap_or(0), found[1].unwrap_or(0)])?;
    view.get_all(&words[1..3], &mut |entry| {
        // One that has grown meanwhile is noticed below, and was not copied.
        let value = entry.map_or(&[][..], Entry::value);
        values.push(if value.len() <= PLACES { value.to_vec() } else { vec![0; PLACES] });
    });
    check(&[values[0].len(), values[1].len()])?;
    let table = Table::new(&values[0], &values[1], answer)?;
    let reply = match options.form {
        Form::Length => Reply::Integer(table.length as i64),
        Form::Text => Reply::Bulk(table.text().into()),
        Form::Places => Reply::Map(vec![
            Reply::Bulk(b"matches"[..].into()),
            Reply::Array(table.ranges(options.shortest).map(|r| r.shown(&options)).collect()),
            Reply::Bulk(b"len"[..].into()),
            Reply::Integer(table.length as i64),
        ]),
    };
    answer.put(&reply)
}

fn check(lengths: &[usize]) -> Result<(), Refusal> {
    let places = lengths.iter().try_fold(1_usize, |all, length| all.checked_mul(length + 1));
    match places {
        Some(places) if places <= PLACES => Ok(()),
        _ => Err(TOO_LONG.into()),
    }
}

fn options(mut rest: &Words<'_>) -> Result<Options, Text> {
    let (mut length, mut places) = (false, false);
    let mut options = Options { form: Form::Text, shortest: 0, with_lengths: false };
    while let [option, after @ ..] = rest {
        rest = after;
        match after {
            _ if is(option, "idx") => places = true,
            _ if is(option, "len") => length = true,
            _ if is(option, "withmatchlen") => options.with_lengths = true,
            [shortest, after @ ..] if is(option, "minmatchlen") => {
                options.shortest = usize::try_from(number(shortest)?).unwrap_or(0);
                rest = after;
            }
            _ => return Err(SYNTAX.into()),
        }
    }
    options.form = match (length, places) {
        (true, true) => {
            return Err("ERR If you want both the length and indexes, please just use IDX.".into());
        }
        (true, false) => Form::Length,
        (false, true) => Form::Places,
        (false, false) => Form::Text,
    };
    Ok(options)
}

struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    length: usize,
    /// For the places where the values differ: whether to leave the last byte of `a` off, rather than that of
    /// `b`.
    leaves_a: Vec<u64>,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8], answer: &mut dyn Answer) -> Result<Table<'a>, Refusal> {
        let mut leaves_a = vec![0_u64; (a.len() * b.len()).div_ceil(64)];
        let mut row = vec![0_u32; b.len() + 1];
        let mut looked_at = 0;
        // If one value is empty there is nothing to look at, however long the other one is.
        let rows = if b.is_empty() { &[][..] } else { a };
        for (i, byte) in rows.iter().enumerate() {
            looked_at += b.len();
            // Not for each row, of which there may be a hundred million short ones.
            if looked_at >= PLACES_PER_ENTRY {
                let outcome = answer.go_on(looked_at / PLACES_PER_ENTRY);
                outcome.map_err(|why| as_limit(why, TOO_LONG_HERE))?;
                looked_at %= PLACES_PER_ENTRY;
            }
            let (mut diagonal, start) = (0, i * b.len());
            for (j, other) in b.iter().enumerate() {
                let (above, left) = (row[j + 1], row[j]);
                row[j + 1] = if byte == other { diagonal + 1 } else { above.max(left) };
                let at = start + j;
                leaves_a[at / 64] |= u64::from(above > left) << (at % 64);
                diagonal = above;
            }
        }
        let length = row[b.len()] as usize;
        Ok(Table { a, b, length, leaves_a })
    }

    /// The pairs of places that match, from the last to the first.
    fn matches(&self) -> impl Iterator<Item = (usize, usize)> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            while i > 0 && j > 0 {
                let at = (i - 1) * self.b.len() + j - 1;
                if self.a[i - 1] == self.b[j - 1] {
                    (i, j) = (i - 1, j - 1);
                    return Some((i, j));
                }
                match self.leaves_a[at / 64] >> (at % 64) & 1 {
                    1 => i -= 1,
                    _ => j -= 1,
                }
            }
            None
        })
    }

    fn text(&self) -> Vec<u8> {
        let mut text: Vec<u8> = self.matches().map(|(i, _)| self.a[i]).collect();
        text.reverse();
        text
    }

    /// The stretches of at least `shortest` bytes that match, from the last to the first.
    fn ranges(&self, shortest: usize) -> impl Iterator<Item = Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for (i, j) in self.matches() {
            match ranges.last_mut() {
                Some(range) if (range.a, range.b) == (i + 1, j + 1) => {
                    *range = Range { a: i, b: j, length: range.length + 1 };
                }
                _ => ranges.push(Range { a: i, b: j, length: 1 }),
            }
        }
        ranges.into_iter().filter(move |range| range.length >= shortest)
    }
}

/// A stretch that matches, by its places.
struct Range {
    a: usize,
    b: usize,
    length: usize,
}

impl Range {
    fn shown(self, options: &Options) -> Reply<'static> {
        let ends = |start: usize| {
            let last = start + self.length - 1;
            Reply::Array(vec![Reply::Integer(start as i64), Reply::Integer(last as i64)])
        };
        let mut shown = vec![ends(self.a), ends(self.b)];
        if options.with_lengths {
            shown.push(Reply::Integer(self.length as i64));
        }
        Reply::Array(shown)
    }
}
