//! The stream that the page listens to: figures twice a second, and sampled batches as they come.
//!
//! A viewer holds a connection and a thread, so there are [`MOST_VIEWERS`]. It is sent the state of this
//! moment: nothing is kept for a viewer that reads too slowly; it is let go, and its browser comes again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::access::Pass;
use super::places::Connection;
use super::response::{Method, Response, Status, head, write_all};
use super::{ANSWER_PATIENCE, Site, figures, samples};

/// The most viewers of the page at the same time; a quarter of the connections, so that scrapes and probes get through.
pub const MOST_VIEWERS: usize = 8;

/// The content type of the stream.
pub const KIND: &str = "text/event-stream; charset=utf-8";

/// How often new batches are looked for, and how many of these looks there are for each event with figures.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_FOR_FIGURES: u32 = 5;

/// How long a viewer may take for one look's events. A page on a bad network is behind by less, or is let go.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that the kernel may keep for a viewer that does not read: a few seconds of events.
const SEND_BUFFER: usize = 8 << 10;

/// How many there are.
#[derive(Default)]
pub struct Viewers(AtomicUsize);

struct Place<'a>(&'a Viewers);

impl Viewers {
    fn enter(&self) -> Option<Place<'_>> {
        let take = |count: usize| (count < MOST_VIEWERS).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends events until the viewer leaves, is too slow, may not look any more, or the server stops.
pub fn stream(site: &Site, connection: &Connection, pass: &Pass) {
    let socket = &connection.socket;
    let Some(server) = site.server.get() else { return };
    let Some(_place) = site.viewers.enter() else {
        let text = format!("{MOST_VIEWERS} people look at this already");
        let full = Response::error(Status::Unavailable, &text);
        let deadline = Instant::now() + ANSWER_PATIENCE;
        // The viewer may have left.
        let _ = full.write(socket, Method::Get, deadline);
        return;
    };
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER) {
        log::debug!("http: {error}");
    }
    let watching = server.metrics().batches_seen.watch();
    let mut seen = watching.last();
    let mut text = head(Status::Ok, KIND) + "\r\n";
    push(&mut text, "server", &figures::about(site, server));
    for look in 0u32.. {
        // As the connections of clients, it ends when its password is replaced.
        if !pass.holds(server) {
            return;
        }
        for batch in watching.after(seen) {
            seen = batch.number;
            push(&mut text, "batch", &samples::spelled(&batch));
        }
        if look.is_multiple_of(LOOKS_FOR_FIGURES) {
            push(&mut text, "figures", &figures::now(site, server));
        }
        let sent = write_all(socket, text.as_bytes(), Instant::now() + PATIENCE);
        if sent.is_err() || site.places.is_stopping() {
            return;
        }
        text.clear();
        site.places.rest(LOOK);
    }
}

fn push(text: &mut String, event: &str, data: &serde_json::Value) {
    text.push_str(&format!("event: {event}\ndata: {data}\n\n"));
}
