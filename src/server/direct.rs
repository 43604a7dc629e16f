//! The reply to a read, written by the client's own thread into what is sent next.
//!
//! Each piece is measured before it is copied. If it makes the reply longer than `-maxreply`, or there is no
//! room for it among all clients (see [`super::outbox`]), what was written of the reply is taken back, and
//! an error replaces it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::outbox::Outbox;
use crate::command::{Answer, Command, Dialect, Refusal, Reply};
use crate::protocol;

/// Bytes that a reply may take up before it asks the outbox for room.
const FREE_BYTES: usize = 64 * 1024;

/// Bytes of replies that are gathered before they are sent.
pub const SEND_BYTES: usize = 64 * 1024;

const STOPPING: &str = "ERR the server stops";
const GONE: &str = "ERR the client has gone";

/// A reply that is being written.
///
/// - It begins at `start` and has `items` pieces so far, of at most `bytes` bytes; `bytes <= admitted`.
pub struct Direct<'a> {
    outbox: &'a Arc<Outbox>,
    stopping: &'a AtomicBool,
    command: &'a Command,
    dialect: Dialect,
    out: &'a mut Vec<u8>,
    start: usize,
    items: usize,
    bytes: usize,
    admitted: usize,
}

impl<'a> Direct<'a> {
    /// The reply to this command, after what is in `out`.
    pub fn new(
        outbox: &'a Arc<Outbox>,
        stopping: &'a AtomicBool,
        command: &'a Command,
        dialect: Dialect,
        out: &'a mut Vec<u8>,
    ) -> Direct<'a> {
        let start = out.len();
        let (items, bytes, admitted) = (0, 0, FREE_BYTES);
        Direct { outbox, stopping, command, dialect, out, start, items, bytes, admitted }
    }

    /// Ends the reply; if it was refused, the error replaces it. Returns whether it is long, and to be sent at
    /// once.
    pub fn end(self, outcome: Result<(), Refusal>) -> bool {
        if let Err(why) = outcome {
            self.out.truncate(self.start);
            let error = Reply::Error(why.text());
            protocol::encode(self.command.key(), self.dialect, &error, self.out);
        }
        self.admitted > FREE_BYTES
    }

    fn admit(&mut self, more: usize) -> Result<(), Refusal> {
        self.bytes += more;
        if self.bytes > self.admitted {
            let more = (self.bytes - self.admitted).max(FREE_BYTES);
            self.outbox.reserve(more).map_err(Refusal::Unanswerable)?;
            self.admitted += more;
        }
        Ok(())
    }
}

impl Answer for Direct<'_> {
    fn put(&mut self, reply: &Reply<'_>) -> Result<(), Refusal> {
        self.admit(protocol::most_bytes(self.dialect, reply))?;
        protocol::encode(self.command.key(), self.dialect, reply, self.out);
        self.items += 1;
        Ok(())
    }

    fn expect(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.admit(bytes)?;
        // They are admitted, and will be counted once they are put.
        self.bytes -= bytes;
        Ok(())
    }

    fn wrap(&mut self) {
        protocol::wrap(self.items, self.start, self.out);
    }

    fn go_on(&mut self, _looked_at: usize) -> Result<(), Refusal> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::Unanswerable(STOPPING));
        }
        if self.outbox.has_hung_up() {
            return Err(Refusal::Unanswerable(GONE));
        }
        Ok(())
    }
}
