//! `struct`: numbers and texts in the layout of a C struct and back, with the formats, sizes and error texts of
//! Redis's library.
//!
//! | format | meaning |
//! |--------|---------|
//! | `<`, `>` | from here on the lowest byte first, the highest first |
//! | `!n` | from here on values begin at multiples of their size, or of `n` for longer ones |
//! | `b` `h` `l` `T`, `in` | a signed number of 1, 2, 8, 8, `n` bytes; in capitals unsigned |
//! | `f`, `d` | a floating-point number of 4, 8 bytes |
//! | `s` | a text that ends with a zero |
//! | `cn` | `n` bytes of a text; `c0` is all of it, and on the way back as many as the number before it says |
//! | `x`, space | a zero byte, nothing |

use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value, Variadic};

use super::error::mistake;
use super::memory::SCRIPT_BYTES;
use super::run::Run;
use super::strings::{float, number, text};

/// The longest number, in bytes: as in Redis.
const NUMBER_BYTES: usize = 32;

/// The greatest alignment by default: that of a `double`.
const ALIGNMENT: usize = 8;

/// The longest text that is made: it is copied into Lua after it is made here. Only padding makes a long one of little.
const LONGEST: usize = SCRIPT_BYTES / 4;

/// The most values of one text: a function's results have to fit into Lua's stack, of 8,000 places, twice.
const RESULTS: usize = 3900;

/// Parts of a format between two questions whether to go on.
const STEPS: usize = 10_000;

/// The library.
pub fn library(lua: &Lua, run: &Arc<Run>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let of_run = run.clone();
    let packs = move |lua: &Lua, values: Variadic<Value>| pack(lua, &of_run, &values);
    library.raw_set("pack", lua.create_function(packs)?)?;
    let of_run = run.clone();
    let unpacks = move |lua: &Lua, values: Variadic<Value>| unpack(lua, &of_run, &values);
    library.raw_set("unpack", lua.create_function(unpacks)?)?;
    let of_run = run.clone();
    let sizes = move |lua: &Lua, values: Variadic<Value>| size(lua, &of_run, &values);
    library.raw_set("size", lua.create_function(sizes)?)?;
    Ok(library)
}

/// A part of a format: its letter, the size of its value, and the padding before it.
struct Part {
    letter: u8,
    size: usize,
    padding: usize,
}

/// A format that is being read, with what it has chosen so far.
struct Format<'a> {
    lua: &'a Lua,
    run: &'a Run,
    name: &'static str,
    rest: &'a [u8],
    is_little: bool,
    alignment: usize,
    steps: usize,
}

impl<'a> Format<'a> {
    /// A format ends at its first zero byte, as a text of C.
    fn new(lua: &'a Lua, run: &'a Run, name: &'static str, text: &'a [u8]) -> Format<'a> {
        let length = memchr::memchr(0, text).unwrap_or(text.len());
        let rest = &text[..length];
        Format { lua, run, name, rest, is_little: true, alignment: 1, steps: 0 }
    }

    /// The next part, whose value or padding begins at this place.
    fn next(&mut self, at: usize) -> mlua::Result<Option<Part>> {
        let Some((&letter, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS) {
            self.run.go_on()?;
        }
        let size = match letter {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.digits()?.unwrap_or(1),
            b'i' | b'I' => self.digits()?.unwrap_or(4),
            _ => 0,
        };
        if matches!(letter, b'i' | b'I') && size > NUMBER_BYTES {
            let text = format!("integral size {size} is larger than limit of {NUMBER_BYTES}");
            return Err(mistake(self.lua, text));
        }
        let step = if letter == b'c' { 0 } else { size.min(self.alignment) };
        // As in Redis also for a step that is no power of two.
        let padding = if step == 0 { 0 } else { (step - (at & (step - 1))) & (step - 1) };
        Ok(Some(Part { letter, size, padding }))
    }

    /// The number at the beginning of the rest, which C has to have room for.
    fn digits(&mut self) -> mlua::Result<Option<usize>> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        let number = digits.iter().try_fold(0_i32, |number, digit| {
            number.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        match number {
            _ if count == 0 => Ok(None),
            Some(number) => Ok(Some(number as usize)),
            None => Err(mistake(self.lua, "integral size overflow")),
        }
    }

    /// What a letter that stands for no value chooses.
    fn choose(&mut self, letter: u8) -> mlua::Result<()> {
        match letter {
            b' ' => {}
            b'<' => self.is_little = true,
            b'>' => self.is_little = false,
            b'!' => {
                let alignment = self.digits()?.unwrap_or(ALIGNMENT);
                if !alignment.is_power_of_two() {
                    let text = format!("alignment {alignment} is not a power of 2");
                    return Err(mistake(self.lua, text));
                }
                self.alignment = alignment;
            }
            other => {
                let text = format!("invalid format option '{}'", char::from(other));
                return Err(self.bad(1, &text));
            }
        }
        Ok(())
    }

    fn bad(&self, place: usize, why: &str) -> mlua::Error {
        mistake(self.lua, format!("bad argument #{place} to '{}' ({why})", self.name))
    }
}

fn pack(lua: &Lua, run: &Run, values: &[Value]) -> mlua::Result<mlua::String> {
    let format = text(lua, values.first(), 1, "pack")?;
    let bytes = format.as_bytes();
    let mut format = Format::new(lua, run, "pack", &bytes);
    let mut made = Vec::new();
    let mut place = 1;
    while let Some(Part { letter, size, padding }) = format.next(made.len())? {
        if made.len() + padding > LONGEST {
            return Err(mlua::Error::MemoryError("struct.pack".to_owned()));
        }
        made.resize(made.len() + padding, 0);
        let mut next = || {
            place += 1;
            // One that is missing counts as nil, as in Redis.
            values.get(place - 1).or(Some(&Value::Nil))
        };
        match letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let value = whole(float(lua, next(), place, "pack")?);
                put(&mut made, value, size, format.is_little);
            }
            b'x' => made.push(0),
            b'f' => {
                let bits = (float(lua, next(), place, "pack")? as f32).to_bits();
                put(&mut made, bits.into(), size, format.is_little);
            }
            b'd' => {
                let bits = float(lua, next(), place, "pack")?.to_bits();
                put(&mut made, bits, size, format.is_little);
            }
            b'c' | b's' => {
                let text = text(lua, next(), place, "pack")?;
                let bytes = text.as_bytes();
                let size = if size == 0 { bytes.len() } else { size };
                if bytes.len() < size {
                    // Redis, too, names the argument after it.
                    return Err(format.bad(place + 1, "string too short"));
                }
                run.go_on_after(size)?;
                if made.len() + size > LONGEST {
                    return Err(mlua::Error::MemoryError("struct.pack".to_owned()));
                }
                made.extend_from_slice(&bytes[..size]);
                if letter == b's' {
                    made.push(0);
                }
            }
            other => format.choose(other)?,
        }
    }
    lua.create_string(made)
}

fn unpack(lua: &Lua, run: &Run, values: &[Value]) -> mlua::Result<MultiValue> {
    let format = text(lua, values.first(), 1, "unpack")?;
    let data = text(lua, values.get(1), 2, "unpack")?;
    let (bytes, data) = (format.as_bytes(), data.as_bytes());
    let start = match values.get(2) {
        None | Some(Value::Nil) => 1,
        start => number(lua, start, 3, "unpack")?,
    };
    let mut format = Format::new(lua, run, "unpack", &bytes);
    if start == 0 {
        return Err(format.bad(3, "offset must be 1 or greater"));
    }
    // A negative one is far behind the end, as in Redis.
    let mut at = (start as usize).wrapping_sub(1);
    let mut found = Vec::new();
    while let Some(Part { letter, mut size, padding }) = format.next(at)? {
        at = at.wrapping_add(padding);
        let mut piece = at_place(&format, &data, at, size)?;
        if found.len() >= RESULTS {
            return Err(mistake(lua, "stack overflow (too many results)"));
        }
        match letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let is_signed = letter.is_ascii_lowercase();
                found.push(Value::Number(whole_in(piece, format.is_little, is_signed)));
            }
            b'x' => {}
            b'f' => {
                let bits = bits_in(piece, format.is_little) as u32;
                found.push(Value::Number(f32::from_bits(bits).into()));
            }
            b'd' => found.push(Value::Number(f64::from_bits(bits_in(piece, format.is_little)))),
            b'c' => {
                if size == 0 {
                    let before = found.pop().map(|value| lua.coerce_number(value)).transpose()?;
                    let before = before
                        .flatten()
                        .ok_or_else(|| mistake(lua, "format 'c0' needs a previous size"))?;
                    size = whole(before) as usize;
                    piece = at_place(&format, &data, at, size)?;
                }
                found.push(Value::String(lua.create_string(piece)?));
            }
            b's' => {
                let length = memchr::memchr(0, &data[at..])
                    .ok_or_else(|| mistake(lua, "unfinished string in data"))?;
                size = length + 1;
                found.push(Value::String(lua.create_string(&data[at..at + length])?));
            }
            other => format.choose(other)?,
        }
        at += size;
    }
    found.push(Value::Number(at.wrapping_add(1) as i64 as f64));
    Ok(found.into_iter().collect())
}

/// This many bytes of the data, from a place on.
fn at_place<'d>(
    format: &Format<'_>,
    data: &'d [u8],
    at: usize,
    size: usize,
) -> mlua::Result<&'d [u8]> {
    let end = at.checked_add(size);
    let piece = end.and_then(|end| data.get(at..end));
    piece.ok_or_else(|| format.bad(2, "data string too short"))
}

fn size(lua: &Lua, run: &Run, values: &[Value]) -> mlua::Result<f64> {
    let format = text(lua, values.first(), 1, "size")?;
    let bytes = format.as_bytes();
    let mut format = Format::new(lua, run, "size", &bytes);
    let mut at = 0;
    while let Some(Part { letter, size, padding }) = format.next(at)? {
        match letter {
            b's' => return Err(format.bad(1, "option 's' has no fixed size")),
            b'c' if size == 0 => return Err(format.bad(1, "option 'c0' has no fixed size")),
            letter if letter.is_ascii_alphanumeric() => {}
            other => format.choose(other)?,
        }
        at += padding + size;
    }
    Ok(at as f64)
}

/// A number as 64 bits: what C's conversions give on the machines that Redis runs on, also for those out of range.
fn whole(number: f64) -> u64 {
    const TOO_MUCH: f64 = 18_446_744_073_709_551_616.0;
    match number {
        number if number < 0.0 => number as i64 as u64,
        number if number.is_nan() => 1 << 63,
        number if number >= TOO_MUCH => 0,
        number => number as u64,
    }
}

/// Appends the lower bytes of a number. Bytes above its own are zero.
fn put(made: &mut Vec<u8>, value: u64, size: usize, is_little: bool) {
    let start = made.len();
    made.extend(value.to_le_bytes().into_iter().chain(std::iter::repeat(0)).take(size));
    if !is_little {
        made[start..].reverse();
    }
}

/// The lower 64 bits of a number.
fn bits_in(bytes: &[u8], is_little: bool) -> u64 {
    let shift = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
    match is_little {
        true => bytes.iter().rev().fold(0, shift),
        false => bytes.iter().fold(0, shift),
    }
}

fn whole_in(bytes: &[u8], is_little: bool, is_signed: bool) -> f64 {
    let bits = bits_in(bytes, is_little);
    if !is_signed {
        return bits as f64;
    }
    // The sign of a number of more than eight bytes is where a shift by more than 63 leads, as in Redis.
    let sign = (bytes.len() as u32 * 8).wrapping_sub(1);
    let mask = u64::MAX.wrapping_shl(sign);
    let extended = if bits & mask == 0 { bits } else { bits | mask };
    extended as i64 as f64
}
