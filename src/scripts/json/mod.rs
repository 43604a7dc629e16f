//! `cjson`, as Redis has it: its functions, settings, forms of numbers, and error texts.
//!
//! Settings hold until the script ends; in Redis they hold for all scripts after it.

mod decode;
mod encode;

use std::sync::Arc;

use mlua::{Function, Lua, Table, Value, Variadic};

use super::error::mistake;
use super::run::Run;
use super::strings::{number, text};
use crate::sync::Mutex;

/// What a script may set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether an array with many holes becomes an object, and not an error.
    convert_sparse: bool,
    /// An array has many holes if its last place is this many times the number of its items,
    sparse_ratio: i64,
    /// and greater than this.
    sparse_safe: i64,
    encode_depth: usize,
    decode_depth: usize,
    /// Digits of a number.
    precision: usize,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// What becomes of numbers that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            convert_sparse: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: DEPTH,
            decode_depth: DEPTH,
            precision: 14,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
        }
    }
}

/// How deep values may be nested, unless the script sets another limit.
const DEPTH: usize = 1000;

/// The library.
pub fn library(lua: &Lua, run: &Arc<Run>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("null", Value::NULL)?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    let (of_run, next) = (run.clone(), lua.globals().raw_get::<Function>("next")?);
    let encode = move |lua: &Lua, values: Variadic<Value>| {
        let [value] = &values[..] else {
            return Err(mistake(lua, "bad argument #1 to 'encode' (expected 1 argument)"));
        };
        encode::encode(lua, &of_run, &next, value)
    };
    library.raw_set("encode", lua.create_function(encode)?)?;
    let of_run = run.clone();
    let decode = move |lua: &Lua, values: Variadic<Value>| {
        let [value] = &values[..] else {
            return Err(mistake(lua, "bad argument #1 to 'decode' (expected 1 argument)"));
        };
        let json = text(lua, Some(value), 1, "decode")?;
        decode::decode(lua, &of_run, &json.as_bytes())
    };
    library.raw_set("decode", lua.create_function(decode)?)?;
    settings(lua, run, &library)?;
    Ok(library)
}

type Setting = fn(&mut Settings) -> &mut usize;

fn settings(lua: &Lua, run: &Arc<Run>, library: &Table) -> mlua::Result<()> {
    let numbers: [(&str, i64, i64, Setting); 3] = [
        ("encode_max_depth", 1, i32::MAX.into(), |all| &mut all.encode_depth),
        ("decode_max_depth", 1, i32::MAX.into(), |all| &mut all.decode_depth),
        ("encode_number_precision", 1, 14, |all| &mut all.precision),
    ];
    for (name, least, most, field) in numbers {
        let run = run.clone();
        let set = move |lua: &Lua, values: Variadic<Value>| {
            let mut settings = run.json.lock();
            if let Some(value) = values.first().filter(|value| !value.is_nil()) {
                *field(&mut settings) = bounded(lua, value, 1, name, least, most)? as usize;
            }
            Ok(*field(&mut settings))
        };
        library.raw_set(name, lua.create_function(set)?)?;
    }
    let of_run = run.clone();
    let sparse = move |lua: &Lua, values: Variadic<Value>| {
        let mut all = of_run.json.lock();
        let given = |place: usize| values.get(place).filter(|value| !value.is_nil());
        if let Some(convert) = given(0) {
            all.convert_sparse = convert.as_boolean().unwrap_or(true);
        }
        if let Some(ratio) = given(1) {
            all.sparse_ratio = bounded(lua, ratio, 2, SPARSE, 0, i32::MAX.into())?;
        }
        if let Some(safe) = given(2) {
            all.sparse_safe = bounded(lua, safe, 3, SPARSE, 0, i32::MAX.into())?;
        }
        Ok((all.convert_sparse, all.sparse_ratio, all.sparse_safe))
    };
    library.raw_set(SPARSE, lua.create_function(sparse)?)?;
    let of_run = run.clone();
    let encode_invalid = move |_: &Lua, values: Variadic<Value>| {
        let mut all = of_run.json.lock();
        match values.first() {
            None | Some(Value::Nil) => {}
            Some(Value::Boolean(false)) => all.encode_invalid = Invalid::Refused,
            Some(Value::String(word)) if *word == *"null" => all.encode_invalid = Invalid::Null,
            Some(_) => all.encode_invalid = Invalid::Written,
        }
        Ok(all.encode_invalid != Invalid::Refused)
    };
    library.raw_set("encode_invalid_numbers", lua.create_function(encode_invalid)?)?;
    let of_run = run.clone();
    let decode_invalid = move |_: &Lua, values: Variadic<Value>| {
        let mut all = of_run.json.lock();
        if let Some(is) = values.first().filter(|value| !value.is_nil()) {
            all.decode_invalid = is.as_boolean().unwrap_or(true);
        }
        Ok(all.decode_invalid)
    };
    library.raw_set("decode_invalid_numbers", lua.create_function(decode_invalid)?)?;
    // The memory of one encoding serves no other one here.
    let keep = |_: &Lua, values: Variadic<Value>| {
        Ok(values.first().and_then(Value::as_boolean).unwrap_or(true))
    };
    library.raw_set("encode_keep_buffer", lua.create_function(keep)?)
}

const SPARSE: &str = "encode_sparse_array";

fn bounded(
    lua: &Lua,
    value: &Value,
    place: usize,
    name: &str,
    least: i64,
    most: i64,
) -> mlua::Result<i64> {
    let number = number(lua, Some(value), place, name)?;
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => {
            let text = format!(
                "bad argument #{place} to '{name}' (expected integer between {least} and {most})"
            );
            Err(mistake(lua, text))
        }
    }
}

/// The settings of the running script.
pub type Held = Mutex<Settings>;
