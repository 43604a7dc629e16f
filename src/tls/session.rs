//! One encrypted connection.
//!
//! The client's own thread waits for the socket without the lock that others need to send: it takes what has arrived
//! into a buffer that only it uses, and decrypts it under the lock, at most [`ARRIVED_BYTES`] at a time. Senders
//! encrypt the next bytes only when the socket has taken all that was encrypted before, so that at most
//! [`PIECE_BYTES`] are kept twice, and no sender waits. Bytes count as sent when the socket has them.
//!
//! What TLS itself has to say, in a handshake or of a changed key, is sent by the client's own thread, which waits
//! for the socket if it takes no more. An end without a farewell is an end like any other: a request is carried out
//! only as a whole.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags};
use rustls::{Error, InvalidMessage, ServerConnection};

use crate::doors::{Encrypted, Waits};
use crate::sync::Mutex;

/// How long a client has for its handshake; three round trips take less by far.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The most bytes that a client may send for its handshake: four of the longest messages that rustls takes, one of
/// which has its certificates.
const HANDSHAKE_BYTES: usize = 256 << 10;

/// The most that is encrypted at a time: four records.
const PIECE_BYTES: usize = 64 << 10;

/// Room for what arrives, at first: a handshake's first message fits.
const FIRST_ARRIVED_BYTES: usize = 2 << 10;

/// And at most: two records.
const ARRIVED_BYTES: usize = 32 << 10;

/// See the head of this file. Lock order: `arrived`, `state`.
pub struct Session {
    /// Only the client's own thread takes this, so it is never waited for.
    arrived: Mutex<Arrived>,
    state: Mutex<State>,
}

struct State {
    connection: ServerConnection,
    /// Plain bytes that are encrypted, and not all with the socket.
    pending: usize,
    /// The connection cannot go on.
    failed: Option<Error>,
}

/// What has arrived and is not decrypted yet: `buffer[start..end]`.
struct Arrived {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read had no room for more.
    was_filled: bool,
    /// Until that is done.
    handshake: Option<Handshake>,
}

struct Handshake {
    deadline: Instant,
    bytes: usize,
}

/// What decrypting came to.
struct Decrypted {
    count: usize,
    /// The client has said that no more will come.
    ended: bool,
    /// TLS has something to say that the socket does not take.
    is_stuck: bool,
}

impl Session {
    pub fn new(mut connection: ServerConnection) -> Session {
        connection.set_buffer_limit(Some(PIECE_BYTES));
        let handshake = Handshake { deadline: Instant::now() + HANDSHAKE_TIME, bytes: 0 };
        let (buffer, handshake) = (Vec::new(), Some(handshake));
        let arrived = Arrived { buffer, start: 0, end: 0, was_filled: false, handshake };
        let state = State { connection, pending: 0, failed: None };
        Session { arrived: Mutex::new(arrived), state: Mutex::new(state) }
    }

    /// Decrypts what has arrived, as far as it fits into `buffer`.
    fn decrypt(
        &self,
        socket: BorrowedFd<'_>,
        arrived: &mut Arrived,
        buffer: &mut [u8],
    ) -> io::Result<Decrypted> {
        let mut state = self.state.lock();
        let result = state.decrypt(arrived, buffer);
        if !state.connection.is_handshaking() {
            arrived.handshake = None;
        }
        // An alert too, by which the client learns why it is closed.
        let is_stuck = match state.flush(socket) {
            Ok(()) => false,
            Err(Errno::AGAIN) => true,
            // The next read meets it again.
            Err(_) => false,
        };
        result.map(|(count, ended)| Decrypted { count, ended, is_stuck })
    }
}

impl Encrypted for Session {
    fn receive(
        &self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        waits: Waits,
    ) -> io::Result<usize> {
        let mut arrived = self.arrived.lock();
        let mut count = 0;
        loop {
            let decrypted = self.decrypt(socket, &mut arrived, &mut buffer[count..])?;
            count += decrypted.count;
            // A pipeline is read as a whole: what is left shows as a buffer that is full.
            let may_have_more = count < buffer.len() && arrived.was_filled;
            if decrypted.ended || count > 0 && !may_have_more {
                return Ok(count);
            }
            let waits = if count > 0 { Waits::No } else { waits };
            match arrived.receive(socket, waits, decrypted.is_stuck) {
                Ok(0) => return Ok(count),
                // It is met again by the next call.
                Err(_) if count > 0 => return Ok(count),
                received => received?,
            };
        }
    }

    fn send(&self, socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
        let mut state = self.state.lock();
        if state.failed.is_some() {
            return Err(Errno::PIPE);
        }
        if state.pending == 0 {
            state.flush(socket)?;
            let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
            let taken = state.connection.writer().write(piece);
            state.pending = taken.map_err(errno)?;
            // Before the end of a handshake, whose client has asked nothing yet, there is room for one piece.
            if state.pending == 0 {
                return Err(Errno::PIPE);
            }
        }
        state.flush(socket)?;
        Ok(std::mem::take(&mut state.pending))
    }

    fn say_goodbye(&self, socket: BorrowedFd<'_>) {
        let mut state = self.state.lock();
        state.connection.send_close_notify();
        // The client may be gone, or take no more, which is an end as well.
        let _ = state.flush(socket);
    }
}

impl State {
    /// How many bytes were decrypted, and whether there will be no more.
    fn decrypt(&mut self, arrived: &mut Arrived, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut count = 0;
        while count < buffer.len() {
            match self.connection.reader().read(&mut buffer[count..]) {
                Ok(0) => return Ok((count, true)),
                Ok(read) => {
                    count += read;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match &self.failed {
                // First what came before it.
                Some(_) if count > 0 => break,
                Some(why) => return Err(told(why)),
                None if arrived.start == arrived.end => break,
                None => self.feed(arrived)?,
            }
        }
        Ok((count, false))
    }

    fn feed(&mut self, arrived: &mut Arrived) -> io::Result<()> {
        let mut rest = &arrived.buffer[arrived.start..arrived.end];
        self.connection.read_tls(&mut rest)?;
        arrived.start = arrived.end - rest.len();
        self.failed = self.connection.process_new_packets().err();
        Ok(())
    }

    /// Sends what is encrypted, without waiting.
    fn flush(&mut self, socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(errno(error)),
            }
        }
        Ok(())
    }
}

impl Arrived {
    /// Takes what has arrived. If TLS `is_stuck`, it also waits until the socket takes something.
    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        waits: Waits,
        is_stuck: bool,
    ) -> io::Result<usize> {
        debug_assert_eq!(self.start, self.end, "what came before is decrypted");
        let mut flags = RecvFlags::DONTWAIT;
        match waits {
            Waits::Yes if is_stuck || self.handshake.is_some() => self.wait(socket, is_stuck)?,
            Waits::Yes => flags = RecvFlags::empty(),
            Waits::No => {}
        }
        if self.buffer.is_empty() || self.was_filled && self.buffer.len() < ARRIVED_BYTES {
            self.buffer.resize((self.buffer.len() * 2).max(FIRST_ARRIVED_BYTES), 0);
        }
        self.was_filled = false;
        let (count, _) = net::recv(socket, &mut self.buffer[..], flags)?;
        (self.start, self.end) = (0, count);
        self.was_filled = count == self.buffer.len();
        if let Some(handshake) = &mut self.handshake {
            handshake.bytes += count;
            if handshake.bytes > HANDSHAKE_BYTES {
                return Err(refused(format!("its handshake has over {HANDSHAKE_BYTES} bytes")));
            }
        }
        Ok(count)
    }

    /// Waits for the socket, during a handshake until its deadline.
    fn wait(&self, socket: BorrowedFd<'_>, is_stuck: bool) -> io::Result<()> {
        let flags = if is_stuck { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let left = self.handshake.as_ref().map(|handshake| {
            let left = handshake.deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut [PollFd::from_borrowed_fd(socket, flags)], left.as_ref())? {
            0 => {
                let seconds = HANDSHAKE_TIME.as_secs();
                Err(refused(format!("its handshake took longer than {seconds} s")))
            }
            _ => Ok(()),
        }
    }
}

/// The socket, to be written to without waiting.
struct Socket<'a>(BorrowedFd<'a>);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(net::sendmsg(self.0, pieces, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn refused(why: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// For the operator.
fn told(why: &Error) -> io::Error {
    refused(match why {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS, which this port is for".to_owned()
        }
        why => format!("TLS: {why}"),
    })
}
