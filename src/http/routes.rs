//! One request, from its first byte to its answer.

use std::io::Read;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::access::Pass;
use super::places::Connection;
use super::request::{NoRequest, Request};
use super::response::{Method, Response, Status};
use super::{ANSWER_PATIENCE, REQUEST_PATIENCE, Site};
use super::{access, events, exposition, health, host, page, request};

/// How long, and for how many bytes, a client that goes on sending after its request is listened to, so that the
/// kernel does not reset the connection before the answer has arrived.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// Answers one request, and ends the connection.
pub fn serve(site: &Site, connection: &Connection) {
    let Connection { socket, from, .. } = connection;
    let read = request::read(socket, Instant::now() + REQUEST_PATIENCE);
    let (method, answer) = match &read {
        Err(NoRequest::Gone) => return,
        Err(NoRequest::Refused(status, why)) => (Method::Get, Response::error(*status, why)),
        Ok(request) => match answer(site, request, connection) {
            Answer::Whole(response) => (request.method, response),
            Answer::Events(pass) => return events::stream(site, connection, &pass),
        },
    };
    if let Err(error) = answer.write(socket, method, Instant::now() + ANSWER_PATIENCE) {
        log::trace!("{from}: the HTTP client is gone: {error}");
        return;
    }
    linger(connection);
}

enum Answer {
    Whole(Response),
    /// The stream of events, which ends when the viewer leaves, or may not look any more.
    Events(Pass),
}

/// A client that may not look learns nothing, but by the two probes: an orchestrator has no password, and
/// they say no more than that the process serves, and why it would not take writes.
fn answer(site: &Site, request: &Request, connection: &Connection) -> Answer {
    let server = site.server.get();
    match &*request.path {
        "/healthz" => return Answer::Whole(health::alive()),
        "/readyz" => return Answer::Whole(health::ready(server)),
        _ => {}
    }
    // There is no password to be asked before there is a server.
    let Some(server) = server else { return Answer::Whole(health::ready(None)) };
    // Without a password a browser's visit to another site must not be enough; with one it is not.
    let is_ours = |host: &String| host::is_ours(host, site.options.name.as_deref());
    if site.options.access.is_open(server) && !request.host.as_ref().is_none_or(is_ours) {
        let text = "this name is not known here; -http-name makes it known";
        return Answer::Whole(Response::error(Status::Misdirected, text));
    }
    let rest = |time| site.places.rest_of(connection, time);
    let authorization = request.authorization.as_deref();
    let pass = match access::judge(site.options.access, server, authorization, connection, &rest) {
        Ok(pass) => pass,
        Err(refused) => return Answer::Whole(refused),
    };
    connection.keep_its_place();
    Answer::Whole(match (&*request.path, request.method) {
        ("/metrics", _) => exposition::page(server),
        ("/events", Method::Get) => return Answer::Events(pass),
        ("/events", Method::Head) => Response::of(events::KIND, ""),
        (path, _) => match page::file(path) {
            Some((kind, text)) => Response::of(kind, text),
            None => Response::error(Status::NotFound, "there is /, /metrics, /healthz and /readyz"),
        },
    })
}

/// Says that nothing more comes, and waits a moment for the client to have it.
fn linger(connection: &Connection) {
    connection.close(Shutdown::Write);
    let mut socket = &connection.socket;
    let deadline = Instant::now() + LINGER;
    let (mut left, mut bytes) = (LINGER_BYTES, [0; 4096]);
    while left > 0 {
        let time = deadline.saturating_duration_since(Instant::now());
        if time.is_zero() || socket.set_read_timeout(Some(time)).is_err() {
            return;
        }
        match socket.read(&mut bytes) {
            Ok(1..) => left = left.saturating_sub(bytes.len()),
            _ => return,
        }
    }
}
