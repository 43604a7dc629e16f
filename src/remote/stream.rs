//! What bytes come and go by: each call to a socket ends at the deadline.
//!
//! The deadline is on the socket itself, beneath TLS: one read of a TLS session may be many of its socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// What bytes come and go by.
pub trait Stream: Read + Write {
    /// When each call ends from now on.
    #[cfg(feature = "stats")]
    fn set_deadline(&mut self, deadline: Instant);
}

/// A socket.
pub trait Socket: Read + Write {
    /// How long a call may take from now on.
    fn set_timeout(&self, time: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn set_timeout(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Socket for UnixStream {
    fn set_timeout(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

/// A socket of which each call ends at the deadline.
pub struct Timed<S> {
    socket: S,
    deadline: Instant,
}

impl<S: Socket> Timed<S> {
    /// A socket with a deadline.
    pub fn new(socket: S, deadline: Instant) -> Timed<S> {
        Timed { socket, deadline }
    }

    fn until_deadline(
        &mut self,
        call: impl FnOnce(&mut S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.socket.set_timeout(left(self.deadline)?)?;
        call(&mut self.socket).map_err(|error| match error.kind() {
            // What a socket says whose time is over.
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

impl<S: Socket> Read for Timed<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.until_deadline(|socket| socket.read(bytes))
    }
}

impl<S: Socket> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Socket> Stream for Timed<S> {
    #[cfg(feature = "stats")]
    fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

/// The time that is left, or the error that there is none.
pub fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Connects to a Unix socket. A server that accepts nobody, and whose queue is full, is not waited for after the
/// deadline; std has no way to say so.
pub fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    loop {
        set_socket_timeout(&socket, Timeout::Send, Some(left(deadline)?))?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_full_queue_of_a_unix_socket_is_not_waited_for_after_the_deadline() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let listener = socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket");
        let address = SocketAddrUnix::new(&path).expect("a short path");
        rustix::net::bind(&listener, &address).expect("a free path");
        rustix::net::listen(&listener, 1).expect("bound");
        let soon = || Instant::now() + Duration::from_millis(50);
        let mut waiting = Vec::new();
        let error = loop {
            match connect_unix(&path, soon()) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10, "the queue has two places");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(listener);
        let error = connect_unix(&path, soon()).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_server_that_sends_byte_by_byte_is_not_waited_for_after_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
        let (mut server, _) = listener.accept().expect("a client");
        let (stop, stopped) = mpsc::channel::<()>();
        let sending = std::thread::spawn(move || {
            // At this pace no single read takes long.
            while stopped.recv_timeout(Duration::from_millis(5)).is_err() {
                if server.write_all(b"x").is_err() {
                    return;
                }
            }
        });
        let began = Instant::now();
        let mut timed = Timed::new(socket, began + Duration::from_millis(100));
        let error = io::copy(&mut timed, &mut io::sink()).expect_err("it never ends");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(100));
        stop.send(()).expect("it sends");
        sending.join().expect("it ends");
    }
}
