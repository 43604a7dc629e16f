//! The head of a request, read with a limit for its bytes and a deadline for all of it.
//!
//! hyper's own parser takes it apart. Only GET and HEAD are answered, so no body is ever read.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Instant;

use super::response::{Method, Status};

/// The longest head. Browsers send about 1 KiB without cookies, and there are none here.
const HEAD_BYTES: usize = 8 << 10;

/// The most headers; browsers send some twenty.
const MOST_HEADERS: usize = 64;

/// The request.
#[derive(Debug)]
pub struct Request {
    /// How.
    pub method: Method,
    /// The path that it asks for, up to a question mark.
    pub path: String,
    /// The header `Host`; none in HTTP/1.0.
    pub host: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// The client is gone, or has sent nothing.
    Gone,
    /// It is told this.
    Refused(Status, &'static str),
}

const BAD: NoRequest = NoRequest::Refused(Status::BadRequest, "this is no HTTP/1 request");

/// Reads a request, not longer than until `deadline`.
pub fn read(socket: &TcpStream, deadline: Instant) -> Result<Request, NoRequest> {
    let (mut head, mut length) = ([0; HEAD_BYTES], 0);
    loop {
        let read = read_some(socket, &mut head[length..], deadline)?;
        if read == 0 {
            return Err(if length == 0 { NoRequest::Gone } else { BAD });
        }
        length += read;
        if let Some(request) = parse(&head[..length])? {
            return Ok(request);
        }
        if length == head.len() {
            return Err(TOO_LARGE);
        }
    }
}

const TOO_LARGE: NoRequest = NoRequest::Refused(Status::TooLarge, "the request is too long");

fn read_some(
    mut socket: &TcpStream,
    into: &mut [u8],
    deadline: Instant,
) -> Result<usize, NoRequest> {
    let late = NoRequest::Refused(Status::Timeout, "the request took too long");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late);
        }
        socket.set_read_timeout(Some(left)).map_err(|_| NoRequest::Gone)?;
        match socket.read(into) {
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Err(NoRequest::Gone),
        }
    }
}

/// The request that these bytes begin with, once all of its head is there.
fn parse(bytes: &[u8]) -> Result<Option<Request>, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(_) => return Err(BAD),
    }
    let method = match parsed.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => {
            return Err(NoRequest::Refused(
                Status::MethodNotAllowed,
                "only GET and HEAD: nothing can be changed here",
            ));
        }
    };
    let target = parsed.path.ok_or(BAD)?;
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let host = the_only(parsed.headers, "host")?;
    if host.is_none() && parsed.version == Some(1) {
        return Err(NoRequest::Refused(Status::BadRequest, "the header Host is missing"));
    }
    let authorization = the_only(parsed.headers, "authorization")?;
    Ok(Some(Request { method, path, host, authorization }))
}

/// The value of a header that may be there once.
fn the_only(headers: &[httparse::Header<'_>], name: &str) -> Result<Option<String>, NoRequest> {
    let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(header) = found.next() else { return Ok(None) };
    let text = std::str::from_utf8(header.value).map_err(|_| BAD)?;
    match found.next() {
        None => Ok(Some(text.trim().to_owned())),
        Some(_) => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_request_once_it_is_whole() {
        let text =
            b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nauthorization:  Basic eA== \r\n\r\nmore";
        for length in 0..text.len() - 4 {
            assert!(parse(&text[..length]).expect("the beginning of one").is_none(), "{length}");
        }
        let request = parse(text).expect("a request").expect("whole");
        assert_eq!((request.method, &*request.path), (Method::Get, "/metrics"));
        assert_eq!(request.host.as_deref(), Some("a"));
        assert_eq!(request.authorization.as_deref(), Some("Basic eA=="));
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "*1\r\n$4\r\nPING\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            let refused = parse(text.as_bytes());
            let status = |refused| match refused {
                Err(NoRequest::Refused(status, _)) => Some(status),
                _ => None,
            };
            assert_eq!(status(refused), Some(Status::BadRequest), "{text:?}");
        }
        let headers = "a: b\r\n".repeat(MOST_HEADERS + 1);
        let many = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        assert_eq!(parse(many.as_bytes()).err(), Some(TOO_LARGE));
    }
}
