//! RESP as a client has it: requests as arrays of bulk strings, replies taken apart byte for byte.
//!
//! Nothing is forgiven: a line that does not end in CRLF, or a type that is not RESP, fails the test.
//! [`Value`] distinguishes what the two versions of RESP spell differently.

use std::fmt;

use crate::common::Client;

/// A reply.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `,`, as it is spelled
    Double(String),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`
    NullBulk,
    /// `*-1`
    NullArray,
    /// `_`
    Null,
    /// `=`, without its kind, which is `txt`
    Verbatim(Vec<u8>),
    /// `*`
    Array(Vec<Value>),
    /// `%`, names and values in turn
    Map(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `~`
    Set(Vec<Value>),
}

impl Value {
    pub fn ok() -> Value {
        Value::Simple("OK".into())
    }

    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    pub fn error(text: &str) -> Value {
        Value::Error(text.into())
    }
}

/// As the scripts spell it.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open, items: &[Value], close| {
            let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            write!(f, "{open}{}{close}", items.join(" "))
        };
        match self {
            Value::Simple(word) => f.write_str(word),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Double(number) => write!(f, ",{number}"),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Bulk(bytes) if bytes.len() > 500 => write!(f, "\"…{} bytes\"", bytes.len()),
            Value::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::Verbatim(bytes) => write!(f, "=\"{}\"", bytes.escape_ascii()),
            Value::NullBulk => f.write_str("($-1)"),
            Value::NullArray => f.write_str("(*-1)"),
            Value::Null => f.write_str("(_)"),
            Value::Array(items) => list(f, '[', items, ']'),
            Value::Map(items) => list(f, '{', items, '}'),
            Value::Push(items) => list(f, '(', items, ')'),
            Value::Set(items) => list(f, '~', items, '~'),
        }
    }
}

/// A request, as RESP has it.
pub fn request<W: AsRef<[u8]>>(words: impl AsRef<[W]>) -> Vec<u8> {
    let words = words.as_ref();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The request that these words, separated by spaces, make.
pub fn spaced(words: &str) -> Vec<u8> {
    request(words.split(' ').collect::<Vec<_>>())
}

/// The next reply, or what came instead.
pub fn reply(client: &mut Client) -> Result<Value, String> {
    let line = client.try_line().map_err(|error| format!("no reply: {error}"))?;
    let line = line.strip_suffix(b"\r").ok_or_else(|| format!("no CRLF: {}", shown(&line)))?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut chars = line.chars();
    let kind = chars.next().ok_or("an empty line")?;
    let rest = chars.as_str();
    let number = || rest.parse::<i64>().map_err(|_| format!("not a number: {line}"));
    let items = |client: &mut Client, count| -> Result<Vec<Value>, String> {
        (0..count).map(|_| reply(client)).collect()
    };
    Ok(match kind {
        '+' => Value::Simple(rest.into()),
        '-' => Value::Error(rest.into()),
        ':' => Value::Integer(number()?),
        ',' => Value::Double(rest.into()),
        '_' if rest.is_empty() => Value::Null,
        '$' if rest == "-1" => Value::NullBulk,
        '*' if rest == "-1" => Value::NullArray,
        '$' => {
            let length = usize::try_from(number()?).map_err(|_| line.clone())?;
            let bytes = client.try_exact(length + 2).map_err(|error| error.to_string())?;
            let value = bytes.strip_suffix(b"\r\n").ok_or("no CRLF behind a bulk string")?;
            Value::Bulk(value.to_vec())
        }
        '=' => {
            let length = usize::try_from(number()?).map_err(|_| line.clone())?;
            let bytes = client.try_exact(length + 2).map_err(|error| error.to_string())?;
            let text = bytes.strip_suffix(b"\r\n").ok_or("no CRLF behind a text")?;
            Value::Verbatim(text.strip_prefix(b"txt:").ok_or("not plain text")?.to_vec())
        }
        '*' => Value::Array(items(client, number()?)?),
        '>' => Value::Push(items(client, number()?)?),
        '~' => Value::Set(items(client, number()?)?),
        '%' => Value::Map(items(client, 2 * number()?)?),
        _ => return Err(format!("not RESP: {line:.200}")),
    })
}

/// Sends a request and takes its reply.
pub fn ask<W: AsRef<[u8]>>(client: &mut Client, words: impl AsRef<[W]>) -> Value {
    client.send(request(words));
    reply(client).expect("a reply")
}

/// The same, for words that are separated by spaces.
pub fn say(client: &mut Client, words: &str) -> Value {
    client.send(spaced(words));
    reply(client).expect("a reply")
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}
