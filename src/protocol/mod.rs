//! Bytes to [`Command`], [`Reply`] to bytes. No socket, no store.
//!
//! A parser looks at what has been received so far and takes the first request off it, in place.
//! Its limits are checked here, before any memory is taken (promise 8).

mod text;

use crate::command::{Command, Dialect, Reply};

/// What stands at the front of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not yet a whole request.
    Incomplete,
    /// This many bytes that ask for nothing: a blank line.
    Nothing(usize),
    /// A request of this many bytes.
    Request(Command, Dialect, usize),
    /// Something after which the next request cannot be told from garbage: it is answered with
    /// this error, and the connection is closed.
    Fatal(&'static str, Dialect),
}

/// Reads one connection's requests. Remembers how far it has looked, so that a request which
/// arrives in many pieces is looked through once.
#[derive(Default)]
pub struct Parser {
    /// Bytes at the front that hold no line end.
    scanned: usize,
}

impl Parser {
    /// Looks at the bytes received and not yet taken. The same bytes must be there again, with
    /// more behind them, after [`Parsed::Incomplete`].
    pub fn parse(&mut self, received: &[u8]) -> Parsed {
        let parsed = text::parse(received, self.scanned);
        self.scanned = if parsed == Parsed::Incomplete { received.len() } else { 0 };
        parsed
    }
}

/// Appends the reply to a command, in the words of its dialect.
pub fn encode(command: &Command, dialect: Dialect, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text(line_end) => text::encode(command, line_end, reply, out),
    }
}

/// Appends the error that closes a connection.
pub fn encode_fatal(error: &str, dialect: Dialect, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text(line_end) => text::encode_error(error, line_end, out),
    }
}
