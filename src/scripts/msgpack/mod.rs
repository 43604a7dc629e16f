//! `cmsgpack`: values of Lua as MessagePack and back, as Redis's library does it, with its error texts.

mod decode;
mod encode;

use std::sync::Arc;

use mlua::{Function, Lua, Table, Value, Variadic};

use super::error::mistake;
use super::run::Run;
use super::strings::{number, text};
use decode::Wanted;

/// The library.
pub fn library(lua: &Lua, run: &Arc<Run>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.raw_set("_COPYRIGHT", "Copyright (C) 2012, Redis Ltd.")?;
    library.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    let (of_run, next) = (run.clone(), lua.globals().raw_get::<Function>("next")?);
    let pack = move |lua: &Lua, values: Variadic<Value>| {
        if values.is_empty() {
            let text = "bad argument #0 to 'pack' (MessagePack pack needs input.)";
            return Err(mistake(lua, text));
        }
        encode::encode(lua, &of_run, &next, &values)
    };
    library.raw_set("pack", lua.create_function(pack)?)?;
    let of_run = run.clone();
    let unpack = move |lua: &Lua, values: Variadic<Value>| {
        let packed = text(lua, values.first(), 1, "unpack")?;
        decode::decode(lua, &of_run, &packed.as_bytes(), Wanted::All)
    };
    library.raw_set("unpack", lua.create_function(unpack)?)?;
    let of_run = run.clone();
    let one = move |lua: &Lua, values: Variadic<Value>| {
        let offset = offset(lua, values.get(1), 2, "unpack_one")?;
        let packed = text(lua, values.first(), 1, "unpack_one")?;
        decode::decode(lua, &of_run, &packed.as_bytes(), Wanted::Some { limit: 1, offset })
    };
    library.raw_set("unpack_one", lua.create_function(one)?)?;
    let of_run = run.clone();
    let limited = move |lua: &Lua, values: Variadic<Value>| {
        let limit = number(lua, values.get(1), 2, "unpack_limit")?;
        let offset = offset(lua, values.get(2), 3, "unpack_limit")?;
        let packed = text(lua, values.first(), 1, "unpack_limit")?;
        // No limit and no offset are those of `unpack`, as in Redis.
        let wanted = match (limit, offset) {
            (0, 0) => Wanted::All,
            (limit, offset) => Wanted::Some { limit, offset },
        };
        decode::decode(lua, &of_run, &packed.as_bytes(), wanted)
    };
    library.raw_set("unpack_limit", lua.create_function(limited)?)?;
    Ok(library)
}

fn offset(lua: &Lua, value: Option<&Value>, place: usize, name: &str) -> mlua::Result<i64> {
    match value {
        None | Some(Value::Nil) => Ok(0),
        value => number(lua, value, place, name),
    }
}
