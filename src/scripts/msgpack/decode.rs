//! MessagePack as values of Lua.
//!
//! What is open is kept in a list, so that a deep text takes no stack.

use mlua::{Lua, MultiValue, Table, Value};
use rmp::Marker;

use super::super::error::mistake;
use super::super::run::Run;

/// How deep values may be nested. (Redis's stack holds some thousand.)
const DEPTH: usize = 1000;

/// The most values of one text: a function's results have to fit into Lua's stack, of 8,000 places, twice.
const RESULTS: usize = 3900;

/// Values between two questions whether to go on.
const STEPS: usize = 10_000;

/// Which values of the text are wanted.
#[derive(Clone, Copy)]
pub enum Wanted {
    All,
    /// At most so many, from a place on that is counted from 0; before them comes the place after them, or -1.
    Some {
        limit: i64,
        offset: i64,
    },
}

/// An array or a map of which a part is read.
enum Open {
    /// With its last place, and how many items are left.
    Array(Table, i64, u32),
    /// With how many pairs are left, and the key of the one whose value comes next.
    Map(Table, u32, Option<Value>),
}

struct Decoder<'a> {
    lua: &'a Lua,
    run: &'a Run,
    rest: &'a [u8],
    steps: usize,
}

/// The values of a text.
pub fn decode(lua: &Lua, run: &Run, text: &[u8], wanted: Wanted) -> mlua::Result<MultiValue> {
    run.go_on_after(text.len())?;
    let (limit, offset) = match wanted {
        Wanted::All => (i32::MAX.into(), 0),
        Wanted::Some { limit, offset } => (limit, offset),
    };
    let length = text.len();
    // Redis prints 32 bits of them.
    let shown = offset as i32;
    if limit < 0 || offset < 0 {
        let text =
            format!("Invalid request to unpack with offset of {shown} and limit of {length}.");
        return Err(mistake(lua, text));
    }
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| text.get(offset..)) else {
        let text = format!("Start offset {shown} greater than input length {length}.");
        return Err(mistake(lua, text));
    };
    let mut decoder = Decoder { lua, run, rest, steps: 0 };
    let mut found = Vec::new();
    while !decoder.rest.is_empty() && (found.len() as i64) < limit {
        if found.len() >= RESULTS {
            return Err(mistake(lua, "stack overflow (in function mp_unpack_full)"));
        }
        found.push(decoder.value()?);
    }
    let end = match wanted {
        Wanted::All => None,
        Wanted::Some { .. } if decoder.rest.is_empty() => Some(-1),
        Wanted::Some { .. } => Some((length - decoder.rest.len()) as i64),
    };
    Ok(end.map(Value::Integer).into_iter().chain(found).collect())
}

impl Decoder<'_> {
    /// The next value, with all that is in it.
    fn value(&mut self) -> mlua::Result<Value> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.steps += 1;
            if self.steps.is_multiple_of(STEPS) {
                self.run.go_on()?;
            }
            let mut value = match self.begin()? {
                Ok(value) => value,
                Err(begun) => {
                    if open.len() >= DEPTH {
                        let function = match begun {
                            Open::Array(..) => "mp_decode_to_lua_array",
                            Open::Map(..) => "mp_decode_to_lua_hash",
                        };
                        let text = format!("stack overflow (in function {function})");
                        return Err(mistake(self.lua, text));
                    }
                    match begun {
                        Open::Array(table, _, 0) | Open::Map(table, 0, _) => Value::Table(table),
                        begun => {
                            open.push(begun);
                            continue;
                        }
                    }
                }
            };
            // It is put where it belongs, and with it whatever it ends.
            loop {
                match open.pop() {
                    None => return Ok(value),
                    Some(Open::Array(table, place, left)) => {
                        table.raw_set(place + 1, value)?;
                        if left > 1 {
                            open.push(Open::Array(table, place + 1, left - 1));
                            break;
                        }
                        value = Value::Table(table);
                    }
                    Some(Open::Map(table, left, None)) => {
                        open.push(Open::Map(table, left, Some(value)));
                        break;
                    }
                    Some(Open::Map(table, left, Some(key))) => {
                        self.put(&table, key, value)?;
                        if left > 1 {
                            open.push(Open::Map(table, left - 1, None));
                            break;
                        }
                        value = Value::Table(table);
                    }
                }
            }
        }
    }

    fn put(&self, table: &Table, key: Value, value: Value) -> mlua::Result<()> {
        match key {
            Value::Nil => Err(mistake(self.lua, "table index is nil")),
            Value::Number(number) if number.is_nan() => {
                Err(mistake(self.lua, "table index is NaN"))
            }
            key => table.raw_set(key, value),
        }
    }

    /// A value, or the beginning of an array or a map.
    fn begin(&mut self) -> mlua::Result<Result<Value, Open>> {
        let [byte] = self.take()?;
        let number = |number: f64| Ok(Ok(Value::Number(number)));
        match Marker::from_u8(byte) {
            Marker::FixPos(small) => number(small.into()),
            Marker::FixNeg(small) => number(small.into()),
            Marker::Null => Ok(Ok(Value::Nil)),
            Marker::True => Ok(Ok(Value::Boolean(true))),
            Marker::False => Ok(Ok(Value::Boolean(false))),
            Marker::U8 => number((self.bits::<1>()? as u8).into()),
            Marker::U16 => number((self.bits::<2>()? as u16).into()),
            Marker::U32 => number((self.bits::<4>()? as u32).into()),
            // A great one becomes negative in Redis, whose Lua knows no other whole numbers.
            Marker::U64 => number(self.bits::<8>()? as i64 as f64),
            Marker::I8 => number((self.bits::<1>()? as i8).into()),
            Marker::I16 => number((self.bits::<2>()? as i16).into()),
            Marker::I32 => number((self.bits::<4>()? as i32).into()),
            Marker::I64 => number(self.bits::<8>()? as i64 as f64),
            Marker::F32 => number(f32::from_bits(self.bits::<4>()? as u32).into()),
            Marker::F64 => number(f64::from_bits(self.bits::<8>()?)),
            Marker::FixStr(length) => self.text(length.into()),
            Marker::Str8 => {
                let [length] = self.take()?;
                self.text(length.into())
            }
            Marker::Str16 => {
                let length = self.bits::<2>()? as u16;
                self.text(length.into())
            }
            Marker::Str32 => {
                let length = self.bits::<4>()? as u32;
                self.text(length as usize)
            }
            Marker::FixArray(count) => self.array(count.into()),
            Marker::Array16 => {
                let count = self.bits::<2>()? as u16;
                self.array(count.into())
            }
            Marker::Array32 => {
                let count = self.bits::<4>()? as u32;
                self.array(count)
            }
            Marker::FixMap(count) => self.map(count.into()),
            Marker::Map16 => {
                let count = self.bits::<2>()? as u16;
                self.map(count.into())
            }
            Marker::Map32 => {
                let count = self.bits::<4>()? as u32;
                self.map(count)
            }
            Marker::Bin8
            | Marker::Bin16
            | Marker::Bin32
            | Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32
            | Marker::Reserved => Err(mistake(self.lua, "Bad data format in input.")),
        }
    }

    fn take<const COUNT: usize>(&mut self) -> mlua::Result<[u8; COUNT]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.missing())?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A number of so many bytes, the highest first.
    fn bits<const COUNT: usize>(&mut self) -> mlua::Result<u64> {
        let bytes: [u8; COUNT] = self.take()?;
        Ok(bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }

    fn text(&mut self, length: usize) -> mlua::Result<Result<Value, Open>> {
        let (text, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.missing())?;
        self.rest = rest;
        self.run.go_on_after(length)?;
        Ok(Ok(Value::String(self.lua.create_string(text)?)))
    }

    /// The count is only believed as far as items come.
    fn array(&self, count: u32) -> mlua::Result<Result<Value, Open>> {
        Ok(Err(Open::Array(self.lua.create_table()?, 0, count)))
    }

    fn map(&self, count: u32) -> mlua::Result<Result<Value, Open>> {
        Ok(Err(Open::Map(self.lua.create_table()?, count, None)))
    }

    fn missing(&self) -> mlua::Error {
        mistake(self.lua, "Missing bytes in input.")
    }
}
