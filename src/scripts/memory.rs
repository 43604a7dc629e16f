//! The limit for what scripts take up in Lua, and where it is lifted.
//!
//! While there is a limit, Lua's library makes every string and every table in a protected call of its own, since each
//! may be the one that has no room: that took most of the time of a short script. So the limit holds while the script
//! itself runs and is lifted while this side hands it something short, of at most [`SHORT`] bytes. It holds again before
//! the script goes on, and is not lifted close to its end: a script that only puts replies into a table with room for
//! them makes nothing itself, and would never meet the limit.

use mlua::{IntoLua, Lua, Value};

use super::cache::KEPT_BYTES;

/// The most memory that a script may take up in Lua: as much as a reply may by default. (Redis has no limit.) What
/// the kept scripts take up comes on top of it.
pub const SCRIPT_BYTES: usize = 256 << 20;

/// What is made without a limit: more than the keys and arguments of nearly every script have, and no more than a
/// thousandth of the limit.
pub const SHORT: usize = 64 << 10;

/// Closer to its end than this the limit is not lifted: what is made of [`SHORT`] bytes takes up several times that in
/// Lua if it is a list of short strings.
const RESERVE: usize = 16 * SHORT;

/// Up to this many words are handed over as arguments of a function, for which Lua's stack always has room.
pub const FEW_WORDS: usize = 200;

/// Has the limit hold.
pub fn hold(lua: &Lua) -> mlua::Result<()> {
    lua.set_memory_limit(SCRIPT_BYTES + KEPT_BYTES).map(|_| ())
}

/// Lifts it, if only so many bytes are to be made and most of it is free.
pub fn lift(lua: &Lua, bytes: usize) -> mlua::Result<()> {
    let is_far = lua.used_memory() < SCRIPT_BYTES + KEPT_BYTES - RESERVE;
    if bytes <= SHORT && is_far { lua.set_memory_limit(0).map(|_| ()) } else { Ok(()) }
}

/// Makes something of so many bytes without the limit, if that is short.
pub fn lifted<T>(lua: &Lua, bytes: usize, make: impl FnOnce() -> T) -> mlua::Result<T> {
    lift(lua, bytes)?;
    let made = make();
    hold(lua).map(|()| made)
}

/// The last of the values that are handed to a script, which sees `nil`: from here on the limit holds.
#[derive(Clone, Copy, Debug)]
pub struct Hold;

impl IntoLua for Hold {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        hold(lua).map(|()| Value::Nil)
    }
}
