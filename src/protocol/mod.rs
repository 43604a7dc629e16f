//! Bytes to words, [`Reply`] to bytes. No socket, no store, and no command: which words ask for what is
//! looked up elsewhere.
//!
//! A request whose first byte is `*` is RESP, anything else is a line of text; that is decided for
//! each. A parser looks at what has been received so far and finds the words of the first request, in
//! place. Its limits are checked here, before any memory is taken (promise 8).

mod resp;
mod text;

use std::borrow::Cow;

use crate::command::{Dialect, Reply, RespVersion};

/// What a request may be like. Over a limit nothing is stored, and the client is told.
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
    /// Values and lines as in Redis, words as before its version 7: each has at least five bytes on
    /// the wire, and sixteen in memory. Redis allows keys of 512 MiB; a key is compared and hashed at
    /// every access, and one beyond 64 KiB is a mistake.
    fn default() -> Limits {
        Limits { key: 64 * 1024, value: 512 << 20, words: 1024 * 1024, line: 64 * 1024 }
    }
}

/// The longest request, all its words together: Redis's `client-query-buffer-limit`.
pub const REQUEST_BYTES: usize = 1 << 30;

/// The words of a request, the command's name first.
pub type Words<'a> = [&'a [u8]];

/// What stands at the front of the received bytes.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// Not yet a whole request.
    Incomplete,
    /// This many bytes that ask for nothing: a blank line.
    Nothing(usize),
    /// A request: its words, how they were spelled, and its bytes.
    Request(Vec<&'a [u8]>, Dialect, usize),
    /// A request of this many bytes with a word that is longer than a value may be.
    TooLong(Dialect, usize),
    /// Something after which the next request cannot be told from garbage: it is answered with
    /// this error, and the connection is closed.
    Fatal(Cow<'static, str>, Dialect),
    /// Not meant for this server, and perhaps an attack by way of somebody's browser: the
    /// connection is closed without a word.
    Http,
}

/// Finds one connection's requests. Remembers how far it has looked, so that a request which
/// arrives in many pieces is looked through once.
pub struct Parser {
    /// Bytes at the front that hold no line end.
    scanned: usize,
    resp: resp::Parser,
    /// The version that replies to RESP requests are in.
    pub version: RespVersion,
    /// A client that has not said the password yet may send only little.
    pub authenticated: bool,
    /// What a request may be like.
    limits: Limits,
}

impl Parser {
    /// A parser for a new connection.
    pub fn new(authenticated: bool, limits: Limits) -> Parser {
        let (resp, version) = (resp::Parser::default(), RespVersion::V2);
        Parser { scanned: 0, resp, version, authenticated, limits }
    }

    /// Looks at the bytes received and not yet taken, and takes quotes out of them in place. The same
    /// bytes must be there again, with more after them, after [`Parsed::Incomplete`].
    pub fn parse<'a>(&mut self, received: &'a mut [u8]) -> Parsed<'a> {
        let length = received.len();
        let parsed = match received.first() {
            None => Parsed::Incomplete,
            Some(b'*') => self.resp.parse(received, self.version, &self.limits, self.authenticated),
            Some(_) => text::parse(received, self.scanned, &self.limits),
        };
        let incomplete = matches!(parsed, Parsed::Incomplete);
        if incomplete && length > REQUEST_BYTES.saturating_add(self.limits.value) {
            let dialect = Dialect::Resp(self.version);
            return Parsed::Fatal("ERR Protocol error: request too large".into(), dialect);
        }
        self.scanned = if incomplete { length } else { 0 };
        parsed
    }

    /// What it keeps in memory of a request that has not arrived as a whole.
    pub fn bytes(&self) -> usize {
        self.resp.bytes()
    }
}

/// Appends a reply, in the words of its dialect. `key` is the one that was asked for, which the text
/// protocol names where it is not there.
pub fn encode(key: &[u8], dialect: Dialect, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text(line_end) => text::encode(key, line_end, reply, out),
        Dialect::Resp(version) => resp::encode(version, reply, out),
    }
}

/// Appends the beginning of an array, which this many replies are to follow.
pub fn encode_array_head(count: usize, out: &mut Vec<u8>) {
    resp::encode_array_head(count, out);
}

/// No less than what [`encode`] appends.
pub fn most_bytes(dialect: Dialect, reply: &Reply<'_>) -> usize {
    // A length or a line end, and the type.
    const FRAME_BYTES: usize = 32;
    FRAME_BYTES
        + match (dialect, reply) {
            (Dialect::Text(_), Reply::Bulk(value)) => crate::quote::most_bytes(value),
            (_, Reply::Array(items) | Reply::Map(items)) => {
                items.iter().map(|item| most_bytes(dialect, item)).sum()
            }
            (_, other) => other.bytes(),
        }
}

/// Makes the last `items` replies, which begin at `start`, the items of a list.
pub fn wrap(items: usize, start: usize, out: &mut Vec<u8>) {
    resp::wrap(items, start, out);
}
