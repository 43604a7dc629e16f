//! Values of Lua as JSON.
//!
//! A table is an array if all of its keys are whole numbers from 1 on, and an object otherwise, an empty one too.
//! What is open is kept in a list, so that a deep value takes no stack. The pairs of a table are asked for one after
//! the other: Lua lets only some thousand values be held at once from outside.

use mlua::{Function, Lua, Table, Value};

use super::super::error::mistake;
use super::super::memory::SCRIPT_BYTES;
use super::super::run::Run;
use super::{Invalid, Settings};

/// The longest text that is made: beside its value and its copy in Lua there has to be room for more. A small table that
/// is in itself again and again would otherwise be written for a long time, only to find that there is none.
const LONGEST: usize = SCRIPT_BYTES / 4;

/// Values between two questions whether to go on.
const STEPS: usize = 10_000;

/// An array or an object of which a part is written.
enum Open {
    Array(Table, i64, i64),
    /// With the key of the last pair that is written; `nil` before the first.
    Object(Table, Value),
}

struct Encoder<'a> {
    lua: &'a Lua,
    run: &'a Run,
    /// Lua's own function.
    next: &'a Function,
    settings: Settings,
    made: Vec<u8>,
    open: Vec<Open>,
}

/// The text of a value.
pub fn encode(lua: &Lua, run: &Run, next: &Function, value: &Value) -> mlua::Result<mlua::String> {
    let settings = *run.json.lock();
    run.go_on()?;
    let mut encoder = Encoder { lua, run, next, settings, made: Vec::new(), open: Vec::new() };
    encoder.begin(value)?;
    let mut steps = 0;
    while let Some(open) = encoder.open.pop() {
        steps += 1;
        if steps % STEPS == 0 {
            run.go_on()?;
        }
        if encoder.made.len() > LONGEST {
            return Err(mlua::Error::MemoryError("cjson.encode".to_owned()));
        }
        encoder.go_on(open)?;
    }
    lua.create_string(encoder.made)
}

impl Encoder<'_> {
    /// Writes the next item of what is open, or its end.
    fn go_on(&mut self, open: Open) -> mlua::Result<()> {
        match open {
            Open::Array(table, at, last) => {
                if at > last {
                    self.made.push(b']');
                    return Ok(());
                }
                if at > 1 {
                    self.made.push(b',');
                }
                let item = table.raw_get::<Value>(at)?;
                self.open.push(Open::Array(table, at + 1, last));
                self.begin(&item)
            }
            Open::Object(table, last) => {
                let is_first = last.is_nil();
                let (key, value) = self.next.call::<(Value, Value)>((&table, last))?;
                if key.is_nil() {
                    self.made.push(b'}');
                    return Ok(());
                }
                if !is_first {
                    self.made.push(b',');
                }
                match &key {
                    Value::String(key) => string(&key.as_bytes(), &mut self.made),
                    Value::Integer(place) => {
                        self.made.extend_from_slice(format!("\"{place}\"").as_bytes());
                    }
                    Value::Number(key) => {
                        self.made.push(b'"');
                        self.number(*key)?;
                        self.made.push(b'"');
                    }
                    _ => return Err(self.cannot("table", "table key must be a number or string")),
                }
                self.made.push(b':');
                self.open.push(Open::Object(table, key));
                self.begin(&value)
            }
        }
    }

    /// Writes a value, of a table its beginning.
    fn begin(&mut self, value: &Value) -> mlua::Result<()> {
        match value {
            Value::Nil => self.made.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.made.extend_from_slice(b"null");
            }
            Value::Boolean(is) => self.made.extend_from_slice(if *is { b"true" } else { b"false" }),
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::String(text) => string(&text.as_bytes(), &mut self.made),
            Value::Table(table) => self.table(table)?,
            other => return Err(self.cannot(other.type_name(), "type not supported")),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table) -> mlua::Result<()> {
        let depth = self.open.len() + 1;
        if depth > self.settings.encode_depth {
            let text = format!("Cannot serialise, excessive depth ({depth})");
            return Err(mistake(self.lua, text));
        }
        match self.last_place(table)? {
            Some(last) => {
                self.made.push(b'[');
                self.open.push(Open::Array(table.clone(), 1, last));
            }
            None => {
                self.made.push(b'{');
                self.open.push(Open::Object(table.clone(), Value::Nil));
            }
        }
        Ok(())
    }

    /// The last place of an array; `None` if it is none.
    fn last_place(&self, table: &Table) -> mlua::Result<Option<i64>> {
        let place = |key: &Value| match key {
            Value::Integer(place) => Some(*place).filter(|place| *place >= 1),
            Value::Number(place) => {
                Some(*place as i64).filter(|whole| *whole >= 1 && *whole as f64 == *place)
            }
            _ => None,
        };
        let (mut last, mut count) = (0, 0_i64);
        for pair in table.pairs::<Value, Value>() {
            let Some(place) = place(&pair?.0) else { return Ok(None) };
            last = last.max(place);
            count += 1;
            if count % STEPS as i64 == 0 {
                self.run.go_on()?;
            }
        }
        let Settings { convert_sparse, sparse_ratio, sparse_safe, .. } = self.settings;
        let has_holes =
            sparse_ratio > 0 && last > count.saturating_mul(sparse_ratio) && last > sparse_safe;
        match () {
            () if last == 0 || has_holes && convert_sparse => Ok(None),
            () if has_holes => Err(self.cannot("table", "excessively sparse array")),
            () => Ok(Some(last)),
        }
    }

    fn number(&mut self, number: f64) -> mlua::Result<()> {
        if number.is_finite() {
            self.made.extend_from_slice(general(number, self.settings.precision).as_bytes());
            return Ok(());
        }
        let text: &[u8] = match self.settings.encode_invalid {
            Invalid::Refused => return Err(self.cannot("number", "must not be NaN or Inf")),
            Invalid::Null => b"null",
            Invalid::Written if number.is_nan() => b"nan",
            Invalid::Written if number > 0.0 => b"inf",
            Invalid::Written => b"-inf",
        };
        self.made.extend_from_slice(text);
        Ok(())
    }

    fn cannot(&self, kind: &str, why: &str) -> mlua::Error {
        mistake(self.lua, format!("Cannot serialise {kind}: {why}"))
    }
}

fn string(text: &[u8], made: &mut Vec<u8>) {
    made.push(b'"');
    for &byte in text {
        match byte {
            b'"' => made.extend_from_slice(b"\\\""),
            b'\\' => made.extend_from_slice(b"\\\\"),
            b'/' => made.extend_from_slice(b"\\/"),
            8 => made.extend_from_slice(b"\\b"),
            b'\t' => made.extend_from_slice(b"\\t"),
            b'\n' => made.extend_from_slice(b"\\n"),
            12 => made.extend_from_slice(b"\\f"),
            b'\r' => made.extend_from_slice(b"\\r"),
            0..=31 | 127 => made.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => made.push(byte),
        }
    }
    made.push(b'"');
}

/// A number with this many digits, as C's `%g` prints it.
fn general(number: f64, precision: usize) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{number:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{number:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        for (number, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e14, "1e+14"),
            (99_999_999_999_999.0, "99999999999999"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
            (123_456_789_012_345_680.0, "1.2345678901235e+17"),
        ] {
            assert_eq!(general(number, 14), text);
        }
    }
}
