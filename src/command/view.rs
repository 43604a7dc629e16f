//! The data as a command sees and changes it, and the place for its reply.

use std::borrow::Cow;

use super::change::{Key, Mutation};
use super::news::Scope;
use super::reply::Reply;
use crate::entry::Entry;

/// The text of an error, which begins with its code.
pub type Text = Cow<'static, str>;

/// The error instead of a reply that would be too long.
pub const TOO_LONG: &str = "ERR the reply is longer than -maxreply allows";

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its words make no sense, or the value does not fit. A transaction goes on with its next command.
    Error(Text),
    /// The store would take up more memory than it may.
    NoMemory,
    /// A transaction makes too many bytes of values out of existing ones.
    TooMuch,
    /// The log has no room for what it adds.
    NoRoom,
    /// There is no room for its reply, or it looks through too much; with the text of the error.
    Unanswerable(&'static str),
}

impl From<&'static str> for Refusal {
    fn from(text: &'static str) -> Refusal {
        Refusal::Error(text.into())
    }
}

impl From<Text> for Refusal {
    fn from(text: Text) -> Refusal {
        Refusal::Error(text)
    }
}

impl Refusal {
    /// The text of the error that is answered.
    pub fn text(self) -> Text {
        match self {
            Refusal::Error(text) => text,
            Refusal::NoMemory => "OOM command not allowed when used memory > 'maxmemory'.".into(),
            Refusal::TooMuch => "its commands make too much out of what is there.".into(),
            Refusal::NoRoom => "MISCONF there is no room for it in the log".into(),
            Refusal::Unanswerable(text) => text.into(),
        }
    }
}

/// The length and the expiry of an entry: most commands need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The length of the value.
    pub length: usize,
    /// When it expires, in milliseconds of Unix time.
    pub expiry: Option<i64>,
}

impl Shape {
    /// Of an entry.
    pub fn of(entry: &Entry) -> Shape {
        Shape { length: entry.value().len(), expiry: entry.expiry() }
    }

    /// Whether the key has expired at a time in milliseconds.
    pub fn is_expired(&self, now: i64) -> bool {
        self.expiry.is_some_and(|at| at <= now)
    }

    /// Bytes of an entry with a key of this length.
    pub fn bytes_with(&self, key: usize) -> usize {
        Entry::bytes_with(key, self.length, self.expiry.is_some())
    }
}

/// A state of the data at one point in time. A key that has expired is not there.
pub trait View {
    /// Milliseconds of Unix time.
    fn now(&self) -> i64;
    /// Shows the entry of a key.
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>));
    /// Shows the entries of several keys, as they are at one moment.
    fn get_all(&mut self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>));
    /// Tells the length and the expiry of a value, which may cost less than to show it: a batch makes a value that it
    /// has changed in place only if it is to be shown.
    fn shape(&mut self, key: &[u8]) -> Option<Shape> {
        look(self, key, |entry| entry.map(Shape::of))
    }
    /// The same of several keys, as they are at one moment.
    fn shapes(&mut self, keys: &[&[u8]], tell: &mut dyn FnMut(Option<Shape>)) {
        self.get_all(keys, &mut |entry| tell(entry.map(Shape::of)));
    }
    /// Shows the bytes of a value from one place to before another, as far as it reaches; none if the key is missing.
    /// That may cost less than to show all of it, as for [`View::shape`].
    fn part(
        &mut self,
        key: &[u8],
        (from, to): (usize, usize),
        show: &mut dyn FnMut(Option<&[u8]>),
    ) {
        self.get(key, &mut |entry| {
            show(entry.map(|entry| {
                let value = entry.value();
                &value[from.min(value.len())..to.min(value.len())]
            }));
        });
    }
    /// How many databases there are.
    fn databases(&self) -> u16;
    /// The number of the database that everything below is about.
    fn database(&self) -> u16;
    /// From now on everything is about the database with this number, which is less than
    /// [`View::databases`].
    fn select(&mut self, number: u16);
    /// Number of keys.
    fn count(&mut self) -> usize;
    /// A step of a walk through all entries, with at least `count` of them, or all of a stretch in which
    /// there are few. Returns the cursor for the next step. A walk begins with 0, and ends when it gets 0.
    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64;
    /// The upper bound of cursors, exclusive.
    fn cursors(&self) -> u64;
    /// Counts a read of a key as a hit or a miss, and tells of a miss.
    fn count_read(&mut self, key: &[u8], found: bool);
    /// Counts reads of several keys, and tells of the misses.
    fn count_reads(&mut self, keys: &[&[u8]], found: &[bool]) {
        keys.iter().zip(found).for_each(|(key, found)| self.count_read(key, *found));
    }
    /// Counts such a read and tells nobody, as Redis does for OBJECT.
    fn count_quietly(&mut self, found: bool);
    /// Has other clients hear a message, and returns how many do. After a write of its connection, in a
    /// transaction or a script it leaves only once that is durable, and not at all if that is refused.
    fn publish(&mut self, scope: Scope, channel: &[u8], message: &[u8]) -> Result<i64, Refusal>;

    /// Whether a key is there.
    fn has(&mut self, key: &[u8]) -> bool {
        self.shape(key).is_some()
    }
}

/// Returns what `look` makes of the entry of a key.
pub fn look<T, V: View + ?Sized>(
    view: &mut V,
    key: &[u8],
    look: impl FnOnce(Option<&Entry>) -> T,
) -> T {
    let (mut look, mut seen) = (Some(look), None);
    view.get(key, &mut |entry| seen = look.take().map(|look| look(entry)));
    seen.expect("an entry is shown once, or that there is none")
}

/// The data as it will be, for a command that changes something.
pub trait Edit: View {
    /// Adds a change, unless that would take up too much.
    fn push(&mut self, mutation: Mutation) -> Result<(), Refusal>;

    /// Has the value of a key that is there these bytes at a place that is not beyond its end: only they are logged, if
    /// the value is long. Refused if the value would take up too much.
    fn patch(&mut self, key: &[u8], offset: usize, bytes: &[u8]) -> Result<(), Refusal>;

    /// Has a key that is there expire at another time, or not at all; no value is logged, if it is long.
    fn expire(&mut self, key: &[u8], at: Option<i64>) -> Result<(), Refusal>;

    /// Sets `to` to a value made out of that of `from`. `fill` gets the old value, and the new one as `length`
    /// zero bytes. Nothing is made that would take up too much.
    fn derive(
        &mut self,
        from_to: (&[u8], &[u8]),
        length: usize,
        expiry: Option<i64>,
        fill: &dyn Fn(&[u8], &mut [u8]),
    ) -> Result<(), Refusal>;

    /// Makes the entry that [`Edit::derive`] would add, without adding it.
    fn make(
        &mut self,
        from_to: (&[u8], &[u8]),
        length: usize,
        expiry: Option<i64>,
        fill: &dyn Fn(&[u8], &mut [u8]),
    ) -> Result<Box<Entry>, Refusal>;

    /// Announces a value of this length for a key: refused if that would take up too much.
    fn announce(&mut self, key: &[u8], length: usize, expiry: Option<i64>) -> Result<(), Refusal>;

    /// Announces that so many bytes of values are made or looked through: refused if a transaction does that with
    /// too many.
    fn look_through(&mut self, bytes: usize) -> Result<(), Refusal>;

    /// The longest value.
    fn max_value(&self) -> usize;

    /// Announces changes that may leave more in the store than before: refused if that is full.
    fn grow(&mut self) -> Result<(), Refusal>;

    /// Removes every key of every database.
    fn clear_all(&mut self) -> Result<(), Refusal>;

    /// The databases with these numbers exchange their keys.
    fn swap(&mut self, one: u16, other: u16) -> Result<(), Refusal>;

    /// Removes a key, and returns whether it was there.
    fn remove(&mut self, key: &[u8]) -> Result<bool, Refusal> {
        let is_there = self.has(key);
        if is_there {
            self.push(Mutation::Delete(Key::from(key)))?;
        }
        Ok(is_there)
    }
}

/// Takes the reply to a read, piece by piece, so that a reply that would be too long is refused before it
/// is formed.
pub trait Answer {
    /// Takes the reply, or its next item if it is a list.
    fn put(&mut self, reply: &Reply<'_>) -> Result<(), Refusal>;

    /// Checks that there is room for a reply of about this many bytes, before it is made.
    fn expect(&mut self, bytes: usize) -> Result<(), Refusal>;

    /// Makes the reply a list of the pieces that were put.
    fn wrap(&mut self);

    /// Whether a walk that has looked at this many more entries may go on. Called without any lock.
    fn go_on(&mut self, looked_at: usize) -> Result<(), Refusal>;
}
