//! The commands that change nothing, on any [`View`].
//!
//! A walk through the keys goes in steps of some hundred, each under a lock of its own that is held for
//! a copy of the keys and nothing else; what is done with them is done after it.

use std::hash::{BuildHasher, RandomState};

use super::answer::{Answer, Refusal};
use super::view::View;
use crate::command::{Command, Key, Reply};
use crate::entry::Entry;
use crate::glob::Glob;
use crate::metrics::Metrics;

/// Entries that are looked at in one step, at least: a leaf of the store has some hundred, and is a step. (In
/// a batch with fewer, a leaf would be looked through again for each of its entries that the batch has changed.)
const STEP: usize = 100;

/// The most keys that one SCAN looks at, whatever its COUNT, which is only a hint in Redis too: a
/// millisecond's work.
const SCAN_ENTRIES: usize = 4_000;

/// With so many bytes of keys a SCAN has found enough, and tells where to go on.
const SCAN_BYTES: usize = 1 << 20;

/// What Redis keeps in the object itself (OBJ_ENCODING_EMBSTR_SIZE_LIMIT).
const EMBEDDED_BYTES: usize = 44;

/// Answers a command that changes nothing. What is put may borrow from the store, whose lock is held
/// meanwhile.
pub fn read(
    view: &mut dyn View,
    command: &Command,
    metrics: &Metrics,
    answer: &mut dyn Answer,
) -> Result<(), Refusal> {
    let count = |found: bool| if found { metrics.hits.add(1) } else { metrics.misses.add(1) };
    match command {
        Command::Get(key) => about(view, key, answer, |entry| {
            count(entry.is_some());
            entry.map_or(Reply::Null, |entry| Reply::Bulk(entry.value().into()))
        }),
        Command::GetAll(keys) => {
            let mut outcome = Ok(());
            view.get_all(keys, &mut |entry| {
                count(entry.is_some());
                if outcome.is_ok() {
                    let value = entry.map(|entry| Reply::Bulk(entry.value().into()));
                    outcome = answer.put(&value.unwrap_or(Reply::Null));
                }
            });
            outcome?;
            answer.wrap();
            Ok(())
        }
        Command::Exists(keys) => {
            let mut found = 0;
            view.get_all(keys, &mut |entry| {
                count(entry.is_some());
                found += i64::from(entry.is_some());
            });
            answer.put(&Reply::Integer(found))
        }
        Command::Length(key) => about(view, key, answer, |entry| {
            count(entry.is_some());
            Reply::Integer(entry.map_or(0, |entry| entry.value().len() as i64))
        }),
        Command::GetRange(key, start, end) => about(view, key, answer, |entry| {
            count(entry.is_some());
            let value = entry.map_or(&[][..], Entry::value);
            Reply::Bulk(range(value, *start, *end).into())
        }),
        Command::Expiry(key, form) => {
            let now = view.now();
            about(view, key, answer, |entry| {
                let Some(entry) = entry else {
                    return Reply::Integer(-2);
                };
                Reply::Integer(match (entry.expiry(), form.absolute, form.millis) {
                    (None, ..) => -1,
                    (Some(at), true, true) => at,
                    (Some(at), true, false) => rounded_seconds(at),
                    (Some(at), false, true) => at - now,
                    (Some(at), false, false) => rounded_seconds(at - now),
                })
            })
        }
        Command::Type(key) => about(view, key, answer, |entry| {
            Reply::Simple(if entry.is_some() { "string" } else { "none" })
        }),
        Command::Encoding(key) => about(view, key, answer, |entry| {
            let encoding = entry.map(|entry| encoding(entry.value()).as_bytes());
            encoding.map_or(Reply::Null, |name| Reply::Bulk(name.into()))
        }),
        Command::MemoryUsage(key) => about(view, key, answer, |entry| {
            entry.map_or(Reply::Null, |entry| Reply::Integer(entry.bytes() as i64))
        }),
        Command::Keys(pattern) => {
            let mut glob = Glob::new(pattern);
            walk(view, (0, STEP), answer, &mut |step, answer| {
                let mut found = step.keys().filter(|key| glob.matches(key));
                found.try_for_each(|key| answer.put(&Reply::Bulk(key.into())))?;
                Ok(Walk::GoesOn)
            })?;
            answer.wrap();
            Ok(())
        }
        Command::Scan { cursor, count, pattern, of_strings } => {
            let mut glob = pattern.as_ref().map(|pattern| Glob::new(pattern));
            let mut fits = |key: &[u8]| *of_strings && glob.as_mut().is_none_or(|g| g.matches(key));
            let (mut looked_at, mut bytes, mut keys) = (0, 0, Vec::new());
            let start = (*cursor, (*count).min(STEP));
            let next = walk(view, start, answer, &mut |step, _| {
                looked_at += step.len();
                for key in step.keys().filter(|key| fits(key)) {
                    bytes += key.len();
                    keys.push(Reply::bulk(key));
                }
                let enough = looked_at >= (*count).min(SCAN_ENTRIES) || bytes >= SCAN_BYTES;
                Ok(if enough { Walk::Ends } else { Walk::GoesOn })
            })?;
            let next = Reply::bulk(next.to_string().as_bytes());
            answer.put(&Reply::Array(vec![next, Reply::Array(keys)]))
        }
        Command::Count => answer.put(&Reply::Integer(view.count() as i64)),
        Command::RandomKey => {
            let key = any_key(view, answer)?;
            answer.put(&key.map_or(Reply::Null, |key| Reply::Bulk(key.into_vec().into())))
        }
        Command::Answered(reply) => answer.put(reply),
        other => unreachable!("{other:?} goes through the queue"),
    }
}

/// As Redis rounds: half a second is one.
fn rounded_seconds(millis: i64) -> i64 {
    millis / 1000 + i64::from(millis % 1000 >= 500)
}

/// Answers something about the entry of a key.
fn about(
    view: &mut dyn View,
    key: &[u8],
    answer: &mut dyn Answer,
    form: impl Fn(Option<&Entry>) -> Reply<'_>,
) -> Result<(), Refusal> {
    let mut outcome = Ok(());
    view.get(key, &mut |entry| outcome = answer.put(&form(entry)));
    outcome
}

/// The keys of one step of a walk, one after the other.
#[derive(Default)]
struct Step {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Step {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

enum Walk {
    GoesOn,
    Ends,
}

/// Walks through the keys from `cursor` on, in steps of at least `least` entries, and says where it has ended: 0 if that were all.
fn walk(
    view: &mut dyn View,
    (mut cursor, least): (u64, usize),
    answer: &mut dyn Answer,
    look: &mut dyn FnMut(&Step, &mut dyn Answer) -> Result<Walk, Refusal>,
) -> Result<u64, Refusal> {
    let mut step = Step::default();
    loop {
        step.clear();
        cursor = view.scan(cursor, least, &mut |entry| step.push(entry.key()));
        answer.go_on(step.len() + 1)?;
        if matches!(look(&step, answer)?, Walk::Ends) || cursor == 0 {
            return Ok(cursor);
        }
    }
}

/// Some key, if there is one.
fn any_key(view: &mut dyn View, answer: &mut dyn Answer) -> Result<Option<Key>, Refusal> {
    // A fresh RandomState is a random number; nothing depends on how good it is.
    let random = RandomState::new().hash_one(0);
    let mut found = None;
    for start in [random % view.cursors(), 0] {
        walk(view, (start, STEP), answer, &mut |step, _| {
            let place = random.rotate_left(32) as usize % step.len().max(1);
            found = step.keys().nth(place).map(Key::from);
            Ok(if found.is_some() { Walk::Ends } else { Walk::GoesOn })
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// The bytes from `start` to `end`, both included, negative ones counted from the end.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let length = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let place = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(length - 1));
    if start > end { &[] } else { &value[start as usize..=end as usize] }
}

fn encoding(value: &[u8]) -> &'static str {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let is_integer = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    match value.len() {
        _ if is_integer => "int",
        0..=EMBEDDED_BYTES => "embstr",
        _ => "raw",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_redis_cuts_them() {
        let value = b"Hello World";
        for (start, end, expected) in [
            (0, 3, &b"Hell"[..]),
            (0, -1, b"Hello World"),
            (-4, -1, b"orld"),
            (5, 3, b""),
            (-5000, 10000, b"Hello World"),
            (0, i64::MAX, b"Hello World"),
            (i64::MIN, -1, b"Hello World"),
            (20, 30, b""),
            (-1, -5, b""),
        ] {
            assert_eq!(range(value, start, end), expected, "{start} {end}");
        }
        assert_eq!(range(b"", 0, -1), b"");
    }
}
