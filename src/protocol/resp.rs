//! The Redis serialization protocol, versions 2 and 3 (RESP).
//!
//! A request is `*<count>\r\n` and then `count` words, each `$<length>\r\n<bytes>\r\n`. The parser keeps its
//! place between reads, so a long value is looked at once, and it takes memory only for bytes that have
//! arrived: an announced count or length reserves nothing. Errors and limits are those of Redis 7
//! (`networking.c`).

use std::io::Write;
use std::ops::Range;

use super::{Found, Limits, Parsed, STRANGERS_REQUEST_BYTES};
use crate::command::{Dialect, Reply, RespVersion, integer, shortest};

/// The longest line that announces a count or length: Redis's PROTO_INLINE_MAX_SIZE.
const HEADER_BYTES: usize = 64 * 1024;

/// What a client may send that has not logged in yet: Redis's limits.
const UNAUTHENTICATED_WORDS: i64 = 10;
const UNAUTHENTICATED_BYTES: usize = 16 * 1024;

/// How RESP3 marks a text for people as plain text.
const PLAIN_TEXT: [u8; 3] = *b"txt";

/// The place in a request that has not arrived as a whole.
///
/// - `words` are the places of the words found so far; `at` is the place of the next header.
#[derive(Default)]
pub struct Parser {
    words: Vec<Range<usize>>,
    /// Words that are still to come; `None` before the count is known.
    missing: Option<usize>,
    at: usize,
}

/// Why there is no request.
enum Stop {
    Incomplete,
    Error(String),
}

impl Parser {
    /// Takes a request off the front of `received`, which begins with `*`.
    pub fn parse<'a>(
        &mut self,
        received: &'a [u8],
        version: RespVersion,
        limits: &Limits,
        authenticated: bool,
    ) -> Parsed<'a> {
        let dialect = Dialect::Resp(version);
        match self.advance(received, limits, authenticated) {
            Ok(()) => {}
            Err(Stop::Incomplete) => return Parsed::Incomplete,
            Err(Stop::Error(what)) => {
                return Parsed::Fatal(format!("ERR Protocol error: {what}").into(), dialect);
            }
        }
        let length = self.at;
        let words: Found<'_> = self.words.iter().map(|word| &received[word.clone()]).collect();
        let parsed = match words.first() {
            None => Parsed::Nothing(length),
            Some(name) if is_http(name) => Parsed::Http,
            Some(_) => Parsed::Request(words, dialect, length),
        };
        self.words.clear();
        (self.missing, self.at) = (None, 0);
        parsed
    }

    /// Bytes of memory that it keeps for a request that has not arrived as a whole.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<Range<usize>>()
    }

    fn advance(
        &mut self,
        received: &[u8],
        limits: &Limits,
        authenticated: bool,
    ) -> Result<(), Stop> {
        if self.missing.is_none() {
            let count = self.number(received, "too big mbulk count string")?;
            let count = count.filter(|count| *count <= limits.words as i64);
            let count = count.ok_or_else(|| error("invalid multibulk length"))?;
            if count > UNAUTHENTICATED_WORDS && !authenticated {
                return Err(error("unauthenticated multibulk length"));
            }
            self.missing = Some(count.max(0) as usize);
        }
        while let Some(missing) = self.missing.filter(|missing| *missing > 0) {
            match received.get(self.at) {
                None => return Err(Stop::Incomplete),
                Some(b'$') => {}
                Some(&other) => {
                    let shown = match other {
                        b'\r' | b'\n' | 0 => ' ',
                        other => char::from(other),
                    };
                    return Err(Stop::Error(format!("expected '$', got '{shown}'")));
                }
            }
            let header = self.at;
            let length = self.number(received, "too big bulk count string")?;
            let length = length.and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| *length <= limits.value);
            let length = length.ok_or_else(|| error("invalid bulk length"))?;
            if length > UNAUTHENTICATED_BYTES && !authenticated {
                return Err(error("unauthenticated bulk length"));
            }
            let end = self.at + length;
            if end > STRANGERS_REQUEST_BYTES && !authenticated {
                return Err(error("unauthenticated request too large"));
            }
            if received.len() < end + 2 {
                self.at = header;
                return Err(Stop::Incomplete);
            }
            self.words.push(self.at..end);
            self.at = end + 2;
            self.missing = Some(missing - 1);
        }
        Ok(())
    }

    /// The number between the type byte and the line end; moves the place after that. `None` if it is no
    /// number.
    fn number(&mut self, received: &[u8], too_big: &str) -> Result<Option<i64>, Stop> {
        let from = self.at + 1;
        let rest = received.get(from..).ok_or(Stop::Incomplete)?;
        let Some(found) = memchr::memchr(b'\r', &rest[..rest.len().min(HEADER_BYTES + 1)]) else {
            if rest.len() > HEADER_BYTES {
                return Err(error(too_big));
            }
            return Err(Stop::Incomplete);
        };
        let end = from + found;
        if received.len() < end + 2 {
            return Err(Stop::Incomplete);
        }
        let number = integer(&received[from..end]);
        self.at = end + 2;
        Ok(number)
    }
}

fn error(what: &str) -> Stop {
    Stop::Error(what.to_owned())
}

/// Whether a command is the beginning of an HTTP request, or its Host header: a page in a user's browser
/// may send such requests to this port, and the lines of a request's body would be commands.
pub fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// Appends a reply.
pub fn encode(version: RespVersion, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Simple(word) => line(out, format_args!("+{word}")),
        Reply::Integer(number) => number_line(out, b':', *number),
        Reply::Bulk(bytes) => bulk(out, bytes),
        Reply::Verbatim(bytes) => marked(version, PLAIN_TEXT, bytes, out),
        Reply::Marked(kind, bytes) => marked(version, *kind, bytes, out),
        Reply::Status(bytes) => one_line(b'+', bytes, out),
        Reply::Double(number) => match version {
            RespVersion::V2 => bulk(out, shortest(*number).as_bytes()),
            RespVersion::V3 => line(out, format_args!(",{}", shortest(*number))),
        },
        Reply::Boolean(is) => match version {
            RespVersion::V2 => number_line(out, b':', i64::from(*is)),
            RespVersion::V3 => line(out, format_args!("#{}", if *is { 't' } else { 'f' })),
        },
        Reply::BigNumber(digits) => match version {
            RespVersion::V2 => bulk(out, digits),
            RespVersion::V3 => one_line(b'(', digits, out),
        },
        Reply::Null => out.extend_from_slice(match version {
            RespVersion::V2 => b"$-1\r\n",
            RespVersion::V3 => b"_\r\n",
        }),
        Reply::NullArray => out.extend_from_slice(match version {
            RespVersion::V2 => b"*-1\r\n",
            RespVersion::V3 => b"_\r\n",
        }),
        Reply::Array(items) => {
            encode_array_head(items.len(), out);
            items.iter().for_each(|item| encode(version, item, out));
        }
        Reply::Map(items) => {
            match version {
                RespVersion::V2 => number_line(out, b'*', items.len()),
                RespVersion::V3 => number_line(out, b'%', items.len() / 2),
            }
            items.iter().for_each(|item| encode(version, item, out));
        }
        Reply::Set(items) => {
            number_line(out, if version == RespVersion::V2 { b'*' } else { b'~' }, items.len());
            items.iter().for_each(|item| encode(version, item, out));
        }
        Reply::Error(text) => one_line(b'-', text.as_bytes(), out),
        Reply::NotDurable(reason) => {
            line(out, format_args!("-MISCONF Errors writing to the AOF file: {reason}"));
        }
    }
}

/// Appends the head of an array of this many replies.
pub fn encode_array_head(count: usize, out: &mut Vec<u8>) {
    number_line(out, b'*', count);
}

/// Appends the head of a push of this many replies.
pub fn encode_push_head(version: RespVersion, count: usize, out: &mut Vec<u8>) {
    match version {
        RespVersion::V2 => number_line(out, b'*', count),
        RespVersion::V3 => number_line(out, b'>', count),
    }
}

/// Inserts the head of an array before its `items`, which begin at `start`.
pub fn wrap(items: usize, start: usize, out: &mut Vec<u8>) {
    out.splice(start..start, format!("*{items}\r\n").into_bytes());
}

/// Appends a text with its kind, which RESP2 leaves out.
fn marked(version: RespVersion, kind: [u8; 3], bytes: &[u8], out: &mut Vec<u8>) {
    if version == RespVersion::V2 {
        return bulk(out, bytes);
    }
    number_line(out, b'=', kind.len() + 1 + bytes.len());
    out.extend_from_slice(&kind);
    out.push(b':');
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a text that is a line. A line end within it would end the reply before its time.
fn one_line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    let blank = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
    out.extend(text.iter().map(blank));
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    number_line(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a count, a length or an integer. Almost every reply has one, and `core::fmt` was 3 % of a
/// pipelined GET.
fn number_line(out: &mut Vec<u8>, kind: u8, number: impl itoa::Integer) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    write!(out, "{text}\r\n").expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Parser;

    fn parser() -> Parser {
        Parser::new(true, Limits { value: 1000, ..Limits::default() })
    }

    #[test]
    fn a_request_is_the_same_however_it_is_cut() {
        let request = b"*3\r\n$3\r\nset\r\n$3\r\nk\r\n\r\n$0\r\n\r\n";
        for first in 0..request.len() {
            for second in first..request.len() {
                let mut parser = parser();
                for cut in [first, second] {
                    let mut received = request[..cut].to_vec();
                    assert!(matches!(parser.parse(&mut received), Parsed::Incomplete), "{cut}");
                }
                match parser.parse(&mut request.to_vec()) {
                    Parsed::Request(words, _, length) => {
                        assert_eq!(length, request.len());
                        assert_eq!(words[..], [&b"set"[..], b"k\r\n", b""]);
                    }
                    other => panic!("{first}, {second}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn malformed_requests_are_refused_with_the_texts_of_redis() {
        for (request, expected) in [
            ("*x\r\n", "invalid multibulk length"),
            ("*\r\n", "invalid multibulk length"),
            ("*3000000000\r\n", "invalid multibulk length"),
            ("*1\r\nfoo\r\n", "expected '$', got 'f'"),
            ("*1\r\n\r\n", "expected '$', got ' '"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$1001\r\n", "invalid bulk length"),
            ("*1\r\n$x\r\n", "invalid bulk length"),
            (&format!("*{}", "1".repeat(70_000)), "too big mbulk count string"),
            (&format!("*1\r\n${}", "1".repeat(70_000)), "too big bulk count string"),
        ] {
            match parser().parse(&mut request.as_bytes().to_vec()) {
                Parsed::Fatal(error, _) => {
                    assert_eq!(error, format!("ERR Protocol error: {expected}"));
                }
                other => panic!("{request:?}: {other:?}"),
            }
        }
        for nothing in ["*0\r\n", "*-1\r\n", "*-10\r\n"] {
            let mut received = nothing.as_bytes().to_vec();
            let parsed = parser().parse(&mut received);
            assert!(matches!(parsed, Parsed::Nothing(length) if length == nothing.len()));
        }
    }

    #[test]
    fn a_client_that_has_not_logged_in_may_send_little() {
        for (request, expected) in [
            ("*11\r\n", "unauthenticated multibulk length"),
            ("*1\r\n$16385\r\n", "unauthenticated bulk length"),
        ] {
            match Parser::new(false, Limits::default()).parse(&mut request.as_bytes().to_vec()) {
                Parsed::Fatal(error, _) => assert!(error.ends_with(expected), "{error}"),
                other => panic!("{request:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn replies_are_spelled_as_each_version_has_them() {
        let spelled = |version, reply: &Reply<'_>| {
            let mut out = Vec::new();
            encode(version, reply, &mut out);
            String::from_utf8(out).expect("text")
        };
        let map = Reply::Map(vec![Reply::bulk(b"a"), Reply::Integer(1)]);
        for (reply, two, three) in [
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::NullArray, "*-1\r\n", "_\r\n"),
            (Reply::text("a\nb".into()), "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n"),
            (map, "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"),
            (Reply::Array(vec![Reply::Ok]), "*1\r\n+OK\r\n", "*1\r\n+OK\r\n"),
            (Reply::Error("ERR a\r\nb".into()), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        ] {
            assert_eq!(spelled(RespVersion::V2, &reply), two);
            assert_eq!(spelled(RespVersion::V3, &reply), three);
        }
    }
}
