//! Replies as a script spells them: `OK` or `+"two words"` (simple strings), `-ERR text` (to the end of the
//! line, or within an array to ` OK`, ` -` or `]`), `5`, `"bulk"`, `[…]`, and `(nil)`, `(nil-array)`, `{…}`, `>[…]`
//! and `~[…]`, which depend on the version: `$-1`, `*-1`, a flat array, an array and an array in RESP2, `_`, `_`, a map,
//! a push and a set in RESP3. `1..5` is a
//! number from 1 to 5, `(int)` any number, `(any)` anything.

use crate::common::wire::Value;

/// What a reply is to be like.
pub enum Pattern {
    Is(Value),
    Nil,
    NilArray,
    Any,
    Number(i64, i64),
    Array(Vec<Pattern>),
    Map(Vec<Pattern>),
    Push(Vec<Pattern>),
    Set(Vec<Pattern>),
}

impl Pattern {
    pub fn fits(&self, value: &Value, version: u8) -> bool {
        let all = |patterns: &[Pattern], items: &[Value]| {
            let mut pairs = patterns.iter().zip(items);
            patterns.len() == items.len() && pairs.all(|(p, item)| p.fits(item, version))
        };
        match (self, value) {
            (Pattern::Any, _) => true,
            (Pattern::Is(expected), value) => expected == value,
            (Pattern::Nil, Value::NullBulk) | (Pattern::NilArray, Value::NullArray) => version == 2,
            (Pattern::Nil | Pattern::NilArray, Value::Null) => version == 3,
            (Pattern::Number(least, most), Value::Integer(number)) => {
                (least..=most).contains(&number)
            }
            (Pattern::Array(patterns), Value::Array(items)) => all(patterns, items),
            (Pattern::Map(patterns), Value::Array(items)) => version == 2 && all(patterns, items),
            (Pattern::Map(patterns), Value::Map(items)) => version == 3 && all(patterns, items),
            (Pattern::Push(patterns), Value::Array(items)) => version == 2 && all(patterns, items),
            (Pattern::Push(patterns), Value::Push(items)) => version == 3 && all(patterns, items),
            (Pattern::Set(patterns), Value::Array(items)) => version == 2 && all(patterns, items),
            (Pattern::Set(patterns), Value::Set(items)) => version == 3 && all(patterns, items),
            _ => false,
        }
    }
}

pub fn pattern(text: &str) -> Result<Pattern, String> {
    let mut rest = text;
    let pattern = next_pattern(&mut rest, true)?;
    if rest.is_empty() { Ok(pattern) } else { Err(format!("not understood: {rest}")) }
}

fn next_pattern(rest: &mut &str, outermost: bool) -> Result<Pattern, String> {
    let text = *rest;
    if text.starts_with('"') {
        return Ok(Pattern::Is(Value::Bulk(quoted(rest)?)));
    }
    if let Some(text) = text.strip_prefix('>').filter(|text| text.starts_with('[')) {
        *rest = text;
        return match next_pattern(rest, outermost)? {
            Pattern::Array(items) => Ok(Pattern::Push(items)),
            _ => Err("not a push".into()),
        };
    }
    if let Some(text) = text.strip_prefix('~').filter(|text| text.starts_with('[')) {
        *rest = text;
        return match next_pattern(rest, outermost)? {
            Pattern::Array(items) => Ok(Pattern::Set(items)),
            _ => Err("not a set".into()),
        };
    }
    if let Some(text) = text.strip_prefix('+').filter(|text| text.starts_with('"')) {
        *rest = text;
        let line = String::from_utf8_lossy(&quoted(rest)?).into_owned();
        return Ok(Pattern::Is(Value::Simple(line)));
    }
    for (open, close) in [('[', ']'), ('{', '}')] {
        let Some(inner) = text.strip_prefix(open) else {
            continue;
        };
        *rest = inner;
        let mut items = Vec::new();
        while !rest.starts_with(close) {
            items.push(next_pattern(rest, false)?);
            *rest = rest.strip_prefix(' ').unwrap_or(rest);
            if rest.is_empty() {
                return Err(format!("{close} is missing"));
            }
        }
        *rest = &rest[1..];
        return Ok(if open == '[' { Pattern::Array(items) } else { Pattern::Map(items) });
    }
    let is_error = text.starts_with('-') && !text[1..].starts_with(|c: char| c.is_ascii_digit());
    let end = match (outermost, is_error) {
        (true, _) => text.len(),
        (false, true) => {
            let ends = [" OK", " -", "]"].map(|end| text.find(end));
            ends.into_iter().flatten().min().ok_or("no end")?
        }
        (false, false) => text.find([' ', ']', '}']).ok_or("no end")?,
    };
    let (word, after) = text.split_at(end);
    *rest = after;
    Ok(match word {
        "(nil)" => Pattern::Nil,
        "(nil-array)" => Pattern::NilArray,
        "(any)" => Pattern::Any,
        "(int)" => Pattern::Number(i64::MIN, i64::MAX),
        error if is_error => Pattern::Is(Value::error(&error[1..])),
        word => {
            let (least, most) = word.split_once("..").unwrap_or((word, word));
            match (least.parse(), most.parse()) {
                (Ok(least), Ok(most)) => Pattern::Number(least, most),
                _ => Pattern::Is(Value::Simple(word.into())),
            }
        }
    })
}

/// Takes the bytes in quotes off a line that begins with them.
pub fn quoted(line: &mut &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut at = 1;
    loop {
        let (byte, length) = match *line.as_bytes().get(at..).unwrap_or_default() {
            [b'"', ..] => break,
            [b'\\', b'x', ..] => {
                let hex = line.get(at + 2..at + 4);
                let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (byte.ok_or("two hexadecimal digits should follow \\x")?, 4)
            }
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', byte, ..] => (byte, 2),
            [byte, ..] => (byte, 1),
            [] => return Err("no closing quote".into()),
        };
        bytes.push(byte);
        at += length;
    }
    *line = &line[at + 1..];
    Ok(bytes)
}
