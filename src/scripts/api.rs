//! The functions of Rust that the prelude makes a script's world of.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mlua::{Lua, MultiValue, Table, Value, Variadic};
use parking_lot::Mutex;

use super::bits;
use super::call::{self, OnError};
use super::error::{self, Ended, Raised, mistake, raised};
use super::json;
use super::msgpack;
use super::random::Random;
use super::run::Run;
use super::strings;
use super::structs;
use crate::command::REDIS_VERSION;
use crate::commands;

/// The longest message of a script: what a line of the server's messages can take.
const MESSAGE_BYTES: usize = 1000;

/// All of them, by the names that the prelude knows.
pub fn raw(lua: &Lua, run: &Arc<Run>) -> mlua::Result<Table> {
    let raw = lua.create_table()?;
    errors(lua, run, &raw)?;
    numbers(lua, run, &raw)?;
    strings::add(lua, run, &raw)?;
    raw.raw_set("redis", redis(lua, run)?)?;
    raw.raw_set("bit", bits::library(lua)?)?;
    raw.raw_set("cjson", json::library(lua, run)?)?;
    raw.raw_set("cmsgpack", msgpack::library(lua, run)?)?;
    raw.raw_set("struct", structs::library(lua, run)?)?;
    raw.raw_set("memory", lua.create_function(|lua, ()| Ok(lua.used_memory() as f64 / 1024.0))?)?;
    Ok(raw)
}

fn errors(lua: &Lua, run: &Arc<Run>, raw: &Table) -> mlua::Result<()> {
    raw.raw_set(
        "fail",
        lua.create_function(|lua, text: mlua::String| -> mlua::Result<()> {
            Err(mistake(lua, text.to_string_lossy()))
        })?,
    )?;
    let of_run = run.clone();
    raw.raw_set("tick", lua.create_function(move |_, ()| of_run.go_on())?)?;
    let of_run = run.clone();
    let plain = move |lua: &Lua, error: Value| {
        of_run.go_on()?;
        caught(lua, error)
    };
    raw.raw_set("plain", lua.create_function(plain)?)?;
    raw.raw_set("described", lua.create_function(described)?)
}

/// What was caught, as a script may see it.
fn caught(lua: &Lua, error: Value) -> mlua::Result<Value> {
    let error = match error {
        Value::Error(error) => error,
        Value::String(text) => return outside_prelude(lua, text).map(Value::String),
        other => return Ok(other),
    };
    let error = error::root(&error);
    if error.downcast_ref::<Ended>().is_some() {
        return Err(error.clone());
    }
    match error.downcast_ref::<Raised>() {
        Some(Raised(text)) => {
            let table = lua.create_table()?;
            table.raw_set("err", text.as_str())?;
            Ok(Value::Table(table))
        }
        None => Ok(Value::String(lua.create_string(error::text(error))?)),
    }
}

/// The text of an error without a place in the prelude, which says nothing to the script's author.
fn outside_prelude(lua: &Lua, text: mlua::String) -> mlua::Result<mlua::String> {
    let bytes = text.as_bytes();
    let Some(rest) = bytes.strip_prefix(b"prelude:") else { return Ok(text.clone()) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest[digits..].strip_prefix(b": ") {
        Some(rest) if digits > 0 => lua.create_string(rest),
        _ => Ok(text.clone()),
    }
}

/// An error that nothing has caught, as a table with its text and its place.
fn described(lua: &Lua, error: Value) -> mlua::Result<Table> {
    let table = match caught(lua, error)? {
        Value::Table(table) => table,
        other => {
            let text = match &other {
                Value::String(text) => text.to_string_lossy(),
                Value::Nil => "nil".to_owned(),
                other => other.to_string().unwrap_or_else(|_| other.type_name().to_owned()),
            };
            let table = lua.create_table()?;
            table.raw_set("err", format!("ERR {text}"))?;
            table
        }
    };
    if let Some(line) = error::line(lua, error::Through::All) {
        table.raw_set("source", error::CHUNK)?;
        table.raw_set("line", line)?;
    }
    Ok(table)
}

fn numbers(lua: &Lua, run: &Arc<Run>, raw: &Table) -> mlua::Result<()> {
    let of_run = run.clone();
    let random = move |lua: &Lua, bounds: Variadic<Value>| {
        let bound = |place: usize| whole(lua, bounds.get(place), place, "random");
        let (least, most) = match bounds.len() {
            0 => return Ok(of_run.random.lock().fraction()),
            1 => (1.0, bound(0)?),
            2 => (bound(0)?, bound(1)?),
            _ => return Err(mistake(lua, "wrong number of arguments")),
        };
        if least > most {
            let which = bounds.len();
            let text = format!("bad argument #{which} to 'random' (interval is empty)");
            return Err(mistake(lua, text));
        }
        Ok((of_run.random.lock().fraction() * (most - least + 1.0)).floor() + least)
    };
    raw.raw_set("random", lua.create_function(random)?)?;
    let of_run = run.clone();
    let seed = move |lua: &Lua, seed: Variadic<Value>| {
        let seed = whole(lua, seed.first(), 0, "randomseed")?;
        *of_run.random.lock() = Random::new(seed as i64 as u32);
        Ok(())
    };
    raw.raw_set("randomseed", lua.create_function(seed)?)
}

/// An argument that is a number, cut to an integer as C does it.
fn whole(lua: &Lua, value: Option<&Value>, place: usize, name: &str) -> mlua::Result<f64> {
    strings::float(lua, value, place + 1, name).map(|number| (number as i32).into())
}

fn redis(lua: &Lua, run: &Arc<Run>) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    let of_run = run.clone();
    let digest = move |lua: &Lua, words: Variadic<Value>| sha1hex(lua, &of_run, &words);
    redis.raw_set("sha1hex", lua.create_function(digest)?)?;
    let of_run = run.clone();
    let reply = move |lua: &Lua, words: Variadic<Value>| error_reply(lua, &of_run, &words);
    redis.raw_set("error_reply", lua.create_function(reply)?)?;
    redis.raw_set("status_reply", lua.create_function(status_reply)?)?;
    redis.raw_set("log", lua.create_function(log)?)?;
    let levels = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];
    for (level, name) in levels.into_iter().enumerate() {
        redis.raw_set(name, level)?;
    }
    let of_run = run.clone();
    let setresp = move |lua: &Lua, version: Variadic<Value>| {
        if version.len() != 1 {
            return Err(raised("ERR redis.setresp() requires one argument."));
        }
        match lua.coerce_number(version[0].clone())?.unwrap_or(0.0) as i64 {
            version @ (2 | 3) => {
                of_run.version.store(version as u8, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(raised("ERR RESP version must be 2 or 3.")),
        }
    };
    redis.raw_set("setresp", lua.create_function(setresp)?)?;
    redis.raw_set("call", call::function(lua, run, OnError::Raise)?)?;
    redis.raw_set("pcall", call::function(lua, run, OnError::Answer)?)?;
    redis.raw_set("acl_check_cmd", lua.create_function(acl_check_cmd)?)?;
    // There are no replicas and there is no debugger.
    redis.raw_set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    redis.raw_set("breakpoint", lua.create_function(|_, ()| Ok(false))?)?;
    redis.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    redis.raw_set("set_repl", lua.create_function(set_repl)?)?;
    for (name, flags) in [("NONE", 0), ("AOF", 1), ("SLAVE", 2), ("REPLICA", 2), ("ALL", REPL_ALL)]
    {
        redis.raw_set(format!("REPL_{name}"), flags)?;
    }
    redis.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    redis.raw_set("REDIS_VERSION_NUM", version_number())?;
    Ok(redis)
}

/// Each part of the version in a byte.
fn version_number() -> u32 {
    let parts = REDIS_VERSION.split('.').map(|part| part.parse().unwrap_or(0));
    parts.fold(0, |number, part: u32| number << 8 | part)
}

fn sha1hex(lua: &Lua, run: &Run, words: &[Value]) -> mlua::Result<String> {
    let [text] = words else {
        return Err(raised("ERR wrong number of arguments"));
    };
    // Whatever is no text counts as an empty one, as in Redis.
    let text = lua.coerce_string(text.clone())?;
    run.go_on_after(text.as_ref().map_or(0, |text| text.as_bytes().len()))?;
    let digest = text.map_or_else(
        || sha1_smol::Sha1::new().digest(),
        |text| sha1_smol::Sha1::from(&*text.as_bytes()).digest(),
    );
    Ok(digest.to_string())
}

const WRONG_ARGUMENTS: &str = "ERR wrong number or type of arguments";

/// A table with an error: `CODE message`, with or without a minus before it; a text of one word gets the code ERR.
fn error_reply(lua: &Lua, run: &Run, words: &[Value]) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 1)?;
    let [Value::String(text)] = words else {
        table.raw_set("err", WRONG_ARGUMENTS)?;
        return Ok(table);
    };
    let bytes = text.as_bytes();
    run.go_on_after(bytes.len())?;
    let text = bytes.strip_prefix(b"-").unwrap_or(&bytes);
    let (code, message) = match memchr::memchr(b' ', text) {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => (&b"ERR"[..], text),
    };
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = message.iter().take_while(|byte| is_end(byte)).count();
    let end = message.len() - message[start..].iter().rev().take_while(|byte| is_end(byte)).count();
    let whole = [code, b" ", &message[start..end]].concat();
    table.raw_set("err", lua.create_string(whole)?)?;
    Ok(table)
}

fn status_reply(lua: &Lua, words: Variadic<Value>) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 1)?;
    match &words[..] {
        [Value::String(text)] => table.raw_set("ok", text)?,
        _ => table.raw_set("err", WRONG_ARGUMENTS)?,
    }
    Ok(table)
}

/// The most messages of scripts in a second; a script in a loop would fill the disk with them.
const MOST_MESSAGES: u32 = 100;

/// Whether one more message of a script fits into this second. The last one that does says that others are left out.
fn may_tell() -> bool {
    static SECOND: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut second = SECOND.lock();
    let (began, told) = match *second {
        Some((began, told)) if began.elapsed() < Duration::from_secs(1) => (began, told + 1),
        _ => (Instant::now(), 1),
    };
    *second = Some((began, told));
    drop(second);
    if told == MOST_MESSAGES {
        log::warn!(
            "scripts say more than {MOST_MESSAGES} messages in a second; the others are left out"
        );
    }
    told < MOST_MESSAGES
}

/// A message of the script's to the server's own.
fn log(lua: &Lua, words: Variadic<Value>) -> mlua::Result<()> {
    let [level, message @ ..] = &words[..] else {
        return Err(raised("ERR redis.log() requires two arguments or more."));
    };
    if message.is_empty() {
        return Err(raised("ERR redis.log() requires two arguments or more."));
    }
    let level = lua.coerce_number(level.clone())?;
    let level = level.ok_or_else(|| raised("ERR First argument must be a number (log level)."))?;
    let level = match level as i64 {
        0 | 1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        _ => return Err(raised("ERR Invalid debug level.")),
    };
    if log::log_enabled!(level) && may_tell() {
        let mut text = String::new();
        for word in message {
            if let Some(word) = lua.coerce_string(word.clone())? {
                let gap = if text.is_empty() { "" } else { " " };
                let room = MESSAGE_BYTES.saturating_sub(text.len());
                let bytes = word.as_bytes();
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(room)]);
                text += &format!("{gap}{}", shown.escape_debug());
            }
        }
        log::log!(level, "a script: {text}");
    }
    Ok(())
}

const REPL_ALL: i64 = 3;

/// Accepted, and without effect: what a script has changed is always in the log.
fn set_repl(lua: &Lua, words: Variadic<Value>) -> mlua::Result<()> {
    let [flags] = &words[..] else {
        return Err(raised("ERR redis.set_repl() requires one argument."));
    };
    let flags = lua.coerce_number(flags.clone())?.unwrap_or(0.0) as i64;
    if flags & !REPL_ALL != 0 {
        let text =
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(raised(text));
    }
    Ok(())
}

/// There is one user, who may call everything.
fn acl_check_cmd(_: &Lua, words: Variadic<mlua::String>) -> mlua::Result<bool> {
    if words.is_empty() {
        return Err(raised("ERR Please specify at least one argument for this redis lib call"));
    }
    let held: Vec<_> = words.iter().map(mlua::String::as_bytes).collect();
    let list: Vec<&[u8]> = held.iter().map(|word| &**word).collect();
    match commands::find(&list) {
        Ok(_) => Ok(true),
        Err(_) => Err(raised("ERR Invalid command passed to redis.acl_check_cmd()")),
    }
}
