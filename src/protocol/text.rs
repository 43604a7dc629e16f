//! The text protocol: one command per line, one line per reply, for people with `nc`.
//!
//! | line | reply |
//! |------|-------|
//! | `SET key value` | `+OK` |
//! | `GET key` | `+OK value`, or `-GET could not find key in store` |
//! | `DEL key` | `+OK`, whether or not it was there |
//! | `INFO` | the counters, as Redis sends them |
//! | a blank line | nothing |
//!
//! Words are separated by white space and may be quoted as in Redis's inline commands (`sdssplitargs`
//! there): `"a b\n\x00"`, `'a b'`. A quote counts only at the start of a word, so that `it's` is a
//! word. What GET prints can be pasted into SET: a value that is no plain word is printed in double
//! quotes, so that no value can break a line. A reply ends as its line did.

use std::borrow::Cow;
use std::io::Write;

use super::Parsed;
use crate::command::{Command, Dialect, LineEnd, Reply};
use crate::entry::Entry;

/// The longest line, without its end: Redis's limit for inline requests (PROTO_INLINE_MAX_SIZE).
pub const LINE_BYTES: usize = 64 * 1024;

const TOO_LONG: &str = "ERR Protocol error: too big inline request";
const UNBALANCED: &str = "ERR Protocol error: unbalanced quotes in request";

/// Takes the first line off `received`, the first `scanned` bytes of which hold no line end.
pub fn parse(received: &[u8], scanned: usize) -> Parsed {
    let Some(found) = memchr::memchr(b'\n', &received[scanned..]) else {
        // A carriage return may turn out to be part of the line's end.
        let line = received.strip_suffix(b"\r").unwrap_or(received);
        return match line.len() > LINE_BYTES {
            true => Parsed::Fatal(TOO_LONG, Dialect::Text(LineEnd::Lf)),
            false => Parsed::Incomplete,
        };
    };
    let length = scanned + found;
    let (line, line_end) = match received[..length].strip_suffix(b"\r") {
        Some(line) => (line, LineEnd::CrLf),
        None => (&received[..length], LineEnd::Lf),
    };
    let dialect = Dialect::Text(line_end);
    if line.len() > LINE_BYTES {
        return Parsed::Fatal(TOO_LONG, dialect);
    }
    match command(line) {
        Ok(Some(command)) => Parsed::Request(command, dialect, length + 1),
        Ok(None) => Parsed::Nothing(length + 1),
        Err(Unbalanced) => Parsed::Fatal(UNBALANCED, dialect),
    }
}

/// The command in a line, if it is not blank.
fn command(line: &[u8]) -> Result<Option<Command>, Unbalanced> {
    let mut words = Words(line);
    let Some(name) = words.next().transpose()? else {
        return Ok(None);
    };
    let first = words.next().transpose()?;
    let second = words.next().transpose()?;
    let third = words.next().transpose()?;
    // Quotes that do not balance make the whole line doubtful, also where nobody looks.
    words.try_for_each(|word| word.map(drop))?;

    let mistake = |error: &'static str| Command::Mistake(error.into());
    let command = if name.eq_ignore_ascii_case(b"SET") {
        match (first, second, third) {
            (Some(key), Some(value), None) => Command::Set(Entry::new(&key, &value)),
            _ => mistake("SET expected 2 arguments KEY and VALUE"),
        }
    } else if name.eq_ignore_ascii_case(b"GET") {
        match (first, second) {
            (Some(key), None) => Command::Get(key.into()),
            _ => mistake("GET expected 1 argument KEY"),
        }
    } else if name.eq_ignore_ascii_case(b"DEL") {
        match (first, second) {
            (Some(key), None) => Command::Del(key.into()),
            _ => mistake("DEL expected 1 argument KEY"),
        }
    } else if name.eq_ignore_ascii_case(b"INFO") {
        Command::Info
    } else {
        mistake("INVALID COMMAND")
    };
    Ok(Some(command))
}

/// A line whose quotes do not balance.
#[derive(Debug, PartialEq, Eq)]
struct Unbalanced;

/// The words of a line.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = Result<Cow<'a, [u8]>, Unbalanced>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|&byte| !is_space(byte))?;
        let line = &self.0[start..];
        let quote = line[0];
        if quote != b'"' && quote != b'\'' {
            let end = line.iter().position(|&byte| is_space(byte)).unwrap_or(line.len());
            self.0 = &line[end..];
            return Some(Ok(Cow::Borrowed(&line[..end])));
        }
        let unquoted = unquote(&line[1..], quote);
        self.0 = unquoted.as_ref().map_or(&[], |(_, rest)| rest);
        Some(unquoted.map(|(word, _)| Cow::Owned(word)))
    }
}

/// The word up to the closing quote, and what follows it.
fn unquote(mut rest: &[u8], quote: u8) -> Result<(Vec<u8>, &[u8]), Unbalanced> {
    let mut word = Vec::new();
    loop {
        let (byte, taken) = match *rest {
            [closing, ref rest @ ..] if closing == quote => {
                let ends = rest.first().is_none_or(|&next| is_space(next));
                return if ends { Ok((word, rest)) } else { Err(Unbalanced) };
            }
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', b'x', high, low, ..] if quote == b'"' => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => (high << 4 | low, 4),
                _ => (b'x', 2),
            },
            [b'\\', escaped, ..] if quote == b'"' => (unescape(escaped), 2),
            [byte, ..] => (byte, 1),
            [] => return Err(Unbalanced),
        };
        word.push(byte);
        rest = &rest[taken..];
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// White space as C's `isspace` has it, which is what Redis goes by.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends a reply.
pub fn encode(command: &Command, line_end: LineEnd, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply {
        Reply::Bulk(text) if *command == Command::Info => {
            append(out, format_args!("${}\r\n", text.len()));
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
            return;
        }
        Reply::Bulk(value) => {
            out.extend_from_slice(b"+OK ");
            print(value, out);
        }
        Reply::Null => {
            out.extend_from_slice(b"-GET could not find ");
            if let Command::Get(key) = command {
                print(key, out);
            }
            out.extend_from_slice(b" in store");
        }
        Reply::Ok | Reply::Integer(_) => out.extend_from_slice(b"+OK"),
        Reply::Error(error) => return encode_error(error, line_end, out),
        Reply::NotDurable(reason) => {
            append(out, format_args!("-ERR not written, the log takes no more writes: {reason}"));
        }
    }
    end_line(line_end, out);
}

/// Appends an error line.
pub fn encode_error(error: &str, line_end: LineEnd, out: &mut Vec<u8>) {
    append(out, format_args!("-{error}"));
    end_line(line_end, out);
}

fn end_line(line_end: LineEnd, out: &mut Vec<u8>) {
    out.extend_from_slice(match line_end {
        LineEnd::Lf => b"\n",
        LineEnd::CrLf => b"\r\n",
    });
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}

/// Appends a key or value so that it is one word of one line: as it is where it is a plain word,
/// else in double quotes.
fn print(word: &[u8], out: &mut Vec<u8>) {
    if is_plain(word) {
        out.extend_from_slice(word);
        return;
    }
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            7 => out.extend_from_slice(b"\\a"),
            b' '..=b'~' => out.push(byte),
            _ => append(out, format_args!("\\x{byte:02x}")),
        }
    }
    out.push(b'"');
}

/// Whether a word is read back as it stands: not empty, text, without white space or control
/// characters (a terminal would obey them), not begun with a quote.
fn is_plain(word: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(word) else {
        return false;
    };
    !text.is_empty()
        && !text.starts_with(['"', '\''])
        && !text.chars().any(|char| char == ' ' || char.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, Unbalanced> {
        let text = |word: Cow<'_, [u8]>| String::from_utf8_lossy(&word).into_owned();
        Words(line.as_bytes()).map(|word| word.map(text)).collect()
    }

    #[test]
    fn words_are_split_at_white_space_and_joined_by_quotes() {
        let split = |line| words(line).expect("balanced");
        assert_eq!(split("  SET\ta \x0b b "), ["SET", "a", "b"]);
        assert_eq!(split(r#"a "b c" 'd "e' "" "#), ["a", "b c", "d \"e", ""]);
        assert_eq!(split(r#""\x41\n\t\\\"\q\xzz" '\x41\''"#), ["A\n\t\\\"qxzz", "\\x41'"]);
        assert_eq!(split("it's 5\" a\\b"), ["it's", "5\"", "a\\b"]);
        assert!(split("").is_empty());
        for line in ["\"", "a 'b", "\"a\"b", "\"a\\\"", "''''"] {
            assert_eq!(words(line), Err(Unbalanced), "{line}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back_as_the_same_bytes() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for word in [
            &b""[..],
            b"plain",
            b"two words",
            b"\"",
            b"'",
            b"\\",
            b"\r\n",
            "é".as_bytes(),
            b"\xff",
            b"\0",
            b"it's",
            &every_byte,
            "\u{85}".as_bytes(),
        ] {
            let mut line = Vec::new();
            print(word, &mut line);
            assert!(!line.contains(&b'\n'));
            let mut read = Words(&line);
            assert_eq!(read.next(), Some(Ok(Cow::Borrowed(word))));
            assert_eq!(read.next(), None);
        }
    }

    #[test]
    fn a_line_at_the_limit_is_taken_and_one_byte_more_is_fatal() {
        let mut line = vec![b'x'; LINE_BYTES];
        assert_eq!(parse(&line, 0), Parsed::Incomplete);
        line.push(b'\r');
        assert_eq!(parse(&line, 0), Parsed::Incomplete);
        line.push(b'\n');
        assert!(matches!(parse(&line, 0), Parsed::Request(..)));
        line.insert(0, b'x');
        assert!(matches!(parse(&line, 0), Parsed::Fatal(TOO_LONG, _)));
        line.pop();
        assert!(matches!(parse(&line, 0), Parsed::Fatal(TOO_LONG, _)));
    }
}
