//! `string.find`, `match`, and what the prelude makes `gmatch` and `gsub` of.

use std::sync::Arc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::error::mistake;
use super::pattern::{Capture, Matcher, Stop};
use super::run::Run;

/// Bytes that make a pattern one, and not a plain text.
const SPECIAL: &[u8] = b"^$*+?.([%-";

/// The most bytes that `gsub` makes of its text: what a script may take up anyway is checked as soon as the text is
/// given to Lua, and this bounds the copy before.
const LONGEST: usize = 256 << 20;

/// Adds the functions to `raw`.
pub fn add(lua: &Lua, run: &Arc<Run>, raw: &Table) -> mlua::Result<()> {
    let of_run = run.clone();
    let find =
        move |lua: &Lua, arguments: MultiValue| search(lua, &of_run, &arguments, Wanted::Places);
    raw.raw_set("find", lua.create_function(find)?)?;
    let of_run = run.clone();
    let found =
        move |lua: &Lua, arguments: MultiValue| search(lua, &of_run, &arguments, Wanted::Captures);
    raw.raw_set("match", lua.create_function(found)?)?;
    let of_run = run.clone();
    let scan = move |lua: &Lua, (text, pattern, at, may_anchor): Scan| {
        scan(lua, &of_run, &text.as_bytes(), &pattern.as_bytes(), at, may_anchor)
    };
    raw.raw_set("scan", lua.create_function(scan)?)?;
    let of_run = run.clone();
    let gsub = move |lua: &Lua, arguments: MultiValue| gsub(lua, &of_run, &arguments);
    raw.raw_set("gsub", lua.create_function(gsub)?)?;
    let (of_run, repeated) = (run.clone(), lua.globals().get::<Table>("string")?.get("rep")?);
    let rep = move |lua: &Lua, arguments: MultiValue| rep(lua, &of_run, &repeated, &arguments);
    raw.raw_set("rep", lua.create_function(rep)?)?;
    let text = |lua: &Lua, (value, place, name): (Value, usize, String)| {
        text(lua, Some(&value), place, &name)
    };
    raw.raw_set("text", lua.create_function(text)?)
}

type Scan = (mlua::String, mlua::String, usize, bool);

/// What a search answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Places,
    Captures,
}

fn search(
    lua: &Lua,
    run: &Run,
    arguments: &MultiValue,
    wanted: Wanted,
) -> mlua::Result<MultiValue> {
    let name = if wanted == Wanted::Places { "find" } else { "match" };
    let text = text(lua, arguments.front(), 1, name)?;
    let pattern = self::text(lua, arguments.get(1), 2, name)?;
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let start = match arguments.get(2) {
        None | Some(Value::Nil) => 0,
        Some(place) => start_of(number(lua, Some(place), 3, name)?, text.len()),
    };
    let is_plain =
        arguments.get(3).is_some_and(|plain| !matches!(plain, Value::Nil | Value::Boolean(false)));
    let no_pattern = !pattern.iter().any(|byte| SPECIAL.contains(byte));
    if wanted == Wanted::Places && (is_plain || no_pattern) {
        run.go_on_after(text.len() - start)?;
        return match memchr::memmem::find(&text[start..], &pattern) {
            Some(at) => places(lua, start + at, start + at + pattern.len()),
            None => nothing(),
        };
    }
    let (anchored, pattern) = anchor(&pattern, true);
    let mut matcher = Matcher::new(&text, pattern, || run.go_on());
    let found = match anchored {
        true => matcher.at(start).map(|end| end.map(|end| (start, end))),
        false => matcher.first_from(start),
    };
    let Some((from, to)) = found.map_err(|stop| failed(lua, stop))? else { return nothing() };
    let captures = matcher.captures().map_err(|stop| failed(lua, stop))?;
    match wanted {
        Wanted::Places => {
            let mut all = places(lua, from, to)?;
            for capture in captures {
                all.push_back(captured(lua, &text, *capture)?);
            }
            Ok(all)
        }
        Wanted::Captures => captured_or_whole(lua, &text, captures, from, to),
    }
}

/// Lua's own function would repeat an empty text, too.
fn rep(
    lua: &Lua,
    run: &Run,
    repeated: &Function,
    arguments: &MultiValue,
) -> mlua::Result<mlua::String> {
    let text = text(lua, arguments.front(), 1, "rep")?;
    let count = number(lua, arguments.get(1), 2, "rep")?;
    let bytes = text.as_bytes().len();
    if bytes == 0 {
        return Ok(text);
    }
    run.go_on_after(bytes.saturating_mul(usize::try_from(count).unwrap_or(0)))?;
    repeated.call((text, count))
}

/// The first match from a place on: its first byte, the byte after it, and its captures or all of it.
fn scan(
    lua: &Lua,
    run: &Run,
    text: &[u8],
    pattern: &[u8],
    at: usize,
    may_anchor: bool,
) -> mlua::Result<MultiValue> {
    let start = at.saturating_sub(1).min(text.len());
    let (anchored, pattern) = anchor(pattern, may_anchor);
    let mut matcher = Matcher::new(text, pattern, || run.go_on());
    let found = match anchored {
        true => matcher.at(start).map(|end| end.map(|end| (start, end))),
        false => matcher.first_from(start),
    };
    let Some((from, to)) = found.map_err(|stop| failed(lua, stop))? else { return nothing() };
    let captures = matcher.captures().map_err(|stop| failed(lua, stop))?;
    let mut all = captured_or_whole(lua, text, captures, from, to)?;
    all.push_front(Value::Integer(to as i64 + 1));
    all.push_front(Value::Integer(from as i64 + 1));
    Ok(all)
}

/// `gsub` with a text in place of each match.
fn gsub(lua: &Lua, run: &Run, arguments: &MultiValue) -> mlua::Result<(mlua::String, usize)> {
    let text = text(lua, arguments.front(), 1, "gsub")?;
    let pattern = self::text(lua, arguments.get(1), 2, "gsub")?;
    let by = self::text(lua, arguments.get(2), 3, "gsub")?;
    let (text, pattern, by) = (text.as_bytes(), pattern.as_bytes(), by.as_bytes());
    let most = match arguments.get(3) {
        None | Some(Value::Nil) => usize::MAX,
        Some(most) => usize::try_from(number(lua, Some(most), 4, "gsub")?).unwrap_or(0),
    };
    let (anchored, pattern) = anchor(&pattern, true);
    let mut matcher = Matcher::new(&text, pattern, || run.go_on());
    let (mut made, mut count, mut at) = (Vec::new(), 0, 0);
    while count < most {
        let end = matcher.at(at).map_err(|stop| failed(lua, stop))?;
        if let Some(end) = end {
            count += 1;
            let captures = matcher.captures().map_err(|stop| failed(lua, stop))?;
            replace(lua, &mut made, &by, &text, captures, (at, end))?;
        }
        match end {
            Some(end) if end > at => at = end,
            _ if at < text.len() => {
                made.push(text[at]);
                at += 1;
            }
            _ => break,
        }
        if made.len() > LONGEST {
            return Err(mlua::Error::MemoryError("gsub".to_owned()));
        }
        if anchored {
            break;
        }
    }
    made.extend_from_slice(&text[at.min(text.len())..]);
    Ok((lua.create_string(made)?, count))
}

/// Appends what replaces a match: `%1` is its first capture, `%0` all of it.
fn replace(
    lua: &Lua,
    made: &mut Vec<u8>,
    by: &[u8],
    text: &[u8],
    captures: &[Capture],
    (from, to): (usize, usize),
) -> mlua::Result<()> {
    let mut bytes = by.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            made.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => made.extend_from_slice(&text[from..to]),
            Some(b'1') if captures.is_empty() => made.extend_from_slice(&text[from..to]),
            Some(digit @ b'1'..=b'9') => match captures.get(usize::from(digit - b'1')) {
                Some(Capture::Piece(start, length)) => {
                    made.extend_from_slice(&text[*start..start + length]);
                }
                Some(Capture::Place(at)) => made.extend_from_slice((at + 1).to_string().as_bytes()),
                Some(Capture::Open(_)) | None => return Err(mistake(lua, "invalid capture index")),
            },
            Some(other) => made.push(*other),
            None => made.push(0),
        }
    }
    Ok(())
}

fn anchor(pattern: &[u8], may_anchor: bool) -> (bool, &[u8]) {
    match pattern {
        [b'^', rest @ ..] if may_anchor => (true, rest),
        _ => (false, pattern),
    }
}

fn captured_or_whole(
    lua: &Lua,
    text: &[u8],
    captures: &[Capture],
    from: usize,
    to: usize,
) -> mlua::Result<MultiValue> {
    if captures.is_empty() {
        let whole = lua.create_string(&text[from..to])?;
        return Ok([Value::String(whole)].into_iter().collect());
    }
    captures.iter().map(|capture| captured(lua, text, *capture)).collect()
}

fn captured(lua: &Lua, text: &[u8], capture: Capture) -> mlua::Result<Value> {
    Ok(match capture {
        Capture::Piece(start, length) => {
            Value::String(lua.create_string(&text[start..start + length])?)
        }
        Capture::Place(at) | Capture::Open(at) => Value::Integer(at as i64 + 1),
    })
}

fn places(_: &Lua, from: usize, to: usize) -> mlua::Result<MultiValue> {
    Ok([from as i64 + 1, to as i64].map(Value::Integer).into_iter().collect())
}

fn nothing() -> mlua::Result<MultiValue> {
    Ok([Value::Nil].into_iter().collect())
}

fn failed(lua: &Lua, stop: Stop<mlua::Error>) -> mlua::Error {
    match stop {
        Stop::Malformed(text) => mistake(lua, text),
        Stop::Ended(why) => why,
    }
}

/// Where a search begins, counted from 0: a negative place counts from the end.
fn start_of(place: i64, length: usize) -> usize {
    let length = length as i64;
    let place = if place < 0 { length + place } else { place - 1 };
    place.clamp(0, length) as usize
}

/// An argument as text.
pub fn text(
    lua: &Lua,
    value: Option<&Value>,
    place: usize,
    name: &str,
) -> mlua::Result<mlua::String> {
    let text = value.map(|value| lua.coerce_string(value.clone())).transpose()?.flatten();
    text.ok_or_else(|| wrong(lua, "string", value, place, name))
}

/// An argument as a whole number.
pub fn number(lua: &Lua, value: Option<&Value>, place: usize, name: &str) -> mlua::Result<i64> {
    float(lua, value, place, name).map(|number| number as i64)
}

/// An argument as a number.
pub fn float(lua: &Lua, value: Option<&Value>, place: usize, name: &str) -> mlua::Result<f64> {
    let number = value.map(|value| lua.coerce_number(value.clone())).transpose()?.flatten();
    number.ok_or_else(|| wrong(lua, "number", value, place, name))
}

/// The error for an argument of the wrong kind.
pub fn wrong(
    lua: &Lua,
    kind: &str,
    value: Option<&Value>,
    place: usize,
    name: &str,
) -> mlua::Error {
    let got = match value {
        None => "no value",
        Some(Value::Integer(_)) => "number",
        Some(Value::LightUserData(_)) => "userdata",
        Some(other) => other.type_name(),
    };
    mistake(lua, format!("bad argument #{place} to '{name}' ({kind} expected, got {got})"))
}
