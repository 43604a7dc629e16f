//! A view of a running server over HTTP: `/metrics`, `/healthz`, `/readyz`, and the live page.
//!
//! | path | what |
//! |------|------|
//! | `/` | the live page: what the server does, and the way of a write |
//! | `/events` | what the page is told, as server-sent events |
//! | `/metrics` | the counters, in Prometheus's text format |
//! | `/healthz` | 200 while the process serves; without a password |
//! | `/readyz` | 200 if it may be written to, otherwise 503 with the reason; without a password |
//!
//! Nothing here can change data: there is no way from this module to a command. It listens before the log is replayed,
//! so that the reason of a long start can be asked for, and it is stopped last.
//!
//! A stranger may speak to this port, so every amount has a limit here: connections, bytes of a request, the time for
//! a request and for its answer, viewers of the page. One request is answered on a connection, by a thread of its
//! own, and then the connection ends: there is nothing that an idle one could hold, and nothing that a second request
//! could be mistaken for. A panic ends one request.

mod access;
mod events;
mod exposition;
mod figures;
mod health;
mod host;
mod page;
mod request;
mod response;
mod routes;
mod samples;
mod table;

use std::collections::HashMap;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::server::Watch;
use crate::sync::{Condvar, Mutex, Stop, Worker, spawn_vital};
use response::{Method, Response, Status};

pub use access::Access;

/// Connections at the same time; a further one is told so and closed. Prometheus, a balancer's probe and a few people
/// with the page open need a dozen.
pub const MOST_CONNECTIONS: usize = 32;

/// How long a client may take to send its request, and how long to take the answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before the next `accept` when there are no descriptors or no memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much is read of a client that is turned away: more than a request that makes sense.
const TURNED_AWAY_BYTES: usize = 8 << 10;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub address: SocketAddr,
    /// The name by which browsers reach it, beside its address and `localhost`.
    pub name: Option<String>,
    /// Who may look.
    pub access: Access,
    /// How the log is kept, for the page.
    pub log: LogKind,
}

/// How a batch becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// In local files, before each reply.
    Synced,
    /// In local files, after the reply.
    SyncedLater,
    /// In an etcd cluster.
    Etcd,
    /// Not at all.
    None,
}

/// The listener and its threads. Dropping it ends them.
pub struct Http(Worker<Listener>);

struct Listener {
    socket: TcpListener,
    site: Arc<Site>,
}

/// Shared by the threads of all connections.
struct Site {
    options: Options,
    began: Instant,
    /// Set once the log is replayed.
    server: OnceLock<Watch>,
    viewers: events::Viewers,
    /// Answers one request: [`routes::serve`].
    serve: Serve,
    stopping: AtomicBool,
    connections: Mutex<Connections>,
    left: Condvar,
}

type Serve = fn(&Site, &TcpStream, SocketAddr);

#[derive(Default)]
struct Connections {
    last: u64,
    open: HashMap<u64, Arc<TcpStream>>,
}

impl Http {
    /// Listens, and answers that the log is being replayed until [`Http::show`].
    pub fn start(options: Options) -> anyhow::Result<Http> {
        Http::serving(options, routes::serve)
    }

    fn serving(options: Options, serve: Serve) -> anyhow::Result<Http> {
        let address = options.address;
        let socket = TcpListener::bind(address)
            .with_context(|| format!("-http {address}: cannot listen there"))?;
        let address = socket.local_addr().context("cannot tell the address of -http")?;
        let site = Site {
            options,
            began: Instant::now(),
            server: OnceLock::new(),
            viewers: events::Viewers::default(),
            serve,
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
            left: Condvar::new(),
        };
        let listener = Listener { socket, site: Arc::new(site) };
        let worker = Worker::start("http", listener, Listener::run)
            .context("cannot start the http thread")?;
        log::info!("http on {address}");
        Ok(Http(worker))
    }

    /// Shows this server from now on.
    pub fn show(&self, server: Watch) {
        let shown = self.0.site.server.set(server);
        assert!(shown.is_ok(), "one server is shown");
    }
}

impl Stop for Listener {
    fn stop(&self) {
        self.site.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read) {
            log::debug!("http: {error}");
        }
        // A thread that is between two reads finds the end, or the flag.
        for socket in self.site.connections.lock().open.values() {
            close(socket, Shutdown::Both);
        }
        self.site.left.notify_all();
    }
}

impl Listener {
    /// Accepts until it is stopped, then waits for the threads of all connections: each has found its socket closed.
    fn run(&self) {
        let site = &self.site;
        while !site.is_stopping() {
            match self.socket.accept() {
                Ok(_) if site.is_stopping() => break,
                Ok((socket, from)) => site.admit(socket, from),
                Err(_) if site.is_stopping() => break,
                Err(error) => {
                    log::debug!("http: cannot accept: {error}");
                    let mut connections = site.connections.lock();
                    site.left.wait_for(&mut connections, ACCEPT_PAUSE);
                }
            }
        }
        let mut connections = site.connections.lock();
        while !connections.open.is_empty() {
            site.left.wait(&mut connections);
        }
    }
}

impl Site {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn admit(self: &Arc<Site>, socket: TcpStream, from: SocketAddr) {
        let socket = Arc::new(socket);
        let Some(id) = self.enter(&socket) else { return turn_away(&socket) };
        let (site, for_thread) = (self.clone(), socket.clone());
        let started = spawn_vital("http-client", move || {
            let serve = AssertUnwindSafe(|| (site.serve)(&site, &for_thread, from));
            // They share counters, and locks that no panic poisons.
            if catch_unwind(serve).is_err() {
                log::error!("{from}: answering an HTTP request ended by a panic");
                close(&for_thread, Shutdown::Both);
            }
            site.leave(id);
        });
        if let Err(error) = started {
            log::debug!("http: no thread can be started: {error}");
            turn_away(&socket);
            self.leave(id);
        }
    }

    /// Waits, but not longer than until a stop.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut connections = self.connections.lock();
        while !self.is_stopping() && !self.left.wait_until(&mut connections, until).timed_out() {}
    }

    /// Counts a connection; `None` if there are too many. One that comes during a stop is closed.
    fn enter(&self, socket: &Arc<TcpStream>) -> Option<u64> {
        let mut connections = self.connections.lock();
        if connections.open.len() >= MOST_CONNECTIONS || self.is_stopping() {
            return None;
        }
        connections.last += 1;
        let id = connections.last;
        connections.open.insert(id, socket.clone());
        Some(id)
    }

    fn leave(&self, id: u64) {
        self.connections.lock().open.remove(&id);
        self.left.notify_all();
    }
}

/// Tells a client without waiting for it that there are too many.
fn turn_away(socket: &TcpStream) {
    let busy = Response::error(Status::Unavailable, "too many connections, try again");
    // A socket that does not take this at once gets none. What it has sent is read, because unread bytes would have the
    // kernel reset the connection before the answer arrives.
    let _ = socket.set_nonblocking(true);
    let _ = (&mut &*socket).read(&mut [0; TURNED_AWAY_BYTES]);
    let _ = busy.write(socket, Method::Get, Instant::now());
}

/// Closes a socket, or one direction of it.
fn close(socket: &TcpStream, how: Shutdown) {
    if let Err(error) = socket.shutdown(how) {
        // Its peer was faster.
        log::trace!("http: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn options() -> Options {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Options { address, name: None, access: Access::Everyone, log: LogKind::None }
    }

    fn get(http: &Http, path: &str) -> String {
        let address = http.0.socket.local_addr().expect("it listens");
        let mut socket = TcpStream::connect(address).expect("it accepts");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers, or hangs up");
        answer
    }

    #[test]
    fn before_there_is_a_server_only_the_probes_tell_something() {
        let http = Http::start(options()).expect("it listens");
        assert!(get(&http, "/healthz").starts_with("HTTP/1.1 200 "));
        for path in ["/readyz", "/", "/metrics", "/events"] {
            let answer = get(&http, path);
            assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
            assert!(answer.ends_with("\r\n\r\nthe log is being replayed\n"), "{path}: {answer}");
        }
    }

    #[test]
    fn a_panic_ends_one_request_and_no_other() {
        let http = Http::serving(options(), |site, socket, from| {
            let mut head = [0; 6];
            while socket.peek(&mut head).expect("a client") < head.len() {}
            assert!(&head != b"GET /p", "this request panics");
            routes::serve(site, socket, from);
        });
        let http = http.expect("it listens");
        assert_eq!(get(&http, "/panic"), "");
        assert!(get(&http, "/healthz").starts_with("HTTP/1.1 200 "));
    }
}
