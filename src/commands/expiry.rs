//! Commands about when a key expires, and the expiry options of SET. A time to live counts from the moment at
//! which it is read; the point in time is kept.

use std::cell::Cell;

use super::words::*;
use crate::command::{Answer, Edit, Key, Mutation, Reply, Text, View, Words, is};
use crate::entry::now_millis;

/// How an expiry is given: as a point in time or as time left, and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    absolute: bool,
    millis: bool,
}

pub const SECONDS: Form = Form { absolute: false, millis: false };
pub const MILLIS: Form = Form { absolute: false, millis: true };
const UNIX_SECONDS: Form = Form { absolute: true, millis: false };
const UNIX_MILLIS: Form = Form { absolute: true, millis: true };

impl Form {
    /// The point in time, in milliseconds of Unix time.
    fn point(self, time: i64) -> Option<i64> {
        let millis = if self.millis { time } else { time.checked_mul(1000)? };
        if self.absolute { Some(millis) } else { millis.checked_add(moment()) }
    }
}

thread_local! {
    /// The moment of the program that this thread runs.
    static MOMENT: Cell<Option<i64>> = const { Cell::new(None) };
}

/// When a time to live begins that is read now.
fn moment() -> i64 {
    MOMENT.get().unwrap_or_else(now_millis)
}

/// Reads a command of a running program, for which time stands still: otherwise a script that has just set a key for a
/// second could find that more than a second is left.
#[cfg(feature = "scripts")]
pub fn at_moment<T>(moment: i64, read: impl FnOnce() -> T) -> T {
    MOMENT.set(Some(moment));
    let read = read();
    MOMENT.set(None);
    read
}

/// If `option` is an expiry option of SET and its like: its form, the time in `rest`, and the words after that.
pub fn option<'a>(
    option: &[u8],
    rest: &'a Words<'a>,
    command: &str,
) -> Option<(Form, Result<i64, Text>, &'a Words<'a>)> {
    let forms = [("ex", SECONDS), ("px", MILLIS), ("exat", UNIX_SECONDS), ("pxat", UNIX_MILLIS)];
    let (_, form) = forms.into_iter().find(|(name, _)| is(option, name))?;
    let (time, rest) = rest.split_first()?;
    Some((form, positive(time, form, command), rest))
}

/// Reads an expiry into a point in time. SET and its like take only positive numbers.
pub fn positive(text: &[u8], form: Form, command: &str) -> Result<i64, Text> {
    let time = number(text)?;
    let at = if time > 0 { form.point(time) } else { None };
    at.ok_or_else(|| invalid(command))
}

fn invalid(command: &str) -> Text {
    format!("ERR invalid expire time in '{command}' command").into()
}

pub fn ttl(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    tell(view, words[1], answer, SECONDS)
}

pub fn pttl(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    tell(view, words[1], answer, MILLIS)
}

pub fn expiretime(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    tell(view, words[1], answer, UNIX_SECONDS)
}

pub fn pexpiretime(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    tell(view, words[1], answer, UNIX_MILLIS)
}

fn tell(view: &mut dyn View, key: &[u8], answer: &mut dyn Answer, form: Form) -> Put {
    let from = if form.absolute { 0 } else { view.now() };
    let found = view.shape(key).map(|shape| shape.expiry);
    view.count_read(key, found.is_some());
    let millis = match found {
        None => return answer.put(&Reply::Integer(-2)),
        Some(None) => return answer.put(&Reply::Integer(-1)),
        Some(Some(at)) => at - from,
    };
    // As Redis rounds: half a second is one.
    let seconds = millis / 1000 + i64::from(millis % 1000 >= 500);
    answer.put(&Reply::Integer(if form.millis { millis } else { seconds }))
}

/// When EXPIRE sets an expiry. For GT and LT, a key without an expiry has an infinite one.
#[derive(Default)]
struct Condition {
    only_new: bool,
    only_existing: bool,
    only_later: bool,
    only_earlier: bool,
}

impl Condition {
    fn read(options: &Words<'_>) -> Result<Condition, Text> {
        let mut condition = Condition::default();
        for option in options {
            match () {
                () if is(option, "nx") => condition.only_new = true,
                () if is(option, "xx") => condition.only_existing = true,
                () if is(option, "gt") => condition.only_later = true,
                () if is(option, "lt") => condition.only_earlier = true,
                () => return Err(format!("ERR Unsupported option {}", shown(option)).into()),
            }
        }
        let Condition { only_new, only_existing, only_later, only_earlier } = condition;
        if only_new && (only_existing || only_later || only_earlier) {
            return Err(
                "ERR NX and XX, GT or LT options at the same time are not compatible".into()
            );
        }
        if only_later && only_earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(condition)
    }

    fn is_met(&self, old: Option<i64>, new: i64) -> bool {
        !(self.only_new && old.is_some()
            || self.only_existing && old.is_none()
            || self.only_later && old.is_none_or(|old| new <= old)
            || self.only_earlier && old.is_some_and(|old| new >= old))
    }
}

pub fn expire(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    expire_at(view, words, SECONDS, "expire")
}

pub fn pexpire(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    expire_at(view, words, MILLIS, "pexpire")
}

pub fn expireat(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    expire_at(view, words, UNIX_SECONDS, "expireat")
}

pub fn pexpireat(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    expire_at(view, words, UNIX_MILLIS, "pexpireat")
}

fn expire_at(view: &mut dyn Edit, words: &Words<'_>, form: Form, name: &str) -> Written {
    let condition = Condition::read(&words[3..])?;
    let at = form.point(number(words[2])?).ok_or_else(|| invalid(name))?;
    let old = view.shape(words[1]).map(|shape| shape.expiry);
    let is_met = old.is_some_and(|old| condition.is_met(old, at));
    if is_met {
        change(view, words[1], Some(at))?;
    }
    Ok(Reply::Integer(is_met.into()))
}

/// Gives an existing key another expiry; an expiry in the past removes the key.
fn change(view: &mut dyn Edit, key: &[u8], at: Option<i64>) -> Put {
    // The time of a batch is that of its beginning, and a time to live was counted from a later moment: one of 0 has
    // passed, and the next command of the same batch must not find the key.
    if at.is_some_and(|at| at <= view.now().max(moment())) {
        return view.push(Mutation::Delete(Key::from(key)));
    }
    view.expire(key, at)
}

pub fn persist(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (_, expiry) = shape(view, words[1]);
    if expiry.is_some() {
        change(view, words[1], None)?;
    }
    Ok(Reply::Integer(expiry.is_some().into()))
}

pub fn getex(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let mut persists = false;
    let mut expires_at: Option<(Form, i64)> = None;
    let mut rest = &words[2..];
    while let [word, after @ ..] = rest {
        rest = after;
        if is(word, "persist") && expires_at.is_none() {
            persists = true;
        } else if !persists
            && let Some((form, at, after)) = option(word, rest, "getex")
            && expires_at.is_none_or(|(before, _)| before == form)
        {
            expires_at = Some((form, at?));
            rest = after;
        } else {
            return Err(SYNTAX.into());
        }
    }
    let value = value_of(view, words[1]);
    match expires_at {
        _ if value == Reply::Null => {}
        Some((_, at)) => change(view, words[1], Some(at))?,
        None if persists => persist(view, words).map(drop)?,
        None => {}
    }
    Ok(value)
}
