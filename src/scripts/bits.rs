//! `bit`: operations on the lower 32 bits of a number, as in the library BitOp.

use mlua::{Lua, Table, Value, Variadic};

use super::strings::float;

/// Numbers are rounded as BitOp does it, by adding this: the lower bits of the sum are those of the number.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

/// The library.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    one(lua, &library, "tobit", |bits| bits)?;
    one(lua, &library, "bnot", |bits| !bits)?;
    one(lua, &library, "bswap", u32::swap_bytes)?;
    all(lua, &library, "band", |a, b| a & b)?;
    all(lua, &library, "bor", |a, b| a | b)?;
    all(lua, &library, "bxor", |a, b| a ^ b)?;
    shift(lua, &library, "lshift", |bits, by| bits << by)?;
    shift(lua, &library, "rshift", |bits, by| bits >> by)?;
    shift(lua, &library, "arshift", |bits, by| ((bits as i32) >> by) as u32)?;
    shift(lua, &library, "rol", u32::rotate_left)?;
    shift(lua, &library, "ror", u32::rotate_right)?;
    let tohex = |lua: &Lua, arguments: Variadic<Value>| {
        let value = bits(lua, &arguments, 0, "tohex")?;
        let digits = match arguments.get(1) {
            None | Some(Value::Nil) => 8,
            Some(_) => bits(lua, &arguments, 1, "tohex")? as i32,
        };
        let count = digits.unsigned_abs().min(8) as usize;
        let text = if digits < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
        Ok(text[8 - count..].to_owned())
    };
    library.raw_set("tohex", lua.create_function(tohex)?)?;
    Ok(library)
}

fn one(lua: &Lua, library: &Table, name: &'static str, of: fn(u32) -> u32) -> mlua::Result<()> {
    let function = move |lua: &Lua, arguments: Variadic<Value>| {
        Ok(signed(of(bits(lua, &arguments, 0, name)?)))
    };
    library.raw_set(name, lua.create_function(function)?)
}

fn all(
    lua: &Lua,
    library: &Table,
    name: &'static str,
    of: fn(u32, u32) -> u32,
) -> mlua::Result<()> {
    let function = move |lua: &Lua, arguments: Variadic<Value>| {
        let mut made = bits(lua, &arguments, 0, name)?;
        for place in 1..arguments.len() {
            made = of(made, bits(lua, &arguments, place, name)?);
        }
        Ok(signed(made))
    };
    library.raw_set(name, lua.create_function(function)?)
}

fn shift(
    lua: &Lua,
    library: &Table,
    name: &'static str,
    of: fn(u32, u32) -> u32,
) -> mlua::Result<()> {
    let function = move |lua: &Lua, arguments: Variadic<Value>| {
        let by = bits(lua, &arguments, 1, name)? & 31;
        Ok(signed(of(bits(lua, &arguments, 0, name)?, by)))
    };
    library.raw_set(name, lua.create_function(function)?)
}

fn signed(bits: u32) -> f64 {
    (bits as i32).into()
}

fn bits(lua: &Lua, arguments: &[Value], place: usize, name: &str) -> mlua::Result<u32> {
    let number = float(lua, arguments.get(place), place + 1, name)?;
    Ok((number + ROUNDING).to_bits() as u32)
}
