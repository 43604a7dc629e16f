//! An answer, with the headers that keep a browser from doing anything else with it.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Sent with everything. The page takes its style, its script and its events from this server, and nothing from
/// anywhere else; nobody may show it in a frame; no cache keeps what was behind a password; no other site may read
/// or embed it.
const HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n";

/// How something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// With the answer's body.
    Get,
    /// Without it.
    Head,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Here it is.
    Ok,
    /// It cannot be understood.
    BadRequest,
    /// A password is missing or wrong.
    Unauthorized,
    /// It may not be had.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It is no GET.
    MethodNotAllowed,
    /// It took too long to come.
    Timeout,
    /// It is for another host.
    Misdirected,
    /// There were too many.
    TooManyRequests,
    /// It is too long.
    TooLarge,
    /// Not now.
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::Timeout => "408 Request Timeout",
            Status::Misdirected => "421 Misdirected Request",
            Status::TooManyRequests => "429 Too Many Requests",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }

    /// The header that this status asks for.
    fn header(self) -> &'static str {
        match self {
            Status::Unauthorized => {
                "WWW-Authenticate: Basic realm=\"post-gres-rs\", charset=\"UTF-8\"\r\n"
            }
            Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            _ => "",
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The outcome.
    pub status: Status,
    /// Its kind of text.
    pub kind: &'static str,
    /// The text.
    pub body: Vec<u8>,
}

impl Response {
    /// A plain sentence.
    pub fn error(status: Status, text: &str) -> Response {
        Response::plain(status, format!("{text}\n"))
    }

    /// A plain text.
    pub fn plain(status: Status, text: String) -> Response {
        Response { status, kind: "text/plain; charset=utf-8", body: text.into_bytes() }
    }

    /// The part of the answer that was asked for.
    pub fn of(kind: &'static str, body: &str) -> Response {
        Response { status: Status::Ok, kind, body: body.into() }
    }

    /// Sends it, not longer than until `deadline`.
    pub fn write(&self, socket: &TcpStream, method: Method, deadline: Instant) -> io::Result<()> {
        let Response { status, kind, body } = self;
        let mut text = head(*status, kind);
        text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = text.into_bytes();
        if method == Method::Get {
            bytes.extend_from_slice(body);
        }
        write_all(socket, &bytes, deadline)
    }
}

/// The first lines of an answer.
pub fn head(status: Status, kind: &str) -> String {
    let (line, header) = (status.line(), status.header());
    format!("HTTP/1.1 {line}\r\nContent-Type: {kind}\r\n{header}{HEADERS}")
}

/// Sends bytes, not longer than until `deadline`. A socket that does not wait is tried once.
pub fn write_all(mut socket: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    let mut is_first = true;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        // A client that takes a little each time does not move the deadline.
        if left.is_zero() && !is_first {
            return Err(ErrorKind::TimedOut.into());
        }
        is_first = false;
        // Zero would mean for ever.
        socket.set_write_timeout(Some(left.max(std::time::Duration::from_millis(1))))?;
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_the_deadline_no_progress_is_enough_to_go_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        // It does not wait, so that each try takes only the bytes that there is room for.
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_nonblocking(true).expect("a socket");
        let more_than_fits = vec![0; 64 << 20];
        let late = write_all(&socket, &more_than_fits, Instant::now());
        assert_eq!(late.expect_err("it does not fit").kind(), ErrorKind::TimedOut);
        let early = write_all(&socket, &more_than_fits, Instant::now() + Duration::from_secs(60));
        assert_eq!(early.expect_err("it does not fit").kind(), ErrorKind::WouldBlock);
        write_all(&socket, b"", Instant::now()).expect("there is nothing to send");
    }
}
