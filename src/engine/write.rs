//! The commands that change something, evaluated on a batch: what they add to it, and what they
//! answer once that is durable.

use std::sync::atomic::Ordering;

use super::batch::BatchView;
use super::read::read;
use super::view::View;
use crate::command::{
    Command, ExpireCondition, Key, Mutation, NewExpiry, Reply, SetAnswer, SetCondition, SetOptions,
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
const NO_SUCH_KEY: Reply<'static> = Reply::Error(std::borrow::Cow::Borrowed("ERR no such key"));

/// Carries out one command. Its entries are taken out of it.
pub fn write(view: &mut BatchView<'_>, command: &mut Command) -> Reply<'static> {
    match command {
        Command::Set(entry, options) => set(view, std::mem::take(entry), *options),
        Command::SetAll(entries, only_new) => {
            let is_free = |view: &mut BatchView<'_>| entries.iter().all(|e| !view.has(e.key()));
            let sets = !*only_new || is_free(view);
            if sets {
                entries.drain(..).for_each(|entry| view.push(Mutation::Set(entry)));
            }
            if *only_new { Reply::Integer(sets.into()) } else { Reply::Ok }
        }
        Command::Del(keys) => {
            let removed = keys.iter().filter(|key| remove(view, key)).count();
            Reply::Integer(removed as i64)
        }
        Command::GetDel(key) => match view.entry(key) {
            None => Reply::Null,
            Some(entry) => {
                view.push(Mutation::Delete(key.clone()));
                Reply::bulk(entry.value())
            }
        },
        Command::GetEx(key, change) => {
            let Some(entry) = view.entry(key) else {
                return Reply::Null;
            };
            match change {
                None => {}
                Some(NewExpiry::Never) if entry.expiry().is_none() => {}
                Some(NewExpiry::Never) => expire(view, &entry, None),
                Some(NewExpiry::At(at)) => expire(view, &entry, Some(*at)),
            }
            Reply::bulk(entry.value())
        }
        Command::Append(key, more) => {
            let old = view.entry(key);
            let mut value = old.as_deref().map_or(&[][..], Entry::value).to_vec();
            if value.len() + more.len() > view.batch.max_value {
                return TOO_LONG;
            }
            value.extend_from_slice(more);
            replace(view, key, &value, old.as_deref());
            Reply::Integer(value.len() as i64)
        }
        Command::SetRange(key, offset, part) => {
            let old = view.entry(key);
            let mut value = old.as_deref().map_or(&[][..], Entry::value).to_vec();
            if part.is_empty() {
                return Reply::Integer(value.len() as i64);
            }
            let end = offset.checked_add(part.len());
            let Some(end) = end.filter(|end| *end <= view.batch.max_value) else {
                return TOO_LONG;
            };
            value.resize(value.len().max(end), 0);
            value[*offset..end].copy_from_slice(part);
            replace(view, key, &value, old.as_deref());
            Reply::Integer(value.len() as i64)
        }
        Command::Add(key, by) => add(view, key, *by),
        Command::AddFloat(key, by) => add_float(view, key, by),
        Command::Rename(from, to, only_new) => rename(view, from, to, *only_new),
        Command::Copy(from, to, replaces) => {
            if from == to {
                return Reply::Error("ERR source and destination objects are the same".into());
            }
            let Some(entry) = view.entry(from) else {
                return Reply::Integer(0);
            };
            let copies = *replaces || !view.has(to);
            if copies {
                let copy = Entry::expiring(to, entry.value(), entry.expiry());
                view.push(Mutation::Set(copy));
            }
            Reply::Integer(copies.into())
        }
        Command::Expire(key, at, condition) => {
            let Some(entry) = view.entry(key) else {
                return Reply::Integer(0);
            };
            let meets = is_met(*condition, entry.expiry(), *at);
            if meets {
                expire(view, &entry, Some(*at));
            }
            Reply::Integer(meets.into())
        }
        Command::Persist(key) => {
            let entry = view.entry(key).filter(|entry| entry.expiry().is_some());
            if let Some(entry) = &entry {
                expire(view, entry, None);
            }
            Reply::Integer(entry.is_some().into())
        }
        Command::Clear => {
            view.push(Mutation::Clear);
            Reply::Ok
        }
        Command::Reclaim(keys) => {
            // Looked at again: since they were found, they may have been set anew, or removed.
            keys.retain(|key| view.has_expired(key));
            let removed = keys.len() as i64;
            keys.drain(..).for_each(|key| view.push(Mutation::Delete(key)));
            Reply::Integer(removed)
        }
        Command::Watch(keys, watch) => {
            view.batch.watch(keys, watch);
            Reply::Ok
        }
        other => unreachable!("{other:?} changes nothing"),
    }
}

/// Carries out any command, also a transaction, unless it may add something to a full store.
pub fn carry_out(
    view: &mut BatchView<'_>,
    command: &mut Command,
    metrics: &Metrics,
) -> Reply<'static> {
    let before = view.batch.mutations.len();
    let reply = match command {
        Command::Transaction(_, Some(watch)) if watch.0.load(Ordering::Relaxed) => Reply::NullArray,
        // Once for all of it, as in Redis: it is carried out as a whole or not at all.
        Command::Transaction(..) if view.is_full() && command.may_grow() => OOM_IN_EXEC,
        Command::Transaction(commands, _) => Reply::Array(
            commands.iter_mut().map(|command| perform(view, command, metrics)).collect(),
        ),
        _ if view.is_full() && command.may_grow() => OOM,
        command => perform(view, command, metrics),
    };
    view.batch.together |= view.batch.mutations.len() - before > 1;
    reply
}

/// Carries out a command that is no transaction.
fn perform(view: &mut BatchView<'_>, command: &mut Command, metrics: &Metrics) -> Reply<'static> {
    if command.is_write() {
        return write(view, command);
    }
    let mut owned = Reply::Null;
    read(view, command, metrics, &mut |reply| owned = into_owned(reply));
    owned
}

fn into_owned(reply: Reply<'_>) -> Reply<'static> {
    let all = |items: Vec<Reply<'_>>| items.into_iter().map(into_owned).collect();
    match reply {
        Reply::Ok => Reply::Ok,
        Reply::Null => Reply::Null,
        Reply::NullArray => Reply::NullArray,
        Reply::Simple(word) => Reply::Simple(word),
        Reply::Integer(number) => Reply::Integer(number),
        Reply::Bulk(bytes) => Reply::Bulk(bytes.into_owned().into()),
        Reply::Verbatim(bytes) => Reply::Verbatim(bytes.into_owned().into()),
        Reply::Array(items) => Reply::Array(all(items)),
        Reply::Map(items) => Reply::Map(all(items)),
        Reply::Error(text) => Reply::Error(text.into_owned().into()),
        Reply::NotDurable(reason) => Reply::NotDurable(reason),
    }
}

fn set(view: &mut BatchView<'_>, new: Box<Entry>, options: SetOptions) -> Reply<'static> {
    if options == SetOptions::default() {
        view.push(Mutation::Set(new));
        return Reply::Ok;
    }
    let old = view.entry(new.key());
    let sets = match options.condition {
        SetCondition::Always => true,
        SetCondition::New => old.is_none(),
        SetCondition::Existing => old.is_some(),
    };
    let reply = match (options.answer, sets, &old) {
        (SetAnswer::Ok, true, _) => Reply::Ok,
        (SetAnswer::Ok, false, _) | (SetAnswer::OldValue, _, None) => Reply::Null,
        (SetAnswer::OldValue, _, Some(old)) => Reply::bulk(old.value()),
        (SetAnswer::Number, ..) => Reply::Integer(sets.into()),
    };
    if sets {
        let kept = old.and_then(|old| old.expiry()).filter(|_| options.keep_expiry);
        let new = match kept {
            Some(at) => Entry::expiring(new.key(), new.value(), Some(at)),
            None => new,
        };
        view.push(Mutation::Set(new));
    }
    reply
}

fn remove(view: &mut BatchView<'_>, key: &Key) -> bool {
    let there = view.has(key);
    if there {
        view.push(Mutation::Delete(key.clone()));
    }
    there
}

/// Gives a key another value and leaves its expiry as it is.
fn replace(view: &mut BatchView<'_>, key: &[u8], value: &[u8], old: Option<&Entry>) {
    let expiry = old.and_then(Entry::expiry);
    view.push(Mutation::Set(Entry::expiring(key, value, expiry)));
}

/// Gives a key another expiry; one that is over already removes it.
fn expire(view: &mut BatchView<'_>, entry: &Entry, at: Option<i64>) {
    let over = at.is_some_and(|at| at <= view.now());
    view.push(match over {
        true => Mutation::Delete(entry.key().into()),
        false => Mutation::Set(Entry::expiring(entry.key(), entry.value(), at)),
    });
}

fn is_met(condition: ExpireCondition, now: Option<i64>, new: i64) -> bool {
    let ExpireCondition { only_new, only_existing, only_later, only_earlier } = condition;
    !(only_new && now.is_some()
        || only_existing && now.is_none()
        || only_later && now.is_none_or(|now| new <= now)
        || only_earlier && now.is_some_and(|now| new >= now))
}

fn add(view: &mut BatchView<'_>, key: &[u8], by: i64) -> Reply<'static> {
    let old = view.entry(key);
    let number = match &old {
        None => Some(0),
        Some(entry) => {
            let text = std::str::from_utf8(entry.value()).unwrap_or_default();
            text.parse::<i64>().ok().filter(|number| number.to_string() == text)
        }
    };
    let Some(number) = number else {
        return Reply::Error("ERR value is not an integer or out of range".into());
    };
    let Some(sum) = number.checked_add(by) else {
        return Reply::Error("ERR increment or decrement would overflow".into());
    };
    replace(view, key, sum.to_string().as_bytes(), old.as_deref());
    Reply::Integer(sum)
}

fn add_float(view: &mut BatchView<'_>, key: &[u8], by: &Decimal) -> Reply<'static> {
    let old = view.entry(key);
    let Some(number) =
        old.as_deref().map_or(Some(Decimal::zero()), |old| Decimal::parse(old.value()))
    else {
        return Reply::Error("ERR value is not a valid float".into());
    };
    let Some(sum) = number.plus(by) else {
        return Reply::Error("ERR increment would produce NaN or Infinity".into());
    };
    let text = sum.to_string();
    replace(view, key, text.as_bytes(), old.as_deref());
    Reply::bulk(text.as_bytes())
}

fn rename(view: &mut BatchView<'_>, from: &Key, to: &Key, only_new: bool) -> Reply<'static> {
    let Some(entry) = view.entry(from) else {
        return NO_SUCH_KEY;
    };
    if only_new && view.has(to) {
        return Reply::Integer(0);
    }
    if from != to {
        view.push(Mutation::Delete(from.clone()));
        let renamed = Entry::expiring(to, entry.value(), entry.expiry());
        view.push(Mutation::Set(renamed));
    }
    if only_new { Reply::Integer(1) } else { Reply::Ok }
}
