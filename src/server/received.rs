//! The receive buffer: what a client has sent and the parser has not yet taken.
//!
//! It grows with what was received, never with what was announced (promise 8), and shrinks again when it is
//! empty.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use crate::doors::{Waits, Wire};
use crate::metrics::{Counter, Held};

/// Size of a new connection's buffer: thousands of connections may be idle.
const FIRST_READ_BYTES: usize = 2 * 1024;

/// The buffer doubles whenever a read fills it, up to this, so that a pipeline is read at once and pays one
/// sync; and beyond this for a longer request. An empty buffer keeps no more than this.
const KEPT_READ_BYTES: usize = 64 * 1024;

/// How long a client has to read the reply to a fatal mistake before the connection is closed, which resets it
/// if input is still unread.
pub const LINGER: Duration = Duration::from_secs(1);

/// How often to look whether a client whose input is thrown away has closed.
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// See the head of this file.
///
/// - `buffer[start..end]` are the bytes not yet taken.
/// - `held` counts what `buffer` takes up.
pub struct Received<'a> {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read had no room for more.
    pub was_filled: bool,
    held: Held<'a>,
}

impl<'a> Received<'a> {
    /// An empty one, whose memory counts here.
    pub fn new(memory: &'a Counter) -> Received<'a> {
        let held = Held::new(memory);
        Received { buffer: Vec::new(), start: 0, end: 0, was_filled: false, held }
    }

    /// The bytes that are not yet taken.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// How many bytes are not yet taken, and how long the buffer is.
    pub fn told(&self) -> (usize, usize) {
        (self.end - self.start, self.buffer.len())
    }

    /// Takes a request of this length.
    pub fn consume(&mut self, length: usize) {
        self.start += length;
        assert!(self.start <= self.end, "a request is no longer than what was received");
    }

    /// Makes room for the next read. Memory grows with what was received, never with what was
    /// announced; the parser's limits bound it.
    pub fn make_room(&mut self) {
        // The pieces of a long request are at the start already, and are not moved again.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == 0 && self.buffer.len() > KEPT_READ_BYTES {
            self.buffer = Vec::new();
        }
        let grows = self.was_filled && self.buffer.len() < KEPT_READ_BYTES;
        if grows || self.end == self.buffer.len() {
            self.buffer.resize((self.buffer.len() * 2).max(FIRST_READ_BYTES), 0);
        }
        self.held.set(self.buffer.capacity());
    }

    /// Reads what has arrived. 0 says that nothing more will come.
    pub fn read_more(&mut self, wire: &Wire, waits: Waits) -> std::io::Result<usize> {
        self.was_filled = false;
        let count = wire.receive(&mut self.buffer[self.end..], waits)?;
        self.end += count;
        self.was_filled = self.end == self.buffer.len();
        Ok(count)
    }
}

/// Lets the last replies arrive: a close with unread input resets the connection, and replies on their way
/// are lost. So the input is read and thrown away until the client has closed its side too, has been quiet
/// for this long, or [`LINGER`] is over.
pub fn drain(wire: &Wire, quiet: Duration) {
    let deadline = Instant::now() + LINGER;
    let mut last_input = Instant::now();
    let goes_on = |last_input: Instant| {
        let now = Instant::now();
        now < deadline && now - last_input < quiet && !wire.is_closed()
    };
    if wire.shut(Shutdown::Write).is_err() {
        return;
    }
    while goes_on(last_input) {
        wire.wait(DRAIN_STEP);
        match wire.throw_away() {
            // Closed by the client, or by ourselves to reading and nothing is there to be read.
            Ok(0) => std::thread::sleep(DRAIN_STEP),
            Ok(_) => last_input = Instant::now(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
