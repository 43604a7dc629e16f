//! Bytes to words, [`Reply`] to bytes. Nothing here knows a socket, the store, or what the words ask for.
//!
//! A request whose first byte is `*` is RESP, any other is a line of text; each request is taken by itself.
//! A parser looks at what has been received so far and finds the words of the first request, in place. It
//! checks its limits before any memory is taken (promise 8).

mod resp;
mod text;

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::command::{Dialect, Reply, RespVersion};

/// The limits of a request. Above a limit nothing is stored, and the client is told.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest key, in bytes.
    pub key: usize,
    /// The longest value, in bytes: Redis's `proto-max-bulk-len`.
    pub value: usize,
    /// The most words.
    pub words: usize,
    /// The longest line of text without its end, in bytes: Redis's PROTO_INLINE_MAX_SIZE.
    pub line: usize,
}

impl Default for Limits {
    /// Values and lines as in Redis, words as before its version 7: each takes at least five bytes on
    /// the wire, and sixteen in memory. Redis allows keys of 512 MiB; but a key is compared and hashed at
    /// every access, and one longer than 64 KiB is a mistake.
    fn default() -> Limits {
        Limits { key: 64 * 1024, value: 512 << 20, words: 1024 * 1024, line: 64 * 1024 }
    }
}

/// The longest request, all its words together: Redis's `client-query-buffer-limit`.
pub const REQUEST_BYTES: usize = 1 << 30;

/// The longest request of a client that has not logged in, whatever its words are: AUTH and HELLO with a password of
/// 16 KiB, the longest word that Redis takes before a login, and so the most memory that a stranger can take up.
const STRANGERS_REQUEST_BYTES: usize = 32 << 10;

/// The words of a request, the command's name first.
pub type Words<'a> = [&'a [u8]];

/// The words of most requests, without an allocation.
pub type Found<'a> = SmallVec<[&'a [u8]; 4]>;

/// The first request among the received bytes, or why there is none.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// Not yet a whole request.
    Incomplete,
    /// This many bytes without a command, like a blank line.
    Nothing(usize),
    /// A request: its words, how they were spelled, and its length in bytes.
    Request(Found<'a>, Dialect, usize),
    /// A request of this many bytes with a word that is longer than a value may be.
    TooLong(Dialect, usize),
    /// Something after which the next request cannot be told from garbage: it is answered with
    /// this error, and the connection is closed.
    Fatal(Cow<'static, str>, Dialect),
    /// Not meant for this server, and perhaps an attack through a user's browser: the connection is
    /// closed without a reply.
    Http,
    /// The beginning of TLS, where that is not spoken: the connection is closed without a reply.
    Tls,
}

/// Finds one connection's requests. Remembers how far it has looked, so that a request which
/// arrives in many pieces is looked through once.
pub struct Parser {
    /// Bytes at the front that hold no line end.
    scanned: usize,
    resp: resp::Parser,
    /// The version of replies to RESP requests.
    pub version: RespVersion,
    /// Until the client has logged in, it may send only short requests.
    pub authenticated: bool,
    limits: Limits,
}

impl Parser {
    /// A parser for a new connection.
    pub fn new(authenticated: bool, limits: Limits) -> Parser {
        let (resp, version) = (resp::Parser::default(), RespVersion::V2);
        Parser { scanned: 0, resp, version, authenticated, limits }
    }

    /// Looks at the bytes received and not yet taken, and removes quotes from them in place. After
    /// [`Parsed::Incomplete`] the next call must have the same bytes again, with more after them.
    pub fn parse<'a>(&mut self, received: &'a mut [u8]) -> Parsed<'a> {
        let length = received.len();
        let limits = &match self.authenticated {
            true => self.limits,
            false => Limits { line: self.limits.line.min(STRANGERS_REQUEST_BYTES), ..self.limits },
        };
        let parsed = match received.first() {
            None => Parsed::Incomplete,
            Some(b'*') => self.resp.parse(received, self.version, limits, self.authenticated),
            Some(_) => text::parse(received, self.scanned, limits),
        };
        let incomplete = matches!(parsed, Parsed::Incomplete);
        if incomplete && length > REQUEST_BYTES.saturating_add(self.limits.value) {
            let dialect = Dialect::Resp(self.version);
            return Parsed::Fatal("ERR Protocol error: request too large".into(), dialect);
        }
        self.scanned = if incomplete { length } else { 0 };
        parsed
    }

    /// Bytes of memory that it keeps for a request that has not arrived as a whole.
    pub fn bytes(&self) -> usize {
        self.resp.bytes()
    }
}

/// Appends a reply as the dialect spells it. `key` is the key that was asked for, which the text protocol
/// names if it is missing.
pub fn encode(key: &[u8], dialect: Dialect, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text(line_end) => text::encode(key, line_end, reply, out),
        Dialect::Resp(version) => resp::encode(version, reply, out),
    }
}

/// Appends the head of an array of this many replies, which are to follow.
pub fn encode_array_head(count: usize, out: &mut Vec<u8>) {
    resp::encode_array_head(count, out);
}

/// Appends a reply as RESP spells it.
pub fn encode_resp(version: RespVersion, reply: &Reply<'_>, out: &mut Vec<u8>) {
    resp::encode(version, reply, out);
}

/// Appends the head of something that the client has not asked for, of this many replies, which are to follow: a
/// list in RESP2.
pub fn encode_push_head(version: RespVersion, count: usize, out: &mut Vec<u8>) {
    resp::encode_push_head(version, count, out);
}

/// An upper bound of the bytes that [`encode`] appends.
pub fn most_bytes(dialect: Dialect, reply: &Reply<'_>) -> usize {
    // A length or a line end, and the type.
    const FRAME_BYTES: usize = 32;
    FRAME_BYTES
        + match (dialect, reply) {
            (Dialect::Text(_), Reply::Bulk(value)) => crate::quote::most_bytes(value),
            (_, Reply::Array(items) | Reply::Map(items) | Reply::Set(items)) => {
                items.iter().map(|item| most_bytes(dialect, item)).sum()
            }
            (_, other) => other.bytes(),
        }
}

/// Makes the last `items` replies, which begin at `start`, an array.
pub fn wrap(items: usize, start: usize, out: &mut Vec<u8>) {
    resp::wrap(items, start, out);
}
