//! Values of Lua as MessagePack.
//!
//! A table is an array if its keys are the whole numbers from 1 to their count, also an empty one, and a map otherwise.
//! What MessagePack does not have becomes nil.

use mlua::{Function, Lua, Table, Value};

use super::super::memory::SCRIPT_BYTES;
use super::super::run::Run;

/// How deep tables are nested; a deeper one becomes nil, as in Redis.
const DEPTH: usize = 16;

/// The longest text that is made: beside its values and its copy in Lua there has to be room for more. A table with
/// itself in it several times would be written for a long time, only to find that there is none.
const LONGEST: usize = SCRIPT_BYTES / 4;

/// Values between two questions whether to go on.
const STEPS: usize = 10_000;

struct Encoder<'a> {
    run: &'a Run,
    /// Lua's own function. Pairs are asked for one after the other, since few values can be held from outside.
    next: &'a Function,
    made: Vec<u8>,
    steps: usize,
}

/// The text of these values, one after the other.
pub fn encode(
    lua: &Lua,
    run: &Run,
    next: &Function,
    values: &[Value],
) -> mlua::Result<mlua::String> {
    run.go_on()?;
    let mut encoder = Encoder { run, next, made: Vec::new(), steps: 0 };
    for value in values {
        encoder.value(value, 0)?;
    }
    lua.create_string(encoder.made)
}

impl Encoder<'_> {
    /// A vector takes all that is written, so writing into it does not fail.
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        self.step()?;
        if self.made.len() > LONGEST {
            return Err(mlua::Error::MemoryError("cmsgpack.pack".to_owned()));
        }
        match value {
            Value::Table(table) if depth < DEPTH => return self.table(table, depth),
            Value::String(text) => {
                let text = text.as_bytes();
                self.run.go_on_after(text.len())?;
                rmp::encode::write_str_len(&mut self.made, text.len() as u32).map_err(broken)?;
                self.made.extend_from_slice(&text);
            }
            Value::Boolean(is) => {
                rmp::encode::write_bool(&mut self.made, *is).map_err(mlua::Error::external)?;
            }
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            _ => rmp::encode::write_nil(&mut self.made).map_err(mlua::Error::external)?,
        }
        Ok(())
    }

    /// A whole number as such, another one in four bytes if that loses nothing.
    fn number(&mut self, number: f64) -> mlua::Result<()> {
        const TOO_MUCH: f64 = 9_223_372_036_854_775_808.0;
        let made = &mut self.made;
        if number.fract() == 0.0 && (-TOO_MUCH..TOO_MUCH).contains(&number) {
            rmp::encode::write_sint(made, number as i64).map_err(broken)?;
        } else if f64::from(number as f32) == number {
            rmp::encode::write_f32(made, number as f32).map_err(broken)?;
        } else {
            rmp::encode::write_f64(made, number).map_err(broken)?;
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let (pairs, is_array) = self.shape(table)?;
        if is_array {
            rmp::encode::write_array_len(&mut self.made, pairs).map_err(broken)?;
            for place in 1..=pairs {
                self.value(&table.raw_get::<Value>(place)?, depth + 1)?;
            }
            return Ok(());
        }
        rmp::encode::write_map_len(&mut self.made, pairs).map_err(broken)?;
        let mut key = Value::Nil;
        loop {
            let value;
            (key, value) = self.next.call::<(Value, Value)>((table, key))?;
            if key.is_nil() {
                return Ok(());
            }
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
        }
    }

    /// How many pairs there are, and whether they are those of an array.
    fn shape(&mut self, table: &Table) -> mlua::Result<(u32, bool)> {
        let (mut count, mut last, mut is_array) = (0_u32, 0, true);
        for pair in table.pairs::<Value, Value>() {
            let place = match pair?.0 {
                Value::Integer(place) => Some(place),
                Value::Number(place) if place.fract() == 0.0 => Some(place as i64),
                _ => None,
            };
            match place.filter(|place| (1..=i64::from(i32::MAX)).contains(place)) {
                Some(place) => last = last.max(place),
                None => is_array = false,
            }
            count += 1;
            self.step()?;
        }
        Ok((count, is_array && last == i64::from(count)))
    }

    fn step(&mut self) -> mlua::Result<()> {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS) { self.run.go_on() } else { Ok(()) }
    }
}

fn broken(why: rmp::encode::ValueWriteError) -> mlua::Error {
    mlua::Error::external(why)
}
