//! Commands about values as strings of bytes. The errors are Redis 7's own texts, because clients match them.

use super::compare;
use super::expiry::{self, Form};
use super::words::*;
use crate::command::{
    Answer, Command, Edit, Mutation, Reply, SetAnswer, SetCondition, SetOptions, Shape, ShortKey,
    Text, View, Words, is, look,
};
use crate::entry::Entry;

pub const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

pub fn get(words: &Words<'_>) -> Result<Command, Text> {
    Ok(Command::Get(ShortKey::from_slice(words[1])))
}

/// An option may be repeated, as in Redis; of two expiries in the same form the last counts.
pub fn set(words: &Words<'_>) -> Result<Command, Text> {
    let mut options = SetOptions::default();
    let mut expires_at: Option<(Form, i64)> = None;
    let mut rest = &words[3..];
    while let [option, after @ ..] = rest {
        rest = after;
        let is_free = options.condition == SetCondition::Always;
        if is(option, "nx") && (is_free || options.condition == SetCondition::New) {
            options.condition = SetCondition::New;
        } else if is(option, "xx") && (is_free || options.condition == SetCondition::Existing) {
            options.condition = SetCondition::Existing;
        } else if is_free
            && let [operand, after @ ..] = rest
            && let Some(comparison) = compare::comparison(option, operand)
        {
            options.condition = SetCondition::Compares(Box::new(comparison?));
            rest = after;
        } else if is(option, "get") {
            options.answer = SetAnswer::OldValue;
        } else if is(option, "keepttl") && expires_at.is_none() {
            options.keep_expiry = true;
        } else if !options.keep_expiry
            && let Some((form, at, after)) = expiry::option(option, rest, "set")
            && expires_at.is_none_or(|(before, _)| before == form)
        {
            expires_at = Some((form, at?));
            rest = after;
        } else {
            return Err(SYNTAX.into());
        }
    }
    let expires_at = expires_at.map(|(_, at)| at);
    Ok(Command::Set(Entry::expiring(words[1], words[2], expires_at), options))
}

pub fn setnx(words: &Words<'_>) -> Result<Command, Text> {
    let (condition, answer) = (SetCondition::New, SetAnswer::Number);
    let options = SetOptions { condition, answer, ..SetOptions::default() };
    Ok(Command::Set(Entry::new(words[1], words[2]), options))
}

pub fn getset(words: &Words<'_>) -> Result<Command, Text> {
    let options = SetOptions { answer: SetAnswer::OldValue, ..SetOptions::default() };
    Ok(Command::Set(Entry::new(words[1], words[2]), options))
}

pub fn setex(words: &Words<'_>) -> Result<Command, Text> {
    set_for(words, expiry::SECONDS, "setex")
}

pub fn psetex(words: &Words<'_>) -> Result<Command, Text> {
    set_for(words, expiry::MILLIS, "psetex")
}

fn set_for(words: &Words<'_>, form: Form, name: &str) -> Result<Command, Text> {
    let at = expiry::positive(words[2], form, name)?;
    Ok(Command::Set(Entry::expiring(words[1], words[3], Some(at)), SetOptions::default()))
}

pub fn mget(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let (mut outcome, mut found) = (Ok(()), Vec::with_capacity(words.len()));
    view.get_all(&words[1..], &mut |entry| {
        found.push(entry.is_some());
        if outcome.is_ok() {
            let value = entry.map(|entry| Reply::Bulk(entry.value().into()));
            outcome = answer.put(&value.unwrap_or(Reply::Null));
        }
    });
    view.count_reads(&words[1..], &found);
    outcome?;
    answer.wrap();
    Ok(())
}

pub fn strlen(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let shape = view.shape(words[1]);
    view.count_read(words[1], shape.is_some());
    answer.put(&Reply::Integer(shape.map_or(0, |shape| shape.length) as i64))
}

pub fn getrange(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let (start, end) = (number(words[2])?, number(words[3])?);
    about_value(view, words[1], answer, |value| Reply::Bulk(range(value, start, end).into()))
}

/// Answers with what `form` makes of a value; a missing value counts as an empty one.
pub fn about_value(
    view: &mut dyn View,
    key: &[u8],
    answer: &mut dyn Answer,
    form: impl Fn(&[u8]) -> Reply<'_>,
) -> Put {
    let (found, outcome) = look(view, key, |entry| {
        (entry.is_some(), answer.put(&form(entry.map_or(&[], Entry::value))))
    });
    view.count_read(key, found);
    outcome
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

pub fn mset(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    set_all(view, pairs(words, "mset")?)?;
    Ok(Reply::Ok)
}

pub fn msetnx(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let pairs = pairs(words, "msetnx")?;
    let sets = pairs.iter().step_by(2).all(|key| !view.has(key));
    if sets {
        set_all(view, pairs)?;
    }
    Ok(Reply::Integer(sets.into()))
}

fn pairs<'a>(words: &'a Words<'a>, name: &str) -> Result<&'a Words<'a>, Text> {
    let pairs = &words[1..];
    if pairs.len().is_multiple_of(2) { Ok(pairs) } else { Err(wrong_number(name)) }
}

fn set_all(view: &mut dyn Edit, pairs: &Words<'_>) -> Put {
    let mut pairs = pairs.chunks_exact(2);
    pairs.try_for_each(|pair| view.push(Mutation::Set(Entry::new(pair[0], pair[1]))))
}

pub fn getdel(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let value = value_of(view, words[1]);
    view.remove(words[1])?;
    Ok(value)
}

pub fn append(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (key, more) = (words[1], words[2]);
    let (length, _) = shape(view, key);
    let new = length + more.len();
    if new > view.max_value() {
        return Err(TOO_LONG.into());
    }
    write_at(view, key, length, more)?;
    Ok(Reply::Integer(new as i64))
}

pub fn setrange(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (key, part) = (words[1], words[3]);
    let offset = usize::try_from(number(words[2])?).map_err(|_| "ERR offset is out of range")?;
    let (length, _) = shape(view, key);
    if part.is_empty() {
        return Ok(Reply::Integer(length as i64));
    }
    let end = offset.checked_add(part.len()).filter(|end| *end <= view.max_value());
    let end = end.ok_or(TOO_LONG)?;
    write_at(view, key, offset, part)?;
    Ok(Reply::Integer(length.max(end) as i64))
}

/// Writes bytes at a place of a value, which may be missing. If the place is beyond its end, zeros go before them.
pub fn write_at(view: &mut dyn Edit, key: &[u8], offset: usize, part: &[u8]) -> Put {
    let end = offset + part.len();
    match view.shape(key) {
        None => {
            view.derive((key, key), end, None, &|_, value| value[offset..].copy_from_slice(part))
        }
        Some(Shape { length, .. }) if offset <= length => view.patch(key, offset, part),
        Some(Shape { length, expiry }) => {
            view.announce(key, end, expiry)?;
            let mut grown = vec![0; end - length];
            grown[offset - length..].copy_from_slice(part);
            view.patch(key, length, &grown)
        }
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
