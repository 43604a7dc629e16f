//! The commands about scripts, as programs that the engine carries out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Shared;
use super::cache::{name_in, name_of};
use super::state::{Request, State};
use crate::command::{Packed, Parts, Program, Refusal, Reply, ScriptCommand, Words};

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";

/// Where the script of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the request.
    Text,
    /// Among those that are kept, under the name in the request.
    Name,
}

/// EVAL, EVALSHA, and the two that only read.
pub struct Script {
    shared: Arc<Shared>,
    source: Source,
    is_read_only: bool,
    keys: usize,
    words: Packed,
    has_written: AtomicBool,
}

impl Script {
    /// A request with these words, of which so many are keys.
    pub fn new(
        shared: Arc<Shared>,
        source: Source,
        is_read_only: bool,
        keys: usize,
        words: Packed,
    ) -> Script {
        let has_written = AtomicBool::new(false);
        Script { shared, source, is_read_only, keys, words, has_written }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("source", &self.source).field("words", &self.words).finish()
    }
}

impl Program for Script {
    fn run(&self, parts: &mut dyn Parts) -> Result<Reply<'static>, Refusal> {
        let words = self.words.list();
        let name = match self.source {
            Source::Text => name_of(words[1]),
            Source::Name => name_in(words[1]).ok_or(NO_SCRIPT)?,
        };
        let mut state = self.shared.state.lock();
        let state = State::there(&mut state, &self.shared)?;
        if !state.has(&name) {
            match self.source {
                Source::Text => state.keep(name, words[1])?,
                Source::Name => return Err(NO_SCRIPT.into()),
            }
        }
        let (keys, arguments) = words[3..].split_at(self.keys);
        let request = Request {
            name,
            keys,
            arguments,
            is_read_only: self.is_read_only,
            has_written: &self.has_written,
        };
        self.has_written.store(false, Ordering::Relaxed);
        state.run(&request, parts)
    }

    fn bytes(&self) -> usize {
        size_of::<Script>() + self.words.bytes()
    }

    fn has_written(&self) -> bool {
        !self.is_read_only && self.has_written.load(Ordering::Relaxed)
    }
}

/// SCRIPT LOAD, EXISTS and FLUSH. They take their place among a client's other commands, so that what is sent
/// together is done in order.
pub struct Keeping {
    shared: Arc<Shared>,
    which: ScriptCommand,
    words: Packed,
}

impl Keeping {
    /// A request with these words.
    pub fn new(shared: Arc<Shared>, which: ScriptCommand, words: &Words<'_>) -> Keeping {
        Keeping { shared, which, words: Packed::new(words) }
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keeping").field(&self.which).finish()
    }
}

impl Program for Keeping {
    fn run(&self, _: &mut dyn Parts) -> Result<Reply<'static>, Refusal> {
        let words = self.words.list();
        let mut state = self.shared.state.lock();
        match self.which {
            ScriptCommand::Flush => {
                if let Some(state) = state.take() {
                    state.forget();
                }
                Ok(Reply::Ok)
            }
            ScriptCommand::Exists => {
                let is_kept = |word: &&[u8]| {
                    let name = name_in(word);
                    state.as_ref().zip(name).is_some_and(|(state, name)| state.has(&name))
                };
                let found = words[2..].iter().map(is_kept);
                Ok(Reply::Array(found.map(|is| Reply::Integer(is.into())).collect()))
            }
            ScriptCommand::Load => {
                let name = name_of(words[2]);
                State::there(&mut state, &self.shared)?.stay(name, words[2])?;
                Ok(Reply::bulk(&name))
            }
            ScriptCommand::Eval
            | ScriptCommand::EvalSha
            | ScriptCommand::EvalRo
            | ScriptCommand::EvalShaRo => {
                unreachable!("these are scripts to run")
            }
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Keeping>() + self.words.bytes()
    }

    fn has_written(&self) -> bool {
        false
    }
}
