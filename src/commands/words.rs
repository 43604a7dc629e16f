//! What all commands need to make sense of their words: numbers, options, and the errors that Redis
//! has for what is none. Clients match the errors' texts.

use std::borrow::Cow;

use super::{Request, Session};
use crate::command::{Command, Key, Reply, integer};
use crate::glob::PATTERN_BYTES;
pub use crate::protocol::Words;

/// A request, or what is wrong with it.
pub type Outcome = Result<Request, Cow<'static, str>>;

pub const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Of an unknown command, what is shown of its name, and of its words: Redis's 128 bytes.
pub const SHOWN_BYTES: usize = 128;

pub fn shown(word: &[u8], most: usize) -> String {
    String::from_utf8_lossy(&word[..word.len().min(most)]).replace('\0', " ")
}

pub fn wrong_number(name: &str) -> Cow<'static, str> {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

pub fn unknown_subcommand(container: &[u8], name: &[u8]) -> Cow<'static, str> {
    let name = shown(name, SHOWN_BYTES);
    let container = shown(container, SHOWN_BYTES).to_uppercase();
    format!("ERR unknown subcommand '{name}'. Try {container} HELP.").into()
}

pub fn number(text: &[u8]) -> Result<i64, Cow<'static, str>> {
    integer(text).ok_or(NOT_AN_INTEGER.into())
}

/// The number of a database, of which there is one: Redis reads it as a C int.
pub fn database(text: &[u8]) -> Result<(), Cow<'static, str>> {
    let index = number(text)?;
    if i32::try_from(index).is_err() {
        let (least, most) = (i32::MIN, i32::MAX);
        let text = format!("ERR value is out of range, value must between {least} and {most}");
        return Err(text.into());
    }
    if index == 0 { Ok(()) } else { Err("ERR DB index is out of range".into()) }
}

pub fn key_list(words: &Words<'_>) -> Vec<Key> {
    words.iter().map(|word| Key::from(*word)).collect()
}

/// A pattern, if it is not too long to be held against many keys.
pub fn pattern(word: &[u8]) -> Result<&[u8], Cow<'static, str>> {
    match word.len() {
        ..=PATTERN_BYTES => Ok(word),
        _ => Err(format!("ERR pattern is too long, the limit is {PATTERN_BYTES} bytes").into()),
    }
}

pub fn is(word: &[u8], option: &str) -> bool {
    word.eq_ignore_ascii_case(option.as_bytes())
}

pub fn session_of(session: Session) -> Outcome {
    Ok(Request::Session(session))
}

pub fn command_of(command: Command) -> Outcome {
    Ok(Request::Command(command))
}

pub fn answered(reply: Reply<'static>) -> Outcome {
    command_of(Command::Answered(reply))
}
