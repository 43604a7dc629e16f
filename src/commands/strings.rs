//! The words of a request, made sense of: one function for each command of the table that is about
//! data, and what those about the connection use as well.
//!
//! The errors are Redis 7's own texts, because clients match them. Times become points in time
//! here, as a request is read.

use std::borrow::Cow;

use super::words::*;
use crate::command::{
    Command, ExpireCondition, ExpiryForm, NewExpiry, SetAnswer, SetCondition, SetOptions,
};
use crate::decimal::Decimal;
use crate::entry::{Entry, now_millis};

/// The unit of an expiry option, if the word is one: whether it is absolute, and in milliseconds.
fn expiry_option(word: &[u8]) -> Option<ExpiryForm> {
    [("ex", false, false), ("px", false, true), ("exat", true, false), ("pxat", true, true)]
        .into_iter()
        .find(|(option, ..)| is(word, option))
        .map(|(_, absolute, millis)| ExpiryForm { absolute, millis })
}

/// A point in time. SET and its like take only times after the beginning.
fn expiry(text: &[u8], form: ExpiryForm, command: &str) -> Result<i64, Cow<'static, str>> {
    let time = number(text)?;
    let invalid = || format!("ERR invalid expire time in '{command}' command").into();
    if time <= 0 {
        return Err(invalid());
    }
    point_in_time(time, form).ok_or_else(invalid)
}

fn point_in_time(time: i64, form: ExpiryForm) -> Option<i64> {
    let millis = if form.millis { time } else { time.checked_mul(1000)? };
    if form.absolute { Some(millis) } else { millis.checked_add(now_millis()) }
}

pub fn get(words: &Words<'_>) -> Outcome {
    command_of(Command::Get(words[1].into()))
}

pub fn mget(words: &Words<'_>) -> Outcome {
    command_of(Command::GetAll(key_list(&words[1..])))
}

pub fn exists(words: &Words<'_>) -> Outcome {
    command_of(Command::Exists(key_list(&words[1..])))
}

pub fn strlen(words: &Words<'_>) -> Outcome {
    command_of(Command::Length(words[1].into()))
}

pub fn getrange(words: &Words<'_>) -> Outcome {
    command_of(Command::GetRange(words[1].into(), number(words[2])?, number(words[3])?))
}

fn expiry_query(words: &Words<'_>, absolute: bool, millis: bool) -> Outcome {
    command_of(Command::Expiry(words[1].into(), ExpiryForm { absolute, millis }))
}

pub fn ttl(words: &Words<'_>) -> Outcome {
    expiry_query(words, false, false)
}

pub fn pttl(words: &Words<'_>) -> Outcome {
    expiry_query(words, false, true)
}

pub fn expiretime(words: &Words<'_>) -> Outcome {
    expiry_query(words, true, false)
}

pub fn pexpiretime(words: &Words<'_>) -> Outcome {
    expiry_query(words, true, true)
}

pub fn kind(words: &Words<'_>) -> Outcome {
    command_of(Command::Type(words[1].into()))
}

pub fn keys(words: &Words<'_>) -> Outcome {
    command_of(Command::Keys(pattern(words[1])?.into()))
}

pub fn dbsize(_: &Words<'_>) -> Outcome {
    command_of(Command::Count)
}

pub fn randomkey(_: &Words<'_>) -> Outcome {
    command_of(Command::RandomKey)
}

pub fn scan(words: &Words<'_>) -> Outcome {
    let cursor = std::str::from_utf8(words[1]).ok().and_then(|text| text.parse().ok());
    let cursor = cursor.ok_or("ERR invalid cursor")?;
    let (mut count, mut fits, mut of_strings) = (10, None, true);
    let mut rest = &words[2..];
    while let [option, value, after @ ..] = rest {
        if is(option, "count") {
            let number = number(value)?;
            count = usize::try_from(number).ok().filter(|count| *count > 0).ok_or(SYNTAX)?;
        } else if is(option, "match") {
            fits = Some(pattern(value)?.into());
        } else if is(option, "type") {
            of_strings = is(value, "string");
        } else {
            return Err(SYNTAX.into());
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(SYNTAX.into());
    }
    command_of(Command::Scan { cursor, count, pattern: fits, of_strings })
}

/// An option may be said twice, as in Redis; of two times in the same form the last counts.
pub fn set(words: &Words<'_>) -> Outcome {
    let mut options = SetOptions::default();
    let mut expires_at: Option<(ExpiryForm, i64)> = None;
    let mut rest = &words[3..];
    while let [option, after @ ..] = rest {
        rest = after;
        let may_be = |condition| [SetCondition::Always, condition].contains(&options.condition);
        if is(option, "nx") && may_be(SetCondition::New) {
            options.condition = SetCondition::New;
        } else if is(option, "xx") && may_be(SetCondition::Existing) {
            options.condition = SetCondition::Existing;
        } else if is(option, "get") {
            options.answer = SetAnswer::OldValue;
        } else if is(option, "keepttl") && expires_at.is_none() {
            options.keep_expiry = true;
        } else if let (Some(form), [time, after @ ..], false) =
            (expiry_option(option), rest, options.keep_expiry)
            && expires_at.is_none_or(|(before, _)| before == form)
        {
            expires_at = Some((form, expiry(time, form, "set")?));
            rest = after;
        } else {
            return Err(SYNTAX.into());
        }
    }
    let expires_at = expires_at.map(|(_, at)| at);
    command_of(Command::Set(Entry::expiring(words[1], words[2], expires_at), options))
}

pub fn setnx(words: &Words<'_>) -> Outcome {
    let condition = SetCondition::New;
    let options = SetOptions { condition, answer: SetAnswer::Number, ..SetOptions::default() };
    command_of(Command::Set(Entry::new(words[1], words[2]), options))
}

pub fn getset(words: &Words<'_>) -> Outcome {
    let options = SetOptions { answer: SetAnswer::OldValue, ..SetOptions::default() };
    command_of(Command::Set(Entry::new(words[1], words[2]), options))
}

fn set_for(words: &Words<'_>, millis: bool, name: &str) -> Outcome {
    let at = expiry(words[2], ExpiryForm { absolute: false, millis }, name)?;
    command_of(Command::Set(Entry::expiring(words[1], words[3], Some(at)), SetOptions::default()))
}

pub fn setex(words: &Words<'_>) -> Outcome {
    set_for(words, false, "setex")
}

pub fn psetex(words: &Words<'_>) -> Outcome {
    set_for(words, true, "psetex")
}

fn set_all(words: &Words<'_>, only_new: bool, name: &str) -> Outcome {
    let pairs = &words[1..];
    if !pairs.len().is_multiple_of(2) {
        return Err(wrong_number(name));
    }
    let entries: Vec<_> = pairs.chunks(2).map(|pair| Entry::new(pair[0], pair[1])).collect();
    command_of(Command::SetAll(entries, only_new))
}

pub fn mset(words: &Words<'_>) -> Outcome {
    set_all(words, false, "mset")
}

pub fn msetnx(words: &Words<'_>) -> Outcome {
    set_all(words, true, "msetnx")
}

pub fn del(words: &Words<'_>) -> Outcome {
    command_of(Command::Del(key_list(&words[1..])))
}

pub fn getdel(words: &Words<'_>) -> Outcome {
    command_of(Command::GetDel(words[1].into()))
}

pub fn getex(words: &Words<'_>) -> Outcome {
    let mut persists = false;
    let mut expires_at: Option<(ExpiryForm, i64)> = None;
    let mut rest = &words[2..];
    while let [option, after @ ..] = rest {
        rest = after;
        if is(option, "persist") && expires_at.is_none() {
            persists = true;
        } else if let (Some(form), [time, after @ ..], false) =
            (expiry_option(option), rest, persists)
            && expires_at.is_none_or(|(before, _)| before == form)
        {
            expires_at = Some((form, expiry(time, form, "getex")?));
            rest = after;
        } else {
            return Err(SYNTAX.into());
        }
    }
    let change = match expires_at {
        Some((_, at)) => Some(NewExpiry::At(at)),
        None => persists.then_some(NewExpiry::Never),
    };
    command_of(Command::GetEx(words[1].into(), change))
}

pub fn append(words: &Words<'_>) -> Outcome {
    command_of(Command::Append(words[1].into(), words[2].into()))
}

pub fn setrange(words: &Words<'_>) -> Outcome {
    let offset = number(words[2])?;
    let offset = usize::try_from(offset).map_err(|_| "ERR offset is out of range")?;
    command_of(Command::SetRange(words[1].into(), offset, words[3].into()))
}

pub fn incr(words: &Words<'_>) -> Outcome {
    command_of(Command::Add(words[1].into(), 1))
}

pub fn decr(words: &Words<'_>) -> Outcome {
    command_of(Command::Add(words[1].into(), -1))
}

pub fn incrby(words: &Words<'_>) -> Outcome {
    command_of(Command::Add(words[1].into(), number(words[2])?))
}

pub fn decrby(words: &Words<'_>) -> Outcome {
    let by = number(words[2])?.checked_neg().ok_or("ERR decrement would overflow")?;
    command_of(Command::Add(words[1].into(), by))
}

pub fn incrbyfloat(words: &Words<'_>) -> Outcome {
    let by = Decimal::parse(words[2]).ok_or("ERR value is not a valid float")?;
    command_of(Command::AddFloat(words[1].into(), by))
}

pub fn rename(words: &Words<'_>) -> Outcome {
    command_of(Command::Rename(words[1].into(), words[2].into(), false))
}

pub fn renamenx(words: &Words<'_>) -> Outcome {
    command_of(Command::Rename(words[1].into(), words[2].into(), true))
}

pub fn copy(words: &Words<'_>) -> Outcome {
    let mut replace = false;
    let mut rest = &words[3..];
    while let [option, after @ ..] = rest {
        rest = after;
        match after {
            _ if is(option, "replace") => replace = true,
            [index, after @ ..] if is(option, "db") => {
                database(index)?;
                rest = after;
            }
            _ => return Err(SYNTAX.into()),
        }
    }
    command_of(Command::Copy(words[1].into(), words[2].into(), replace))
}

fn expire_at(words: &Words<'_>, form: ExpiryForm, name: &str) -> Outcome {
    let mut condition = ExpireCondition::default();
    for option in &words[3..] {
        match () {
            () if is(option, "nx") => condition.only_new = true,
            () if is(option, "xx") => condition.only_existing = true,
            () if is(option, "gt") => condition.only_later = true,
            () if is(option, "lt") => condition.only_earlier = true,
            () => {
                return Err(format!("ERR Unsupported option {}", shown(option, SHOWN_BYTES)).into());
            }
        }
    }
    let ExpireCondition { only_new, only_existing, only_later, only_earlier } = condition;
    if only_new && (only_existing || only_later || only_earlier) {
        return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
    }
    if only_later && only_earlier {
        return Err("ERR GT and LT options at the same time are not compatible".into());
    }
    let at = point_in_time(number(words[2])?, form);
    let at = at.ok_or_else(|| format!("ERR invalid expire time in '{name}' command"))?;
    command_of(Command::Expire(words[1].into(), at, condition))
}

pub fn expire(words: &Words<'_>) -> Outcome {
    expire_at(words, ExpiryForm { absolute: false, millis: false }, "expire")
}

pub fn pexpire(words: &Words<'_>) -> Outcome {
    expire_at(words, ExpiryForm { absolute: false, millis: true }, "pexpire")
}

pub fn expireat(words: &Words<'_>) -> Outcome {
    expire_at(words, ExpiryForm { absolute: true, millis: false }, "expireat")
}

pub fn pexpireat(words: &Words<'_>) -> Outcome {
    expire_at(words, ExpiryForm { absolute: true, millis: true }, "pexpireat")
}

pub fn persist(words: &Words<'_>) -> Outcome {
    command_of(Command::Persist(words[1].into()))
}

pub fn flush(words: &Words<'_>) -> Outcome {
    match &words[1..] {
        [] => command_of(Command::Clear),
        [option] if is(option, "async") || is(option, "sync") => command_of(Command::Clear),
        _ => Err(SYNTAX.into()),
    }
}

/// A container without a subcommand, which its arity forbids.
pub fn container(words: &Words<'_>) -> Outcome {
    Err(wrong_number(&shown(words[0], SHOWN_BYTES).to_lowercase()))
}

pub fn object_encoding(words: &Words<'_>) -> Outcome {
    command_of(Command::Encoding(words[2].into()))
}

/// A string is measured as a whole, however many samples are asked for.
pub fn memory_usage(words: &Words<'_>) -> Outcome {
    let mut rest = &words[3..];
    while let [option, count, after @ ..] = rest {
        if !is(option, "samples") || number(count)? < 0 {
            return Err(SYNTAX.into());
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(SYNTAX.into());
    }
    command_of(Command::MemoryUsage(words[2].into()))
}
