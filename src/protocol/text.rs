//! The text protocol: one command per line, one line per reply, for people with `nc`.
//!
//! | line | reply |
//! |------|-------|
//! | `SET key value` | `+OK` |
//! | `GET key` | `+OK value`, or `-GET could not find key in store` |
//! | `DEL key` | `+OK`, whether or not it was there |
//! | any other command of the table | what Redis answers |
//! | anything else | `-INVALID COMMAND` |
//! | a blank line | nothing |
//!
//! In a transaction each of them is answered with `+QUEUED`, and EXEC with an array as Redis has it.
//! Words are separated by white space and may be quoted as in Redis's inline commands (`sdssplitargs`
//! there): `"a b\n\x00"`, `'a b'`. A quote counts only at the start of a word, so that `it's` is a
//! word. What GET prints can be pasted into SET: a value that is no plain word is printed in double
//! quotes, so that no value can break a line. A reply ends as its line did.

use std::borrow::Cow;
use std::io::Write;

use super::{Limits, Parsed, Request, commands, resp};
use crate::command::{Command, Dialect, LineEnd, Reply, RespVersion, SetOptions};
use crate::entry::Entry;
use crate::quote::print;

const TOO_LONG: &str = "ERR Protocol error: too big inline request";
const TOO_LONG_VALUE: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
const INVALID: &str = "INVALID COMMAND";
const UNBALANCED: &str = "ERR Protocol error: unbalanced quotes in request";

/// Takes the first line off `received`, the first `scanned` bytes of which hold no line end.
pub fn parse(received: &[u8], scanned: usize, version: RespVersion, limits: &Limits) -> Parsed {
    let Some(found) = memchr::memchr(b'\n', &received[scanned..]) else {
        // A carriage return may turn out to be part of the line's end.
        let line = received.strip_suffix(b"\r").unwrap_or(received);
        return match line.len() > limits.line {
            true => Parsed::Fatal(TOO_LONG.into(), Dialect::Text(LineEnd::Lf)),
            false => Parsed::Incomplete,
        };
    };
    let length = scanned + found;
    let (line, line_end) = match received[..length].strip_suffix(b"\r") {
        Some(line) => (line, LineEnd::CrLf),
        None => (&received[..length], LineEnd::Lf),
    };
    let text = Dialect::Text(line_end);
    if line.len() > limits.line {
        return Parsed::Fatal(TOO_LONG.into(), text);
    }
    let words: Result<Vec<_>, Unbalanced> = Words(line).collect();
    let Ok(words) = words else {
        return Parsed::Fatal(UNBALANCED.into(), text);
    };
    let Some(name) = words.first() else {
        return Parsed::Nothing(length + 1);
    };
    if resp::is_http(name) {
        return Parsed::Http;
    }
    if words.iter().any(|word| word.len() > limits.value) {
        return Parsed::Request(Request::Refused(TOO_LONG_VALUE.into()), text, length + 1, None);
    }
    // What a person types to try the server has answers for people; the rest is Redis's.
    if let Some((name, request)) = own_request(&words, limits) {
        return Parsed::Request(request, text, length + 1, commands::spec_named(name));
    }
    let words: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
    let (request, spec) = commands::request(&words, limits);
    match spec {
        Some(_) => Parsed::Request(request, Dialect::Resp(version), length + 1, spec),
        None => Parsed::Request(Request::Refused(INVALID.into()), text, length + 1, None),
    }
}

/// SET, GET and DEL, in the seed's form.
fn own_request(words: &[Cow<'_, [u8]>], limits: &Limits) -> Option<(&'static [u8], Request)> {
    let (name, request) = match words {
        [name, rest @ ..] if name.eq_ignore_ascii_case(b"SET") => (
            &b"set"[..],
            match rest {
                [key, value] => Ok(Command::Set(Entry::new(key, value), SetOptions::default())),
                _ => Err("SET expected 2 arguments KEY and VALUE"),
            },
        ),
        [name, rest @ ..] if name.eq_ignore_ascii_case(b"GET") => (
            &b"get"[..],
            match rest {
                [key] => Ok(Command::Get((**key).into())),
                _ => Err("GET expected 1 argument KEY"),
            },
        ),
        [name, rest @ ..] if name.eq_ignore_ascii_case(b"DEL") => (
            &b"del"[..],
            match rest {
                [key] => Ok(Command::Del(vec![(**key).into()])),
                _ => Err("DEL expected 1 argument KEY"),
            },
        ),
        _ => return None,
    };
    if words.get(1).is_some_and(|key| key.len() > limits.key) {
        return Some((name, Request::Refused(commands::key_too_long(limits))));
    }
    let refused = |error: &'static str| Request::Refused(error.into());
    Some((name, request.map_or_else(refused, Request::Command)))
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
    match (reply, command) {
        (Reply::Ok, _) => out.extend_from_slice(b"+OK"),
        (Reply::Simple(word), _) => append(out, format_args!("+{word}")),
        (Reply::Integer(_), Command::Del(_)) => out.extend_from_slice(b"+OK"),
        (Reply::Bulk(value), _) => {
            out.extend_from_slice(b"+OK ");
            print(value, out);
        }
        (Reply::Null, Command::Get(key)) => {
            out.extend_from_slice(b"-GET could not find ");
            print(key, out);
            out.extend_from_slice(b" in store");
        }
        (Reply::Error(error), _) => return encode_error(error, line_end, out),
        (Reply::NotDurable(reason), _) => {
            append(out, format_args!("-ERR not confirmed, the log takes no more writes: {reason}"));
        }
        // No answer of SET, GET or DEL. Whatever it answers is spelled as what it is.
        (
            Reply::Null
            | Reply::NullArray
            | Reply::Integer(_)
            | Reply::Verbatim(_)
            | Reply::Array(_)
            | Reply::Map(_),
            _,
        ) => return resp::encode(RespVersion::V2, reply, out),
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

#[cfg(test)]
mod tests {
    use super::*;

    const V2: RespVersion = RespVersion::V2;

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
        let limits = Limits::default();
        let mut line = vec![b'x'; limits.line];
        assert!(matches!(parse(&line, 0, V2, &limits), Parsed::Incomplete));
        line.push(b'\r');
        assert!(matches!(parse(&line, 0, V2, &limits), Parsed::Incomplete));
        line.push(b'\n');
        assert!(matches!(parse(&line, 0, V2, &limits), Parsed::Request(..)));
        line.insert(0, b'x');
        assert!(matches!(parse(&line, 0, V2, &limits), Parsed::Fatal(..)));
        line.pop();
        assert!(matches!(parse(&line, 0, V2, &limits), Parsed::Fatal(..)));
    }
}
