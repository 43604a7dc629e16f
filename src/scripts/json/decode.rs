//! JSON as values of Lua. `null` becomes `cjson.null`, so that it can stand in a table.
//!
//! What is open is kept in a list, so that a deep text takes no stack.

use mlua::{Lua, Table, Value};

use super::super::error::mistake;
use super::super::run::Run;

/// Tokens between two questions whether to go on.
const STEPS: usize = 10_000;

#[derive(Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    /// With what is wrong.
    Invalid(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Text(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Invalid(what) => what,
        }
    }
}

/// An array or an object of which a part is read; an object with the key of its next value.
enum Open {
    Array(Table, usize),
    Object(Table, Vec<u8>),
}

struct Decoder<'a> {
    lua: &'a Lua,
    run: &'a Run,
    text: &'a [u8],
    at: usize,
    /// Where the last token begins.
    token: usize,
    steps: usize,
    may_be_invalid: bool,
}

/// The value of a text.
pub fn decode(lua: &Lua, run: &Run, text: &[u8]) -> mlua::Result<Value> {
    run.go_on_after(text.len())?;
    let settings = *run.json.lock();
    let may_be_invalid = settings.decode_invalid;
    let mut decoder = Decoder { lua, run, text, at: 0, token: 0, steps: 0, may_be_invalid };
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(mistake(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut open = Vec::new();
    let mut token = decoder.next()?;
    loop {
        // A value begins.
        let mut value = match token {
            Token::ArrayBegin | Token::ObjectBegin => {
                if open.len() >= settings.decode_depth {
                    let depth = open.len() + 1;
                    let text = format!(
                        "Found too many nested data structures ({depth}) at character {}",
                        decoder.token + 1
                    );
                    return Err(mistake(lua, text));
                }
                let table = lua.create_table()?;
                let is_array = token == Token::ArrayBegin;
                token = decoder.next()?;
                match (is_array, &token) {
                    (true, Token::ArrayEnd) | (false, Token::ObjectEnd) => Value::Table(table),
                    (true, _) => {
                        open.push(Open::Array(table, 1));
                        continue;
                    }
                    (false, _) => {
                        let key = decoder.key(token)?;
                        open.push(Open::Object(table, key));
                        token = decoder.next()?;
                        continue;
                    }
                }
            }
            Token::Text(text) => Value::String(lua.create_string(text)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(is) => Value::Boolean(is),
            Token::Null => Value::NULL,
            other => return Err(decoder.unexpected("value", &other)),
        };
        // It is put where it belongs, and with it whatever it ends.
        loop {
            token = decoder.next()?;
            match open.pop() {
                None if token == Token::End => return Ok(value),
                None => return Err(decoder.unexpected("the end", &token)),
                Some(Open::Array(table, place)) => {
                    table.raw_set(place, value)?;
                    match token {
                        Token::ArrayEnd => value = Value::Table(table),
                        Token::Comma => {
                            open.push(Open::Array(table, place + 1));
                            break;
                        }
                        other => return Err(decoder.unexpected("comma or array end", &other)),
                    }
                }
                Some(Open::Object(table, key)) => {
                    table.raw_set(lua.create_string(key)?, value)?;
                    match token {
                        Token::ObjectEnd => value = Value::Table(table),
                        Token::Comma => {
                            let token = decoder.next()?;
                            let key = decoder.key(token)?;
                            open.push(Open::Object(table, key));
                            break;
                        }
                        other => return Err(decoder.unexpected("comma or object end", &other)),
                    }
                }
            }
        }
        token = decoder.next()?;
    }
}

impl Decoder<'_> {
    /// A key and the colon after it.
    fn key(&mut self, token: Token) -> mlua::Result<Vec<u8>> {
        let Token::Text(key) = token else {
            return Err(self.unexpected("object key string", &token));
        };
        match self.next()? {
            Token::Colon => Ok(key),
            other => Err(self.unexpected("colon", &other)),
        }
    }

    fn unexpected(&self, wanted: &str, found: &Token) -> mlua::Error {
        let (found, place) = (found.name(), self.token + 1);
        mistake(self.lua, format!("Expected {wanted} but found {found} at character {place}"))
    }

    fn next(&mut self) -> mlua::Result<Token> {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS) {
            self.run.go_on()?;
        }
        let rest = &self.text[self.at..];
        self.at +=
            rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.token = self.at;
        let Some(&byte) = self.text.get(self.at) else { return Ok(Token::End) };
        let single = match byte {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => {
                self.at += 1;
                return Ok(self.string().map_or_else(Token::Invalid, Token::Text));
            }
            _ => return Ok(self.word()),
        };
        self.at += 1;
        Ok(single)
    }

    /// A number, a truth value or null.
    fn word(&mut self) -> Token {
        let rest = &self.text[self.at..];
        for (word, token) in [
            (&b"true"[..], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        let Ok(text) = std::str::from_utf8(&rest[..length]) else {
            return Token::Invalid("invalid token");
        };
        let begins_well = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        let is_plain = begins_well
            && text.bytes().all(|byte| !byte.is_ascii_alphabetic() || byte | 32 == b'e');
        let number = text.parse::<f64>().ok().filter(|_| is_plain || self.may_be_invalid);
        match number {
            Some(number) => {
                self.at += length;
                Token::Number(number)
            }
            None if begins_well => Token::Invalid("invalid number"),
            None => Token::Invalid("invalid token"),
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, &'static str> {
        let mut made = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let length = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count();
            made.extend_from_slice(&rest[..length]);
            self.at += length;
            match self.text.get(self.at) {
                None => return Err("unterminated string"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(made);
                }
                Some(_) => self.escape(&mut made)?,
            }
        }
    }

    fn escape(&mut self, made: &mut Vec<u8>) -> Result<(), &'static str> {
        let byte = match self.text.get(self.at + 1) {
            Some(b'u') => return self.unicode(made),
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            _ => return Err("invalid escape code"),
        };
        made.push(byte);
        self.at += 2;
        Ok(())
    }

    /// `\u` and four digits, or two of these that are one character.
    fn unicode(&mut self, made: &mut Vec<u8>) -> Result<(), &'static str> {
        const INVALID: &str = "invalid unicode escape code";
        let unit = |at: usize| -> Option<u32> {
            let escape = self.text.get(at..at + 6)?;
            let digits = escape.strip_prefix(b"\\u")?;
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
            u32::from_str_radix(digits, 16).ok()
        };
        let first = unit(self.at).ok_or(INVALID)?;
        self.at += 6;
        let code = match first {
            0xd800..=0xdbff => {
                let second = unit(self.at).filter(|unit| (0xdc00..=0xdfff).contains(unit));
                let second = second.ok_or(INVALID)?;
                self.at += 6;
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        let character = char::from_u32(code).ok_or(INVALID)?;
        made.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}
