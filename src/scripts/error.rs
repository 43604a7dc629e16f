//! Errors on their way through Lua.
//!
//! A mistake that a script may catch is raised from Rust with the place in the script, as Lua's own functions do it.
//! An error of a command is [`Raised`], which a script sees as a table with a field `err`. A script that has to end
//! gets [`Ended`], which it cannot catch.

use std::fmt;

use mlua::{Error, Lua};

/// How far up the stack a place in the script is looked for: the functions of the prelude call each other a few deep.
const LEVELS: usize = 8;

/// The name of a script among the chunks of Lua, as Redis has it in errors.
pub const CHUNK: &str = "@user_script";

/// The name of the prelude.
pub const PRELUDE: &str = "=prelude";

/// The error of a command, beginning with its code.
#[derive(Clone, Debug)]
pub struct Raised(pub String);

/// The script has to end; the run knows why.
#[derive(Clone, Copy, Debug)]
pub struct Ended;

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the script has to end")
    }
}

impl std::error::Error for Raised {}

impl std::error::Error for Ended {}

/// The error of a command.
pub fn raised(text: impl Into<String>) -> Error {
    Error::external(Raised(text.into()))
}

/// A mistake of the script, with its place if the script itself has called the function.
pub fn mistake(lua: &Lua, text: impl fmt::Display) -> Error {
    match line(lua, Through::Prelude) {
        Some(line) => Error::RuntimeError(format!("user_script:{line}: {text}")),
        None => Error::RuntimeError(nameless(text.to_string())),
    }
}

/// A function that the script has not called itself, but had called by `pcall`, does not know its own name.
fn nameless(text: String) -> String {
    let parts = text.strip_prefix("bad argument #").and_then(|rest| rest.split_once(" to '"));
    match parts.and_then(|(place, rest)| Some((place, rest.split_once("' (")?.1))) {
        Some((place, why)) => format!("bad argument #{place} to '?' ({why}"),
        None => text,
    }
}

/// Through which functions the script is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Those of the prelude.
    Prelude,
    /// All.
    All,
}

/// The line of the script that is being carried out.
pub fn line(lua: &Lua, through: Through) -> Option<usize> {
    for level in 1..=LEVELS {
        let found = lua.inspect_stack(level, |frame| match frame.source().source {
            Some(source) if source == CHUNK => Some(frame.current_line()),
            Some(source) if source == PRELUDE || through == Through::All => None,
            _ => Some(None),
        });
        match found {
            Some(None) => {}
            Some(Some(line)) => return line,
            None => return None,
        }
    }
    None
}

/// The error at the root of one that has passed through several callbacks.
pub fn root(error: &Error) -> &Error {
    match error {
        Error::CallbackError { cause, .. } => root(cause),
        Error::WithContext { cause, .. } => root(cause),
        other => other,
    }
}

/// The text of an error as Lua's own functions would word it.
pub fn text(error: &Error) -> String {
    match error {
        Error::RuntimeError(text) | Error::SyntaxError { message: text, .. } => text.clone(),
        Error::MemoryError(_) => "not enough memory".to_owned(),
        Error::StackError => "stack overflow".to_owned(),
        other => other.to_string(),
    }
}
