//! `redis.call` and `redis.pcall`: a command of the running script, carried out as a part of it.
//!
//! The functions are made once, with Lua. The data that the running script works on is only borrowed, so the thread
//! keeps it in `CALLS` while a script runs: a function that is made for each run, and has the data in it, took a
//! third of the time of a short script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{BorrowedBytes, Function, Lua, MultiValue, Value};
use scoped_tls_hkt::scoped_thread_local;

use super::error::raised;
use super::memory;
use super::run::Run;
use super::values;
use crate::command::{
    Command, Packed, Parts, Reply, Run as How, SessionCommand, Spec, Words, shortest,
};
use crate::commands;

scoped_thread_local!(
    /// The commands of the script that is running on this thread.
    static mut CALLS: for<'a> &'a mut (dyn Calls + 'a)
);

/// What is called by the running script.
pub trait Calls {
    /// The reply to a command; fails only if the script has to end.
    fn carry_out(&mut self, words: &Words<'_>) -> mlua::Result<Reply<'static>>;
}

/// Has scripts call these commands while `script` runs.
pub fn with<T>(calls: &mut dyn Calls, script: impl FnOnce() -> T) -> T {
    CALLS.set(calls, script)
}

/// The commands of one run.
pub struct Caller<'a> {
    pub parts: &'a mut dyn Parts,
    pub run: &'a Run,
    pub limits: &'a super::Limits,
    pub is_read_only: bool,
    pub has_written: &'a AtomicBool,
    /// What TIME has answered: within a script time stands still.
    pub time: Option<Reply<'static>>,
}

/// What becomes of a command's error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The script fails with it, unless it catches it.
    Raise,
    /// It is what the command answers.
    Answer,
}

/// A word of a command.
enum Word {
    Lua(mlua::String),
    Number(String),
}

/// A word that is looked at.
enum Held<'a> {
    Lua(BorrowedBytes<'a>),
    Number(&'a [u8]),
}

/// `redis.call` or `redis.pcall`.
pub fn function(lua: &Lua, run: &Arc<Run>, on_error: OnError) -> mlua::Result<Function> {
    let run = run.clone();
    lua.create_function(move |lua, words: MultiValue| {
        // One command may take as long as a million instructions.
        run.go_on()?;
        let reply = match words_in(words) {
            Ok(words) => {
                let held: Vec<Held<'_>> = words.iter().map(Word::hold).collect();
                let list: Vec<&[u8]> = held.iter().map(Held::bytes).collect();
                CALLS.with(|calls| calls.carry_out(&list))?
            }
            Err(text) => Reply::Error(text.into()),
        };
        match reply {
            Reply::Error(text) if on_error == OnError::Raise => Err(raised(text.into_owned())),
            reply => {
                let is_resp2 = run.version.load(Ordering::Relaxed) == 2;
                memory::lifted(lua, reply.bytes(), || values::value(lua, &reply, is_resp2))?
            }
        }
    })
}

impl Calls for Caller<'_> {
    fn carry_out(&mut self, words: &Words<'_>) -> mlua::Result<Reply<'static>> {
        let spec = match self.allowed(words) {
            Ok(spec) => spec,
            Err(text) => return Ok(Reply::Error(text.into())),
        };
        // A message may tell of what was written before it.
        if spec.has("write") || spec.publishes() {
            self.has_written.store(true, Ordering::Relaxed);
        }
        self.parts.show(spec, words);
        let command = match spec.run {
            How::Core(make) => commands::at_moment(self.parts.now(), || make(words)),
            How::Say(say) if spec.name == "time" => {
                if self.time.is_none() {
                    self.time = say(words).ok();
                }
                Ok(Command::Answered(self.time.clone().unwrap_or(Reply::Null)))
            }
            How::Say(say) => say(words).map(Command::Answered),
            How::Read(_) | How::Walk(_) | How::Write(_) => {
                Ok(Command::Call(spec, Packed::new(words)))
            }
            How::Session(SessionCommand::Select) => {
                commands::database(words[1], self.parts.databases()).map(Command::Select)
            }
            How::Ask(_) | How::Session(_) | How::Script(_) => Err(NOT_ALLOWED.into()),
        };
        let command = command.unwrap_or_else(|text| Command::Answered(Reply::Error(text)));
        self.parts.carry_out(command, spec.id).map_err(|why| self.run.end_for(why))
    }
}

impl Caller<'_> {
    /// The command that these words name, if a script may call it.
    fn allowed(&self, words: &Words<'_>) -> Result<&'static Spec, String> {
        let spec = commands::find(words)
            .map_err(|_| "ERR Unknown Redis command called from script".to_owned())?;
        if !spec.takes(words.len()) {
            return Err("ERR Wrong number of args calling Redis command from script".into());
        }
        if spec.has("noscript") {
            return Err(NOT_ALLOWED.into());
        }
        // Redis counts a message as a write; its flag for that is not among those it shows.
        let writes = spec.has("write") || spec.has("may_replicate") || spec.publishes();
        if self.is_read_only && writes {
            return Err("ERR Write commands are not allowed from read-only scripts.".into());
        }
        if words.iter().any(|word| word.len() > self.limits.value) {
            return Err("ERR string exceeds maximum allowed size (proto-max-bulk-len)".into());
        }
        if spec.keys_among(words).any(|key| key.len() > self.limits.key) {
            let longest = self.limits.key;
            return Err(format!("ERR key is too long, the limit is {longest} bytes"));
        }
        Ok(spec)
    }
}

const NOT_ALLOWED: &str = "ERR This Redis command is not allowed from script";

/// The words of a command, numbers as Redis spells them.
fn words_in(values: MultiValue) -> Result<Vec<Word>, &'static str> {
    if values.is_empty() {
        return Err("ERR Please specify at least one argument for this redis lib call");
    }
    let word = |value| match value {
        Value::String(text) => Ok(Word::Lua(text)),
        Value::Integer(number) => Ok(Word::Number(number.to_string())),
        Value::Number(number) => Ok(Word::Number(shortest(number))),
        _ => Err("ERR Lua redis lib command arguments must be strings or integers"),
    };
    values.into_iter().map(word).collect()
}

impl Word {
    fn hold(&self) -> Held<'_> {
        match self {
            Word::Lua(text) => Held::Lua(text.as_bytes()),
            Word::Number(text) => Held::Number(text.as_bytes()),
        }
    }
}

impl Held<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Held::Lua(bytes) => bytes,
            Held::Number(text) => text,
        }
    }
}
