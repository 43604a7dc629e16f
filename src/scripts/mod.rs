//! Scripts: `EVAL` and its kin, in Lua 5.1, for which scripts of Redis are written.
//!
//! A script is one command on the commit path. What it changes is in one batch or nowhere: one that fails half-way,
//! is killed or refused has changed nothing, and no script is ever run again from the log. It reaches the data by
//! commands only; there is no file, no process and no clock but `TIME`.
//!
//! | file | purpose |
//! |------|---------|
//! | `program` | the commands, as the engine carries them out |
//! | `state` | Lua, made once, and one run in it |
//! | `prelude.lua` | the world that a script sees, which no script can change for the next one |
//! | `limits` | what the server's settings say of scripts |
//! | `memory` | the limit for their memory |
//! | `run` | what the functions of Rust know of the running script |
//! | `cache` | the scripts that are kept, by their names |
//! | `watch` | how long a script runs, and its end by others |
//! | `pace`, `hook` | how often a script is looked at |
//! | `call` | `redis.call`: words, the command, its reply |
//! | `values` | replies as values of Lua, and back |
//! | `pattern`, `strings` | Lua's patterns, with a bound for their work |
//! | `json`, `msgpack`, `structs` | values as texts, and back |
//! | `api`, `bits`, `random` | what else a script may call |

mod api;
mod bits;
mod cache;
mod call;
mod error;
mod hook;
mod json;
mod limits;
mod memory;
mod msgpack;
mod pace;
mod pattern;
mod program;
mod random;
mod run;
mod shebang;
mod state;
mod strings;
mod structs;
mod values;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::command::{Command, Packed, ScriptCommand, Text, Words, integer, is};
use crate::metrics::Metrics;
use crate::sync::Mutex;
pub use limits::Limits;
use program::{Keeping, Script, Source};
use state::State;
use watch::Watch;

/// The scripts of a server.
#[derive(Debug)]
pub struct Scripts(Arc<Shared>);

/// What the door and the running scripts share.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    metrics: Arc<Metrics>,
    watch: Arc<Watch>,
    /// Made by the first script. Only the thread on the commit path locks it, so nobody waits for it.
    state: Mutex<Option<State>>,
}

impl Scripts {
    /// None yet.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Scripts {
        let watch = Arc::new(Watch::new(limits.busy_after));
        Scripts(Arc::new(Shared { limits, metrics, watch, state: Mutex::default() }))
    }

    /// The command that a request asks for.
    pub fn command(&self, which: ScriptCommand, words: &Words<'_>) -> Result<Command, Text> {
        let shared = self.0.clone();
        let (source, is_read_only) = match which {
            ScriptCommand::Eval => (Source::Text, false),
            ScriptCommand::EvalSha => (Source::Name, false),
            ScriptCommand::EvalRo => (Source::Text, true),
            ScriptCommand::EvalShaRo => (Source::Name, true),
            ScriptCommand::Load | ScriptCommand::Exists => {
                return Ok(Command::Program(Arc::new(Keeping::new(shared, which, words))));
            }
            ScriptCommand::Flush => {
                let has_mode = |mode| is(mode, "sync") || is(mode, "async");
                if !words[2..].iter().all(|mode| has_mode(mode)) || words.len() > 3 {
                    return Err("ERR SCRIPT FLUSH only support SYNC|ASYNC option".into());
                }
                return Ok(Command::Program(Arc::new(Keeping::new(shared, which, words))));
            }
        };
        let keys = keys(words)?;
        let words = Packed::new(words);
        Ok(Command::Program(Arc::new(Script::new(shared, source, is_read_only, keys, words))))
    }

    /// Whether a script has been running for so long that clients are told.
    pub fn is_busy(&self) -> bool {
        self.0.watch.is_busy()
    }

    /// After so many milliseconds clients are told that a script runs; 0 is never.
    pub fn busy_after_millis(&self) -> u64 {
        self.0.watch.busy_after().as_millis() as u64
    }

    /// Sets that, also for a script that is running.
    pub fn set_busy_after_millis(&self, millis: u64) {
        self.0.watch.set_busy_after(millis);
    }

    /// Ends the script that is running.
    pub fn kill(&self) -> Result<(), Text> {
        self.0.watch.kill()
    }

    /// From now on no script runs for long.
    pub fn stop(&self) {
        self.0.watch.stops.store(true, Ordering::Relaxed);
    }
}

/// The number of a script's keys.
fn keys(words: &Words<'_>) -> Result<usize, Text> {
    let keys = integer(words[2]).ok_or("ERR value is not an integer or out of range")?;
    if keys > (words.len() - 3) as i64 {
        return Err("ERR Number of keys can't be greater than number of args".into());
    }
    usize::try_from(keys).map_err(|_| "ERR Number of keys can't be negative".into())
}
