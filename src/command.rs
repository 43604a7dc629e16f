//! What a client can ask, what can change, and what is answered: the words that all layers share.
//!
//! Only a [`Mutation`] can reach the log and the store, and only the committer makes one, so a
//! read cannot be logged and a change cannot go round the log. Times are absolute here: a protocol
//! has turned "in ten seconds" into a point in time.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::decimal::Decimal;
use crate::entry::{Entry, Parts, now_millis};

/// A key, where it does not come with its value.
pub type Key = Box<[u8]>;

/// To look up so many takes some hundred microseconds at most.
const FEW_KEYS: usize = 1000;

/// Under which name a command came: its place in the protocol's table. Of interest to the counters
/// only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandId(pub usize);

/// What a client asks of the data.
#[derive(Clone, Debug)]
pub enum Command {
    /// The value of a key.
    Get(Key),
    /// The values of several keys, at one moment.
    GetAll(Vec<Key>),
    /// How many of these keys there are.
    Exists(Vec<Key>),
    /// The length of a value.
    Length(Key),
    /// A part of a value; negative places count from its end.
    GetRange(Key, i64, i64),
    /// When a key expires.
    Expiry(Key, ExpiryForm),
    /// What kind of value a key has.
    Type(Key),
    /// How Redis would keep a value.
    Encoding(Key),
    /// The memory that a key takes up.
    MemoryUsage(Key),
    /// All keys that fit a pattern.
    Keys(Box<[u8]>),
    /// A step of a walk through all keys.
    Scan {
        /// Where to go on.
        cursor: u64,
        /// How many keys to look at, about.
        count: usize,
        /// Which keys to show.
        pattern: Option<Box<[u8]>>,
        /// Whether any can be shown: all values here are strings.
        of_strings: bool,
    },
    /// The number of keys.
    Count,
    /// Any key.
    RandomKey,

    /// Sets a key to a value.
    Set(Box<Entry>, SetOptions),
    /// Sets several keys, all or none; with `true` only if none of them is there.
    SetAll(Vec<Box<Entry>>, bool),
    /// Removes keys.
    Del(Vec<Key>),
    /// Removes a key and answers its value.
    GetDel(Key),
    /// Answers a value and changes when it expires.
    GetEx(Key, Option<NewExpiry>),
    /// Appends to a value; no value is an empty one.
    Append(Key, Box<[u8]>),
    /// Overwrites a part of a value.
    SetRange(Key, usize, Box<[u8]>),
    /// Adds to a value that is a whole number.
    Add(Key, i64),
    /// Adds to a value that is a number.
    AddFloat(Key, Decimal),
    /// Gives a value another key; with `true` only if that is free.
    Rename(Key, Key, bool),
    /// Copies a value to another key; with `true` also if that is not free.
    Copy(Key, Key, bool),
    /// Sets when a key expires, under a condition.
    Expire(Key, i64, ExpireCondition),
    /// Keeps a key from expiring.
    Persist(Key),
    /// Removes every key.
    Clear,
    /// Removes those of these keys that have expired; nobody asks for it but the server itself.
    Reclaim(Vec<Key>),
    /// Several commands at one moment, unless a watched key has changed.
    Transaction(Vec<Command>, Option<Arc<Watcher>>),
    /// Begins to watch keys, each of which is there once.
    Watch(Vec<Key>, Arc<Watcher>),
    /// Ends all watching of a connection, and is answered with this.
    Unwatch(Arc<Watcher>, Reply<'static>),
    /// The same for a connection that has ended: nobody waits for an answer.
    Leave(Arc<Watcher>),

    /// Something that is answered already, and only takes its place among the other replies.
    Answered(Reply<'static>),
}

/// A connection that may watch keys, and what it watches at the moment.
#[derive(Debug)]
pub struct Watcher {
    /// The connection's number.
    pub id: u64,
    left: AtomicBool,
    changed: AtomicBool,
    keys: AtomicUsize,
    bytes: AtomicUsize,
}

impl Watcher {
    /// One that watches nothing.
    pub fn new(id: u64) -> Watcher {
        let (left, changed) = (false.into(), false.into());
        Watcher { id, left, changed, keys: 0.into(), bytes: 0.into() }
    }

    /// The connection has ended: from now on it begins to watch nothing.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether the connection has ended.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// The committing thread says how many keys it watches now, and what they take up in memory.
    pub fn watches(&self, keys: usize, bytes: usize) {
        self.keys.store(keys, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The committing thread says whether one of them has changed.
    pub fn note_changed(&self, changed: bool) {
        self.changed.store(changed, Ordering::Relaxed);
    }

    /// Whether one of them has changed.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// How many keys it watches.
    pub fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// What they take up in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// How SET sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// When to set at all.
    pub condition: SetCondition,
    /// Keep the expiry that the key has.
    pub keep_expiry: bool,
    /// What to answer.
    pub answer: SetAnswer,
}

/// When SET sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// In any case.
    #[default]
    Always,
    /// Only a key that is not there.
    New,
    /// Only one that is.
    Existing,
}

/// What SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetAnswer {
    /// OK, or null where the condition was not met.
    #[default]
    Ok,
    /// The value before, or null.
    OldValue,
    /// 1 or 0.
    Number,
}

/// How an expiry is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryForm {
    /// As a point in time, not as time left.
    pub absolute: bool,
    /// In milliseconds, not in seconds.
    pub millis: bool,
}

/// What GETEX does to an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewExpiry {
    /// Milliseconds of Unix time.
    At(i64),
    /// None any more.
    Never,
}

/// When EXPIRE sets an expiry. GT and LT take no expiry for an infinite one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireCondition {
    /// Only a key without one.
    pub only_new: bool,
    /// Only a key that has one.
    pub only_existing: bool,
    /// Only a later one.
    pub only_later: bool,
    /// Only an earlier one.
    pub only_earlier: bool,
}

impl Command {
    /// Whether it may change something, or has to be seen by the one thread that does, and so has
    /// to go through the queue.
    pub fn is_write(&self) -> bool {
        match self {
            Command::Get(_)
            | Command::GetAll(_)
            | Command::Exists(_)
            | Command::Length(_)
            | Command::GetRange(..)
            | Command::Expiry(..)
            | Command::Type(_)
            | Command::Encoding(_)
            | Command::MemoryUsage(_)
            | Command::Keys(_)
            | Command::Scan { .. }
            | Command::Count
            | Command::RandomKey
            | Command::Answered(_) => false,
            Command::Set(..)
            | Command::SetAll(..)
            | Command::Del(_)
            | Command::GetDel(_)
            | Command::GetEx(..)
            | Command::Append(..)
            | Command::SetRange(..)
            | Command::Add(..)
            | Command::AddFloat(..)
            | Command::Rename(..)
            | Command::Copy(..)
            | Command::Expire(..)
            | Command::Persist(_)
            | Command::Clear
            | Command::Reclaim(_)
            | Command::Transaction(..)
            | Command::Watch(..)
            | Command::Unwatch(..)
            | Command::Leave(_) => true,
        }
    }

    /// Whether it may leave more in the store than there was: what Redis calls `denyoom`.
    pub fn may_grow(&self) -> bool {
        match self {
            Command::Set(..)
            | Command::SetAll(..)
            | Command::Append(..)
            | Command::SetRange(..)
            | Command::Add(..)
            | Command::AddFloat(..)
            | Command::Copy(..) => true,
            // Redis lets it go on; here keys may be long.
            Command::Rename(from, to, _) => to.len() > from.len(),
            Command::Transaction(commands, _) => commands.iter().any(Command::may_grow),
            _ => false,
        }
    }

    /// Whether it is a read that may take long: it is kept away from the commit path.
    pub fn is_long_read(&self) -> bool {
        match self {
            Command::Keys(_) | Command::Scan { .. } | Command::RandomKey => true,
            Command::GetAll(keys) | Command::Exists(keys) => keys.len() > FEW_KEYS,
            _ => false,
        }
    }

    /// Whether all that it writes to the log says that keys are gone: what may use the last room of a disk.
    /// (A new expiry is not that: its record has the whole value.)
    pub fn only_removes(&self) -> bool {
        match self {
            Command::Del(_) | Command::GetDel(_) | Command::Clear | Command::Reclaim(_) => true,
            // With a time that is over.
            Command::Expire(_, at, _) | Command::GetEx(_, Some(NewExpiry::At(at))) => {
                *at <= now_millis()
            }
            Command::Transaction(commands, _) => commands.iter().all(Command::only_removes),
            other => !other.needs_log(),
        }
    }

    /// The key that a GET asks for: its reply may name it.
    pub fn key(&self) -> &[u8] {
        match self {
            Command::Get(key) => key,
            _ => &[],
        }
    }

    /// Whether nothing is left to do but to answer.
    pub fn is_answered(&self) -> bool {
        matches!(self, Command::Answered(_))
    }

    /// Whether it cannot be carried out without the log.
    pub fn needs_log(&self) -> bool {
        match self {
            Command::Watch(..) | Command::Unwatch(..) | Command::Leave(_) => false,
            Command::Transaction(commands, _) => commands.iter().any(Command::needs_log),
            other => other.is_write(),
        }
    }

    /// Roughly what it takes up in memory.
    pub fn bytes(&self) -> usize {
        let keys = |keys: &[Key]| keys.iter().map(|key| key.len() + size_of::<Key>()).sum();
        size_of::<Command>()
            + match self {
                Command::Set(entry, _) => entry.bytes(),
                Command::SetAll(entries, _) => entries.iter().map(|entry| entry.bytes()).sum(),
                Command::GetAll(list)
                | Command::Exists(list)
                | Command::Del(list)
                | Command::Reclaim(list)
                | Command::Watch(list, _) => keys(list),
                Command::Append(key, value) | Command::SetRange(key, _, value) => {
                    key.len() + value.len()
                }
                Command::Rename(from, to, _) | Command::Copy(from, to, _) => from.len() + to.len(),
                Command::Get(key)
                | Command::Length(key)
                | Command::GetRange(key, ..)
                | Command::Expiry(key, _)
                | Command::Type(key)
                | Command::Encoding(key)
                | Command::MemoryUsage(key)
                | Command::GetDel(key)
                | Command::GetEx(key, _)
                | Command::Add(key, _)
                | Command::Expire(key, ..)
                | Command::Persist(key) => key.len(),
                Command::AddFloat(key, by) => key.len() + by.bytes(),
                Command::Keys(pattern) => pattern.len(),
                Command::Scan { pattern, .. } => pattern.as_ref().map_or(0, |p| p.len()),
                Command::Transaction(commands, _) => commands.iter().map(Command::bytes).sum(),
                Command::Answered(reply) | Command::Unwatch(_, reply) => reply.bytes(),
                Command::Count | Command::RandomKey | Command::Clear | Command::Leave(_) => 0,
            }
    }
}

/// A whole number as Redis reads one: no sign but a minus, no leading zeros, no spaces.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// A change, in absolute terms: what is so afterwards, whatever was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// This key has this value.
    Set(Box<Entry>),
    /// This key is not there.
    Delete(Key),
    /// No key is there.
    Clear,
}

/// A change as it stands in a log: the same, but nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key has this value.
    Set(Parts<'a>),
    /// This key is not there.
    Delete(&'a [u8]),
    /// No key is there.
    Clear,
}

impl<'a> Change<'a> {
    /// A copy to keep.
    pub fn to_mutation(self) -> Mutation {
        match self {
            Change::Set(parts) => Mutation::Set(parts.to_entry()),
            Change::Delete(key) => Mutation::Delete(key.into()),
            Change::Clear => Mutation::Clear,
        }
    }

    /// The key that it is about; none for [`Change::Clear`], which is about all.
    pub fn key(self) -> &'a [u8] {
        match self {
            Change::Set(parts) => parts.key,
            Change::Delete(key) => key,
            Change::Clear => &[],
        }
    }
}

impl Mutation {
    /// The key that it is about; none for [`Mutation::Clear`], which is about all.
    pub fn key(&self) -> &[u8] {
        match self {
            Mutation::Set(entry) => entry.key(),
            Mutation::Delete(key) => key,
            Mutation::Clear => &[],
        }
    }
}

/// An answer, before a protocol spells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// It was done, and is on disk.
    Ok,
    /// There is no such thing.
    Null,
    /// There is no such array: what EXEC answers when a watched key has changed.
    NullArray,
    /// A word of the protocol.
    Simple(&'static str),
    /// A number.
    Integer(i64),
    /// A value.
    Bulk(Cow<'a, [u8]>),
    /// Lines of text for people, which RESP3 tells from a value.
    Verbatim(Cow<'a, [u8]>),
    /// A list.
    Array(Vec<Reply<'a>>),
    /// Names and values; the list has both in turn.
    Map(Vec<Reply<'a>>),
    /// It was not done; the text says why, and begins with an error code.
    Error(Cow<'a, str>),
    /// It was not done, because the log takes no more writes, for this reason.
    NotDurable(Arc<str>),
}

impl Reply<'_> {
    /// A value.
    pub fn bulk(bytes: &[u8]) -> Reply<'static> {
        Reply::Bulk(bytes.to_vec().into())
    }

    /// Lines of text.
    pub fn text(text: String) -> Reply<'static> {
        Reply::Verbatim(text.into_bytes().into())
    }

    /// A copy that borrows nothing.
    pub fn to_owned_reply(&self) -> Reply<'static> {
        let all = |items: &[Reply<'_>]| items.iter().map(Reply::to_owned_reply).collect();
        match self {
            Reply::Ok => Reply::Ok,
            Reply::Null => Reply::Null,
            Reply::NullArray => Reply::NullArray,
            Reply::Simple(word) => Reply::Simple(word),
            Reply::Integer(number) => Reply::Integer(*number),
            Reply::Bulk(bytes) => Reply::bulk(bytes),
            Reply::Verbatim(bytes) => Reply::Verbatim(bytes.to_vec().into()),
            Reply::Array(items) => Reply::Array(all(items)),
            Reply::Map(items) => Reply::Map(all(items)),
            Reply::Error(text) => Reply::Error(text.clone().into_owned().into()),
            Reply::NotDurable(reason) => Reply::NotDurable(reason.clone()),
        }
    }

    /// Roughly what it takes up beside the enum itself.
    pub fn bytes(&self) -> usize {
        match self {
            Reply::Bulk(bytes) | Reply::Verbatim(bytes) => bytes.len(),
            Reply::Array(items) | Reply::Map(items) => {
                items.iter().map(|item| size_of::<Reply<'_>>() + item.bytes()).sum()
            }
            Reply::Error(text) => text.len(),
            _ => 0,
        }
    }
}

/// How a client spelled a command and wants the reply spelled. Of interest to the protocols only;
/// the others carry it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A line typed by a person or a script; the reply ends as it did.
    Text(LineEnd),
    /// The Redis serialization protocol.
    Resp(RespVersion),
}

/// What ended a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`, as `nc` sends it.
    Lf,
    /// `\r\n`, as telnet and network protocols have it.
    CrLf,
}

/// Which words of the Redis protocol the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RespVersion {
    /// The one that all clients begin with.
    #[default]
    V2,
    /// The one that HELLO 3 asks for.
    V3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(integer(text.as_bytes()), number, "{text:?}");
        }
    }
}
