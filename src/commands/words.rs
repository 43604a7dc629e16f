//! Helpers of all commands for reading words and values: numbers, options, and the errors that Redis has for
//! them. Clients match the errors' texts.

use crate::command::{Answer, Edit, Key, Refusal, Reply, Text, View, Words, integer, look};
use crate::glob::PATTERN_BYTES;

/// Whether a read was answered, or why not.
pub type Put = Result<(), Refusal>;

/// The reply to a write.
pub type Written = Result<Reply<'static>, Refusal>;

pub const SYNTAX: &str = "ERR syntax error";
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// How many bytes of an unknown command's name, and of its words, an error shows: Redis's 128.
pub const SHOWN_BYTES: usize = 128;

/// The beginning of a word, for an error.
pub fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN_BYTES)]).replace('\0', " ")
}

pub fn wrong_number(name: &str) -> Text {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

pub fn number(text: &[u8]) -> Result<i64, Text> {
    integer(text).ok_or(NOT_AN_INTEGER.into())
}

/// The number of a database, if there is one with it among `databases`. Redis reads it as a C int.
pub fn database(text: &[u8], databases: u16) -> Result<u16, Text> {
    let index = number(text)?;
    if i32::try_from(index).is_err() {
        let (least, most) = (i32::MIN, i32::MAX);
        let text = format!("ERR value is out of range, value must between {least} and {most}");
        return Err(text.into());
    }
    let number = u16::try_from(index).ok().filter(|number| *number < databases);
    number.ok_or(NO_DATABASE.into())
}

pub const NO_DATABASE: &str = "ERR DB index is out of range";

pub fn key_list(words: &Words<'_>) -> Vec<Key> {
    words.iter().map(|word| Key::from(*word)).collect()
}

/// A pattern, if it is short enough to be compared with many keys.
pub fn pattern(word: &[u8]) -> Result<&[u8], Text> {
    match word.len() {
        ..=PATTERN_BYTES => Ok(word),
        _ => Err(format!("ERR pattern is too long, the limit is {PATTERN_BYTES} bytes").into()),
    }
}

/// Bytes of a value that are looked through as fast as a walk looks at an entry, or faster.
const BYTES_PER_ENTRY: usize = 4096;

/// A shorter value is nothing to ask about.
const LONG_BYTES: usize = 64 << 10;

const TOO_LONG_HERE: &str =
    "ERR a transaction may look through no more than 40 MB of values; do it outside of one";

/// Asks whether all of a value may be looked through. In a transaction, while all other writes wait, only so many
/// bytes may.
pub fn may_look_through(view: &mut dyn View, key: &[u8], answer: &mut dyn Answer) -> Put {
    let length = view.shape(key).map_or(0, |shape| shape.length);
    let outcome = match length {
        ..LONG_BYTES => Ok(()),
        _ => answer.go_on(length / BYTES_PER_ENTRY),
    };
    outcome.map_err(|why| as_limit(why, TOO_LONG_HERE))
}

/// The same refusal of a walk with a text of its own, if it is because of the transaction.
pub fn as_limit(why: Refusal, text: &'static str) -> Refusal {
    match why {
        Refusal::Unanswerable(about_keys) if about_keys.contains("a transaction") => {
            Refusal::Unanswerable(text)
        }
        other => other,
    }
}

/// The value of a key, which the command tells its client before it changes the key.
pub fn value_of(view: &mut dyn Edit, key: &[u8]) -> Reply<'static> {
    let value = look(view, key, |entry| entry.map(|entry| Reply::bulk(entry.value())));
    view.count_read(key, value.is_some());
    value.unwrap_or(Reply::Null)
}

/// The length of a value, and when it expires; a missing value counts as an empty one.
pub fn shape(view: &mut dyn Edit, key: &[u8]) -> (usize, Option<i64>) {
    view.shape(key).map_or((0, None), |shape| (shape.length, shape.expiry))
}

/// Makes a value the same as the old one.
pub fn copy_value(old: &[u8], new: &mut [u8]) {
    new.copy_from_slice(old);
}
