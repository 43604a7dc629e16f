//! What the functions of Rust know of the run that they are called in, and whether it may go on.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::error::Ended;
use super::json;
use super::pace;
use super::random::Random;
use super::watch::Watch;
use crate::command::Refusal;
use crate::sync::Mutex;

/// Work on this many bytes takes longer than a look at the clock.
const MANY_BYTES: usize = 64 << 10;

/// See the head of this file.
#[derive(Debug)]
pub struct Run {
    pub watch: Arc<Watch>,
    /// Why the script has to end, once that is so.
    pub end: Mutex<Option<Refusal>>,
    /// The version of RESP in which the script sees replies.
    pub version: AtomicU8,
    pub random: Mutex<Random>,
    /// What the script has set for JSON.
    pub json: json::Held,
    /// How often Lua asks whether it may go on.
    pub pace: pace::State,
}

impl Run {
    /// Fails if the script has to end. For whatever may take long, and for whatever catches errors.
    pub fn go_on(&self) -> mlua::Result<()> {
        let mut end = self.end.lock();
        if end.is_none() {
            *end = self.watch.look().map(|why| Refusal::Error(why.text().into()));
        }
        if end.is_some() { Err(mlua::Error::external(Ended)) } else { Ok(()) }
    }

    /// The same, for work on so many bytes at once.
    pub fn go_on_after(&self, bytes: usize) -> mlua::Result<()> {
        if bytes > MANY_BYTES { self.go_on() } else { Ok(()) }
    }

    /// Has the script end for this reason.
    pub fn end_for(&self, why: Refusal) -> mlua::Error {
        *self.end.lock() = Some(why);
        mlua::Error::external(Ended)
    }
}
