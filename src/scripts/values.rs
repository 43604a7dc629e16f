//! Replies as values of Lua, and values of Lua as replies: Redis's conversions.
//!
//! | reply | Lua, RESP2 | Lua, after `redis.setresp(3)` |
//! |-------|------------|-------------------------------|
//! | integer, bulk string | number, string | the same |
//! | status, error | a table with `ok`, with `err` | the same |
//! | null | `false` | `nil` |
//! | list | a table | the same |
//! | map, set | a table of all, one after the other | a table with `map`, with `set` |
//! | double, truth value, big number, text | string, 1 or 0, string, string | `double`, a truth value, `big_number`, `verbatim_string` |
//!
//! On the way back a number loses its fraction, `false` and `nil` are null, and a list ends at its first `nil`. What
//! comes back is measured before it is copied.

use mlua::{Lua, Table, Value};

use super::run::Run;
use crate::command::{Refusal, Reply, TOO_LONG, shortest};

/// How deep a reply may be nested: it is spelled by a function that calls itself. (Redis allows some thousand.)
const DEPTH: usize = 128;

/// Bytes that an item takes up beside its own.
const ITEM_BYTES: usize = size_of::<Reply<'_>>();

/// A reply as a script sees it.
pub fn value(lua: &Lua, reply: &Reply<'_>, is_resp2: bool) -> mlua::Result<Value> {
    let string = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
    let field = |name: &str, value: Value| {
        let table = lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Ok => field("ok", string(b"OK")?),
        Reply::Simple(word) => field("ok", string(word.as_bytes())?),
        Reply::Status(word) => field("ok", string(word)?),
        Reply::Error(text) => field("err", string(text.as_bytes())?),
        Reply::NotDurable(why) => field("err", string(why.as_bytes())?),
        Reply::Integer(number) => Ok(Value::Number(*number as f64)),
        Reply::Bulk(bytes) => string(bytes),
        Reply::Null | Reply::NullArray if is_resp2 => Ok(Value::Boolean(false)),
        Reply::Null | Reply::NullArray => Ok(Value::Nil),
        Reply::Array(items) => list(lua, items, is_resp2),
        Reply::Map(items) | Reply::Set(items) if is_resp2 => list(lua, items, is_resp2),
        Reply::Map(items) => {
            let table = lua.create_table()?;
            for pair in items.chunks_exact(2) {
                let key = value(lua, &pair[0], is_resp2)?;
                if !key.is_nil() {
                    table.raw_set(key, value(lua, &pair[1], is_resp2)?)?;
                }
            }
            field("map", Value::Table(table))
        }
        Reply::Set(items) => {
            let table = lua.create_table()?;
            for item in items {
                let key = value(lua, item, is_resp2)?;
                if !key.is_nil() {
                    table.raw_set(key, true)?;
                }
            }
            field("set", Value::Table(table))
        }
        Reply::Double(number) if is_resp2 => string(shortest(*number).as_bytes()),
        Reply::Double(number) => field("double", Value::Number(*number)),
        Reply::Boolean(is) if is_resp2 => Ok(Value::Number(f64::from(u8::from(*is)))),
        Reply::Boolean(is) => Ok(Value::Boolean(*is)),
        Reply::BigNumber(digits) if is_resp2 => string(digits),
        Reply::BigNumber(digits) => field("big_number", string(digits)?),
        Reply::Verbatim(text) | Reply::Marked(_, text) if is_resp2 => string(text),
        Reply::Verbatim(text) => field("verbatim_string", marked(lua, *b"txt", text)?),
        Reply::Marked(kind, text) => field("verbatim_string", marked(lua, *kind, text)?),
    }
}

fn list(lua: &Lua, items: &[Reply<'_>], is_resp2: bool) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(items.len(), 0)?;
    for (place, item) in items.iter().enumerate() {
        table.raw_set(place + 1, value(lua, item, is_resp2)?)?;
    }
    Ok(Value::Table(table))
}

fn marked(lua: &Lua, kind: [u8; 3], text: &[u8]) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("format", lua.create_string(kind)?)?;
    table.raw_set("string", lua.create_string(text)?)?;
    Ok(Value::Table(table))
}

/// What a script has returned, as its reply. `is_resp2` is the version that the script has chosen.
pub fn reply(
    run: &Run,
    value: &Value,
    is_resp2: bool,
    most: usize,
) -> Result<Reply<'static>, Refusal> {
    Made { run, is_resp2, left: most, items: 0 }.reply(value, 0)
}

/// A reply that is being made, of which so many bytes are left.
struct Made<'a> {
    run: &'a Run,
    is_resp2: bool,
    left: usize,
    items: usize,
}

/// Items for which a list has room at first: a pair, and what the list itself takes up.
const FIRST_ITEMS: usize = 3;

/// Items between two questions whether to go on: a table that is in itself again and again makes many.
const STEPS: usize = 10_000;

impl Made<'_> {
    fn reply(&mut self, value: &Value, depth: usize) -> Result<Reply<'static>, Refusal> {
        self.items += 1;
        if self.items.is_multiple_of(STEPS) {
            self.run.go_on().map_err(unreadable)?;
        }
        if depth > DEPTH {
            return Ok(Reply::Error("ERR reached lua stack limit".into()));
        }
        Ok(match value {
            Value::String(text) => Reply::Bulk(self.bytes(text)?.into()),
            Value::Boolean(is) if !self.is_resp2 => Reply::Boolean(*is),
            Value::Boolean(true) => Reply::Integer(1),
            Value::Integer(number) => Reply::Integer(*number),
            Value::Number(number) => Reply::Integer(*number as i64),
            Value::Table(table) => return self.table(table, depth),
            _ => Reply::Null,
        })
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<Reply<'static>, Refusal> {
        let field = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
        if let Value::String(text) = field("err") {
            return Ok(Reply::Error(self.text(&text)?.into()));
        }
        if let Value::String(text) = field("ok") {
            return Ok(Reply::Status(self.bytes(&text)?.into()));
        }
        match field("double") {
            Value::Number(number) => return Ok(Reply::Double(number)),
            Value::Integer(number) => return Ok(Reply::Double(number as f64)),
            _ => {}
        }
        if let Value::String(digits) = field("big_number") {
            return Ok(Reply::BigNumber(self.bytes(&digits)?.into()));
        }
        if let Value::Table(marked) = field("verbatim_string") {
            let inside = |name: &str| marked.raw_get::<Value>(name).unwrap_or(Value::Nil);
            if let (Value::String(kind), Value::String(text)) = (inside("format"), inside("string"))
            {
                // Redis fills a kind that is too short, and cuts one that is too long.
                let mut three = *b"   ";
                three.iter_mut().zip(kind.as_bytes().iter()).for_each(|(to, from)| *to = *from);
                return Ok(Reply::Marked(three, self.bytes(&text)?.into()));
            }
        }
        if let Value::Table(map) = field("map") {
            let mut items = Vec::new();
            for pair in map.pairs::<Value, Value>() {
                let (key, value) = pair.map_err(unreadable)?;
                self.add(&mut items, &key, depth)?;
                self.add(&mut items, &value, depth)?;
            }
            return Ok(Reply::Map(items));
        }
        if let Value::Table(set) = field("set") {
            let mut items = Vec::new();
            for pair in set.pairs::<Value, Value>() {
                let (key, _) = pair.map_err(unreadable)?;
                self.add(&mut items, &key, depth)?;
            }
            return Ok(Reply::Set(items));
        }
        let mut items = Vec::new();
        loop {
            match table.raw_get::<Value>(items.len() + 1).map_err(unreadable)? {
                Value::Nil => return Ok(Reply::Array(items)),
                item => self.add(&mut items, &item, depth)?,
            }
        }
    }

    /// Adds an item to a list. The list grows by steps, each of which is measured before it is taken: short lists in
    /// lists would otherwise take up several times what is known of.
    fn add(
        &mut self,
        items: &mut Vec<Reply<'static>>,
        item: &Value,
        depth: usize,
    ) -> Result<(), Refusal> {
        if items.len() == items.capacity() {
            let more = FIRST_ITEMS.max(items.len() / 2);
            self.take(more * ITEM_BYTES)?;
            items.reserve_exact(more);
        }
        items.push(self.reply(item, depth + 1)?);
        Ok(())
    }

    fn bytes(&mut self, text: &mlua::String) -> Result<Vec<u8>, Refusal> {
        let bytes = text.as_bytes();
        self.take(bytes.len())?;
        Ok(bytes.to_vec())
    }

    fn text(&mut self, text: &mlua::String) -> Result<String, Refusal> {
        Ok(String::from_utf8_lossy(&self.bytes(text)?).into_owned())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.left = self.left.checked_sub(bytes).ok_or(Refusal::Unanswerable(TOO_LONG))?;
        Ok(())
    }
}

/// Only for want of memory.
fn unreadable(why: mlua::Error) -> Refusal {
    Refusal::Error(format!("ERR the reply cannot be made: {why}").into())
}
