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
//! In a transaction the reply to each is `+QUEUED`, and the reply to EXEC is an array as in RESP.
//! Words are separated by white space and may be quoted as in Redis's inline commands (`sdssplitargs`
//! there): `"a b\n\x00"`, `'a b'`. A quote counts only at the start of a word, so that `it's` is a
//! word. The value that GET prints can be pasted into SET: unless it is a plain word it is printed in
//! double quotes, so that no value can break a line. A reply ends as its line did.

use std::io::Write;
use std::ops::Range;

use super::{Found, Limits, Parsed, resp};
use crate::command::{Dialect, LineEnd, Reply, RespVersion};
use crate::quote::print;

const TOO_LONG: &str = "ERR Protocol error: too big inline request";
const UNBALANCED: &str = "ERR Protocol error: unbalanced quotes in request";

/// The first bytes of a TLS record with a handshake (RFC 8446, 5.1). Most such records have no line end, and both
/// sides would wait for each other.
const TLS: [u8; 2] = [22, 3];

/// Takes the first line off `received`, the first `scanned` bytes of which hold no line end.
pub fn parse<'a>(received: &'a mut [u8], scanned: usize, limits: &Limits) -> Parsed<'a> {
    if received.starts_with(&TLS) {
        return Parsed::Tls;
    }
    let Some(found) = memchr::memchr(b'\n', &received[scanned..]) else {
        // A carriage return may turn out to be part of the line's end.
        let line = received.strip_suffix(b"\r").unwrap_or(received);
        return match line.len() > limits.line {
            true => Parsed::Fatal(TOO_LONG.into(), Dialect::Text(LineEnd::Lf)),
            false => Parsed::Incomplete,
        };
    };
    let taken = scanned + found + 1;
    let (end, line_end) = match received[..taken] {
        [.., b'\r', b'\n'] => (taken - 2, LineEnd::CrLf),
        _ => (taken - 1, LineEnd::Lf),
    };
    let (line, text) = (&mut received[..end], Dialect::Text(line_end));
    if line.len() > limits.line {
        return Parsed::Fatal(TOO_LONG.into(), text);
    }
    let Ok(words) = split(line) else {
        return Parsed::Fatal(UNBALANCED.into(), text);
    };
    let words: Found<'_> = words.into_iter().map(|word| &line[word]).collect();
    match words.first() {
        None => Parsed::Nothing(taken),
        Some(name) if resp::is_http(name) => Parsed::Http,
        Some(_) if words.iter().any(|word| word.len() > limits.value) => {
            Parsed::TooLong(text, taken)
        }
        Some(_) => Parsed::Request(words, text, taken),
    }
}

/// A line whose quotes do not balance.
#[derive(Debug, PartialEq, Eq)]
struct Unbalanced;

/// Removes the quotes from a line, and returns where its words are then.
fn split(line: &mut [u8]) -> Result<Vec<Range<usize>>, Unbalanced> {
    let (mut words, mut at) = (Vec::new(), 0);
    while let Some(skipped) = line[at..].iter().position(|&byte| !is_space(byte)) {
        let start = at + skipped;
        let quote = line[start];
        let (word, end) = match quote {
            b'"' | b'\'' => unquote(line, start + 1, quote)?,
            _ => {
                let length = line[start..].iter().position(|&byte| is_space(byte));
                let end = length.map_or(line.len(), |length| start + length);
                (start..end, end)
            }
        };
        words.push(word);
        at = end;
    }
    Ok(words)
}

/// Removes the escapes from a word that begins at `start`, after its quote. Returns where the word is then,
/// and where the next one may begin.
fn unquote(line: &mut [u8], start: usize, quote: u8) -> Result<(Range<usize>, usize), Unbalanced> {
    let (mut end, mut at) = (start, start);
    loop {
        let (byte, taken) = match line[at..] {
            [closing, ref rest @ ..] if closing == quote => {
                let ends = rest.first().is_none_or(|&next| is_space(next));
                return if ends { Ok((start..end, at + 1)) } else { Err(Unbalanced) };
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
        line[end] = byte;
        end += 1;
        at += taken;
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

/// White space as in C's `isspace`, which Redis uses.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the reply to SET, GET or DEL; other replies are spelled as in RESP. `key` is the key that GET
/// asked for.
pub fn encode(key: &[u8], line_end: LineEnd, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply {
        // DEL's reply says that it was done, not how many keys there were.
        Reply::Ok | Reply::Integer(_) => out.extend_from_slice(b"+OK"),
        Reply::Simple(word) => append(out, format_args!("+{word}")),
        Reply::Bulk(value) => {
            out.extend_from_slice(b"+OK ");
            print(value, out);
        }
        Reply::Null => {
            out.extend_from_slice(b"-GET could not find ");
            print(key, out);
            out.extend_from_slice(b" in store");
        }
        Reply::Error(error) => append(out, format_args!("-{error}")),
        Reply::NotDurable(reason) => {
            append(out, format_args!("-ERR not confirmed, the log takes no more writes: {reason}"));
        }
        Reply::NullArray
        | Reply::Verbatim(_)
        | Reply::Marked(..)
        | Reply::Status(_)
        | Reply::Double(_)
        | Reply::Boolean(_)
        | Reply::BigNumber(_)
        | Reply::Array(_)
        | Reply::Map(_)
        | Reply::Set(_) => {
            return resp::encode(RespVersion::V2, reply, out);
        }
    }
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

    fn words(line: &str) -> Result<Vec<String>, Unbalanced> {
        let mut line = line.as_bytes().to_vec();
        let words = split(&mut line)?;
        Ok(words.into_iter().map(|word| String::from_utf8_lossy(&line[word]).into()).collect())
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
    fn a_printed_word_is_read_back_as_the_same_bytes() {
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
            let words = split(&mut line).expect("balanced");
            let words: Vec<&[u8]> = words.into_iter().map(|word| &line[word]).collect();
            assert_eq!(words, [word]);
        }
    }

    #[test]
    fn a_line_at_the_limit_is_taken_and_one_byte_more_is_fatal() {
        let limits = Limits::default();
        let mut line = vec![b'x'; limits.line];
        assert!(matches!(parse(&mut line, 0, &limits), Parsed::Incomplete));
        line.push(b'\r');
        assert!(matches!(parse(&mut line, 0, &limits), Parsed::Incomplete));
        line.push(b'\n');
        assert!(matches!(parse(&mut line, 0, &limits), Parsed::Request(..)));
        line.insert(0, b'x');
        assert!(matches!(parse(&mut line, 0, &limits), Parsed::Fatal(..)));
        line.pop();
        assert!(matches!(parse(&mut line, 0, &limits), Parsed::Fatal(..)));
    }
}
