//! The commands that change nothing, on any [`View`].

use super::view::View;
use crate::command::{Command, Reply};
use crate::entry::Entry;
use crate::glob;
use crate::metrics::Metrics;

/// Entries that KEYS looks at under one lock.
const KEYS_STEP: usize = 1000;

/// What Redis keeps in the object itself (OBJ_ENCODING_EMBSTR_SIZE_LIMIT).
const EMBEDDED_BYTES: usize = 44;

/// Answers a command that changes nothing. The reply may borrow from the store: `answer` is called
/// once, and is to be quick.
pub fn read(
    view: &mut dyn View,
    command: &Command,
    metrics: &Metrics,
    answer: &mut dyn FnMut(Reply<'_>),
) {
    let count = |found: bool| if found { metrics.hits.add(1) } else { metrics.misses.add(1) };
    match command {
        Command::Get(key) => view.get(key, &mut |entry| {
            count(entry.is_some());
            answer(entry.map_or(Reply::Null, |entry| Reply::Bulk(entry.value().into())));
        }),
        Command::GetAll(keys) => {
            let mut values = Vec::with_capacity(keys.len());
            view.get_all(keys, &mut |entry| {
                count(entry.is_some());
                values.push(entry.map_or(Reply::Null, |entry| Reply::bulk(entry.value())));
            });
            answer(Reply::Array(values));
        }
        Command::Exists(keys) => {
            let mut found = 0;
            view.get_all(keys, &mut |entry| {
                count(entry.is_some());
                found += i64::from(entry.is_some());
            });
            answer(Reply::Integer(found));
        }
        Command::Length(key) => view.get(key, &mut |entry| {
            count(entry.is_some());
            answer(Reply::Integer(entry.map_or(0, |entry| entry.value().len() as i64)));
        }),
        Command::GetRange(key, start, end) => view.get(key, &mut |entry| {
            count(entry.is_some());
            let value = entry.map_or(&[][..], Entry::value);
            answer(Reply::Bulk(range(value, *start, *end).into()));
        }),
        Command::Expiry(key, form) => {
            let now = view.now();
            view.get(key, &mut |entry| {
                let Some(entry) = entry else {
                    return answer(Reply::Integer(-2));
                };
                answer(Reply::Integer(match (entry.expiry(), form.absolute, form.millis) {
                    (None, ..) => -1,
                    (Some(at), true, true) => at,
                    (Some(at), true, false) => rounded_seconds(at),
                    (Some(at), false, true) => at - now,
                    (Some(at), false, false) => rounded_seconds(at - now),
                }));
            });
        }
        Command::Type(key) => view.get(key, &mut |entry| {
            answer(Reply::Simple(if entry.is_some() { "string" } else { "none" }));
        }),
        Command::Encoding(key) => view.get(key, &mut |entry| {
            answer(match entry.map(Entry::value) {
                None => Reply::Null,
                Some(value) => Reply::bulk(encoding(value).as_bytes()),
            });
        }),
        Command::MemoryUsage(key) => view.get(key, &mut |entry| {
            answer(entry.map_or(Reply::Null, |entry| Reply::Integer(entry.bytes() as i64)));
        }),
        Command::Keys(pattern) => {
            let mut keys = Vec::new();
            let mut cursor = 0;
            loop {
                cursor = view.scan(cursor, KEYS_STEP, &mut |entry| {
                    if glob::matches(pattern, entry.key()) {
                        keys.push(Reply::bulk(entry.key()));
                    }
                });
                if cursor == 0 {
                    break;
                }
            }
            answer(Reply::Array(keys));
        }
        Command::Scan { cursor, count, pattern, of_strings } => {
            let mut keys = Vec::new();
            let next = view.scan(*cursor, *count, &mut |entry| {
                let fits = pattern.as_ref().is_none_or(|p| glob::matches(p, entry.key()));
                if fits && *of_strings {
                    keys.push(Reply::bulk(entry.key()));
                }
            });
            let next = Reply::bulk(next.to_string().as_bytes());
            answer(Reply::Array(vec![next, Reply::Array(keys)]));
        }
        Command::Count => answer(Reply::Integer(view.count() as i64)),
        Command::RandomKey => {
            answer(view.any_key().map_or(Reply::Null, |key| Reply::Bulk(key.into_vec().into())));
        }
        Command::Answered(reply) => answer(reply.clone()),
        other => unreachable!("{other:?} goes through the queue"),
    }
}

/// As Redis rounds: half a second is one.
fn rounded_seconds(millis: i64) -> i64 {
    millis / 1000 + i64::from(millis % 1000 >= 500)
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
