//! The commands that change something, evaluated on a batch: what they add to it, and what they
//! answer once that is durable.

use super::answer::{Allowance, Collected};
use super::batch::{BatchView, Refusal};
use super::read::read;
use super::view::View;
use crate::command::{
    Command, Dialect, ExpireCondition, Key, Mutation, NewExpiry, Reply, SetAnswer, SetCondition,
    SetOptions,
};
use crate::decimal::Decimal;
use crate::entry::Entry;
use crate::metrics::Metrics;

const TOO_LONG: Reply<'static> = Reply::Error(std::borrow::Cow::Borrowed(
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
));
const OOM: Reply<'static> = Reply::Error(std::borrow::Cow::Borrowed(
    "OOM command not allowed when used memory > 'maxmemory'.",
));
const OOM_IN_EXEC: Reply<'static> = Reply::Error(std::borrow::Cow::Borrowed(
    "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
));
const TOO_MUCH: Reply<'static> = Reply::Error(std::borrow::Cow::Borrowed(
    "EXECABORT Transaction discarded because of: its commands make too much out of what is there.",
));
const NO_SUCH_KEY: Reply<'static> = Reply::Error(std::borrow::Cow::Borrowed("ERR no such key"));

/// The digits of the longest whole number, and its sign.
const INTEGER_BYTES: usize = 20;

/// A reply, or why the command, and the transaction that it is in, are not carried out.
type Outcome = Result<Reply<'static>, Refusal>;

/// Carries out one command. Its entries are taken out of it.
fn write(view: &mut BatchView<'_>, command: &mut Command) -> Outcome {
    Ok(match command {
        Command::Set(entry, options) => set(view, std::mem::take(entry), *options)?,
        Command::SetAll(entries, only_new) => {
            let sets = !*only_new || entries.iter().all(|entry| !view.has(entry.key()));
            if sets {
                for entry in entries.drain(..) {
                    view.push(Mutation::Set(entry))?;
                }
            }
            if *only_new { Reply::Integer(sets.into()) } else { Reply::Ok }
        }
        Command::Del(keys) => {
            let mut removed = 0;
            for key in keys {
                if view.has(key) {
                    view.push(Mutation::Delete(key.clone()))?;
                    removed += 1;
                }
            }
            Reply::Integer(removed)
        }
        Command::GetDel(key) => {
            let reply = value_of(view, key);
            if reply != Reply::Null {
                view.push(Mutation::Delete(key.clone()))?;
            }
            reply
        }
        Command::GetEx(key, change) => {
            let reply = value_of(view, key);
            if reply != Reply::Null {
                match change {
                    None => {}
                    Some(NewExpiry::Never) => persist(view, key).map(drop)?,
                    Some(NewExpiry::At(at)) => expire(view, key, Some(*at))?,
                }
            }
            reply
        }
        Command::Append(key, more) => {
            let (length, expiry) = shape(view, key);
            let new = length + more.len();
            if new > view.batch.max_value {
                return Ok(TOO_LONG);
            }
            view.derive((key, key), new, expiry, &|old, new| {
                new[..old.len()].copy_from_slice(old);
                new[old.len()..].copy_from_slice(more);
            })?;
            Reply::Integer(new as i64)
        }
        Command::SetRange(key, offset, part) => {
            let (length, expiry) = shape(view, key);
            if part.is_empty() {
                return Ok(Reply::Integer(length as i64));
            }
            let end = offset.checked_add(part.len());
            let Some(end) = end.filter(|end| *end <= view.batch.max_value) else {
                return Ok(TOO_LONG);
            };
            let new = length.max(end);
            view.derive((key, key), new, expiry, &|old, new| {
                new[..old.len()].copy_from_slice(old);
                new[*offset..end].copy_from_slice(part);
            })?;
            Reply::Integer(new as i64)
        }
        Command::Add(key, by) => add(view, key, *by)?,
        Command::AddFloat(key, by) => add_float(view, key, by)?,
        Command::Rename(from, to, only_new) => rename(view, from, to, *only_new)?,
        Command::Copy(from, to, replaces) => {
            if from == to {
                return Ok(Reply::Error("ERR source and destination objects are the same".into()));
            }
            let copies = view.has(from) && (*replaces || !view.has(to));
            if copies {
                let (length, expiry) = shape(view, from);
                view.derive((from, to), length, expiry, &copy)?;
            }
            Reply::Integer(copies.into())
        }
        Command::Expire(key, at, condition) => {
            let old = view.look(key, |entry| entry.map(Entry::expiry));
            let meets = old.is_some_and(|old| is_met(*condition, old, *at));
            if meets {
                expire(view, key, Some(*at))?;
            }
            Reply::Integer(meets.into())
        }
        Command::Persist(key) => Reply::Integer(persist(view, key)?.into()),
        Command::Clear => {
            view.push(Mutation::Clear)?;
            Reply::Ok
        }
        Command::Reclaim(keys) => {
            // Looked at again: since they were found, they may have been set anew, or removed.
            // The list stays as it is: where there is no room for the batch, this is carried out again.
            let mut removed = 0;
            for key in keys {
                if view.has_expired(key) {
                    view.push(Mutation::Delete(key.clone()))?;
                    removed += 1;
                }
            }
            Reply::Integer(removed)
        }
        other => unreachable!("{other:?} changes nothing"),
    })
}

/// Carries out any command, also a transaction, unless it would add too much or be answered by more than
/// `max_reply`, as the dialect spells it. Then nothing of it is done.
pub fn carry_out(
    view: &mut BatchView<'_>,
    command: &mut Command,
    dialect: Dialect,
    metrics: &Metrics,
    max_reply: usize,
) -> Reply<'static> {
    if let Some(reply) = watch(view, command, metrics) {
        return reply;
    }
    let may_grow = command.may_grow();
    let room = &mut Allowance::new(max_reply, dialect);
    let outcome = match &mut *command {
        // Redis looks only here, and a transaction that then removes more than it adds is refused as well.
        _ if view.batch.is_full() && may_grow => Err(Refusal::NoMemory),
        Command::Transaction(commands, _) => {
            let perform = |command| perform(view, command, metrics, room);
            commands.iter_mut().map(perform).collect::<Result<_, _>>().map(Reply::Array)
        }
        command => perform(view, command, metrics, room),
    };
    match outcome {
        Ok(reply) => {
            view.batch.keep();
            reply
        }
        Err(refusal) => {
            view.batch.forget();
            match (refusal, command) {
                (Refusal::TooMuch, _) => TOO_MUCH,
                (Refusal::NoMemory, Command::Transaction(..)) => OOM_IN_EXEC,
                (Refusal::NoMemory, _) => OOM,
                (Refusal::Unanswerable(why), Command::Transaction(..)) => {
                    let text = format!("EXECABORT Transaction discarded because of: {why}");
                    Reply::Error(text.into())
                }
                (Refusal::Unanswerable(why), _) => Reply::Error(why.into()),
            }
        }
    }
}

/// Answers a command that is not carried out. A transaction ends all watching all the same.
pub fn turn_down(
    view: &mut BatchView<'_>,
    command: &mut Command,
    metrics: &Metrics,
    refusal: Reply<'static>,
) -> Reply<'static> {
    watch(view, command, metrics).unwrap_or(refusal)
}

/// Carries out what is about watched keys. A transaction goes on only if none of them has changed.
fn watch(
    view: &mut BatchView<'_>,
    command: &mut Command,
    metrics: &Metrics,
) -> Option<Reply<'static>> {
    let now = view.now();
    let reply = match command {
        Command::Watch(keys, watcher) => {
            // Out of the batch, which is looked at meanwhile.
            let mut watches = std::mem::take(&mut view.batch.watches);
            let reply = watches.add(watcher, keys, |key| view.seen(key));
            view.batch.watches = watches;
            Some(reply)
        }
        Command::Unwatch(watcher, reply) => {
            view.batch.watches.end(watcher.id, now);
            Some(reply.clone())
        }
        Command::Leave(watcher) => {
            view.batch.watches.end(watcher.id, now);
            Some(Reply::Null)
        }
        Command::Transaction(_, Some(watcher)) => {
            view.batch.watches.end(watcher.id, now).then_some(Reply::NullArray)
        }
        _ => return None,
    };
    view.batch.watches.count(metrics);
    reply
}

/// Carries out a command that is no transaction.
fn perform(
    view: &mut BatchView<'_>,
    command: &mut Command,
    metrics: &Metrics,
    room: &mut Allowance,
) -> Outcome {
    if command.is_write() {
        view.batch.may_grow = command.may_grow();
        let reply = write(view, command)?;
        room.take(&reply).map_err(Refusal::Unanswerable)?;
        return Ok(reply);
    }
    let mut collected = Collected::new(room);
    read(view, command, metrics, &mut collected).map_err(Refusal::Unanswerable)?;
    Ok(collected.into_reply())
}

fn set(view: &mut BatchView<'_>, new: Box<Entry>, options: SetOptions) -> Outcome {
    if options == SetOptions::default() {
        view.push(Mutation::Set(new))?;
        return Ok(Reply::Ok);
    }
    let old = view.look(new.key(), |entry| entry.map(Entry::expiry));
    let sets = match options.condition {
        SetCondition::Always => true,
        SetCondition::New => old.is_none(),
        SetCondition::Existing => old.is_some(),
    };
    let reply = match (options.answer, sets) {
        (SetAnswer::Ok, true) => Reply::Ok,
        (SetAnswer::Ok, false) => Reply::Null,
        (SetAnswer::OldValue, _) => value_of(view, new.key()),
        (SetAnswer::Number, _) => Reply::Integer(sets.into()),
    };
    if sets {
        let kept = old.flatten().filter(|_| options.keep_expiry);
        let new = match kept {
            Some(at) => Entry::expiring(new.key(), new.value(), Some(at)),
            None => new,
        };
        view.push(Mutation::Set(new))?;
    }
    Ok(reply)
}

fn value_of(view: &mut BatchView<'_>, key: &[u8]) -> Reply<'static> {
    view.look(key, |entry| entry.map_or(Reply::Null, |entry| Reply::bulk(entry.value())))
}

/// The length of a value, and when it expires; no value is an empty one.
fn shape(view: &mut BatchView<'_>, key: &[u8]) -> (usize, Option<i64>) {
    view.look(key, |entry| entry.map_or((0, None), |entry| (entry.value().len(), entry.expiry())))
}

fn copy(old: &[u8], new: &mut [u8]) {
    new.copy_from_slice(old);
}

/// Gives a key that is there another expiry; one that is over already removes it.
fn expire(view: &mut BatchView<'_>, key: &Key, at: Option<i64>) -> Result<(), Refusal> {
    if at.is_some_and(|at| at <= view.now()) {
        return view.push(Mutation::Delete(key.clone()));
    }
    let (length, _) = shape(view, key);
    view.derive((key, key), length, at, &copy)
}

/// Says whether there was an expiry to take away.
fn persist(view: &mut BatchView<'_>, key: &Key) -> Result<bool, Refusal> {
    let (_, expiry) = shape(view, key);
    if expiry.is_some() {
        expire(view, key, None)?;
    }
    Ok(expiry.is_some())
}

fn is_met(condition: ExpireCondition, now: Option<i64>, new: i64) -> bool {
    let ExpireCondition { only_new, only_existing, only_later, only_earlier } = condition;
    !(only_new && now.is_some()
        || only_existing && now.is_none()
        || only_later && now.is_none_or(|now| new <= now)
        || only_earlier && now.is_some_and(|now| new >= now))
}

fn add(view: &mut BatchView<'_>, key: &[u8], by: i64) -> Outcome {
    let (number, expiry) = view.look(key, |old| match old {
        None => (Some(0), None),
        Some(old) => (whole_number(old.value()), old.expiry()),
    });
    let Some(number) = number else {
        return Ok(Reply::Error("ERR value is not an integer or out of range".into()));
    };
    let Some(sum) = number.checked_add(by) else {
        return Ok(Reply::Error("ERR increment or decrement would overflow".into()));
    };
    view.push(Mutation::Set(Entry::expiring(key, sum.to_string().as_bytes(), expiry)))?;
    Ok(Reply::Integer(sum))
}

/// The number that a value is, if it is spelled as one.
fn whole_number(value: &[u8]) -> Option<i64> {
    let text = value.get(..value.len().min(INTEGER_BYTES + 1))?;
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn add_float(view: &mut BatchView<'_>, key: &[u8], by: &Decimal) -> Outcome {
    let (number, expiry) = view.look(key, |old| match old {
        None => (Some(Decimal::zero()), None),
        Some(old) => (Decimal::parse(old.value()), old.expiry()),
    });
    let Some(number) = number else {
        return Ok(Reply::Error("ERR value is not a valid float".into()));
    };
    let Some(sum) = number.plus(by) else {
        return Ok(Reply::Error("ERR increment would produce NaN or Infinity".into()));
    };
    let text = sum.to_string();
    view.push(Mutation::Set(Entry::expiring(key, text.as_bytes(), expiry)))?;
    Ok(Reply::bulk(text.as_bytes()))
}

fn rename(view: &mut BatchView<'_>, from: &Key, to: &Key, only_new: bool) -> Outcome {
    if !view.has(from) {
        return Ok(NO_SUCH_KEY);
    }
    if only_new && view.has(to) {
        return Ok(Reply::Integer(0));
    }
    if from != to {
        let (length, expiry) = shape(view, from);
        let renamed = view.make((from, to), length, expiry, &copy)?;
        view.push(Mutation::Delete(from.clone()))?;
        view.push(Mutation::Set(renamed))?;
    }
    Ok(if only_new { Reply::Integer(1) } else { Reply::Ok })
}
