//! A view of a running server over HTTP: `/metrics`, `/healthz`, `/readyz`, and the live page.
//!
//! | path | what |
//! |------|------|
//! | `/` | the live page: what the server does, and the way of a write |
//! | `/events` | what the page is told, as server-sent events |
//! | `/metrics` | the counters, in Prometheus's text format |
//! | `/healthz` | 200 while the process serves; without a password |
//! | `/readyz` | 200 if requests should be sent here, otherwise 503 with the reason; without a password |
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
mod places;
mod request;
mod response;
mod routes;
mod samples;
mod table;

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::server::{Seldom, Watch};
use crate::sync::{Stop, Worker, spawn_vital};
use places::{Connection, Places};
use response::{Method, Response, Status};

pub use access::Access;
pub use places::MOST_CONNECTIONS;

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
    /// The address to listen on.
    pub address: SocketAddr,
    /// The name by which browsers reach it, beside its address and `localhost`.
    pub name: Option<String>,
    /// The clients that may look.
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
    /// The message that no connection can be accepted.
    cannot_accept: Seldom,
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
    places: Places,
}

type Serve = fn(&Site, &Connection);

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
            places: Places::default(),
        };
        let cannot_accept = Seldom::default();
        let listener = Listener { socket, site: Arc::new(site), cannot_accept };
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
        // First the flag: the accept that the next line ends is the last one.
        self.site.places.stop();
        if let Err(error) = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read) {
            log::debug!("http: {error}");
        }
    }
}

impl Listener {
    /// Accepts until it is stopped, then waits for the threads of all connections: each has found its socket closed.
    fn run(&self) {
        let Listener { socket, site, cannot_accept } = self;
        while !site.places.is_stopping() {
            match socket.accept() {
                _ if site.places.is_stopping() => break,
                Ok((socket, from)) => site.admit(Connection::new(socket, from)),
                // No descriptors or no memory: until there are some, clients wait in the kernel's queue.
                Err(error) => {
                    let complain =
                        || format!("http: cannot accept a connection, trying on: {error}");
                    cannot_accept.say(log::Level::Error, complain);
                    site.places.rest(ACCEPT_PAUSE);
                }
            }
        }
        site.places.wait_for_all();
    }
}

impl Site {
    fn admit(self: &Arc<Site>, connection: Connection) {
        let connection = Arc::new(connection);
        let Some(id) = self.places.enter(&connection) else {
            return turn_away(&connection.socket);
        };
        let (site, for_thread) = (self.clone(), connection.clone());
        let started = spawn_vital("http-client", move || {
            let serve = AssertUnwindSafe(|| (site.serve)(&site, &for_thread));
            // They share counters, and locks that no panic poisons.
            if catch_unwind(serve).is_err() {
                let from = for_thread.from;
                log::error!("{from}: answering an HTTP request ended by a panic");
                for_thread.close(Shutdown::Both);
            }
            site.places.leave(id);
        });
        if let Err(error) = started {
            log::debug!("http: no thread can be started: {error}");
            turn_away(&connection.socket);
            self.places.leave(id);
        }
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
        let http = Http::serving(options(), |site, connection| {
            let mut head = [0; 6];
            while connection.socket.peek(&mut head).expect("a client") < head.len() {}
            assert!(&head != b"GET /p", "this request panics");
            routes::serve(site, connection);
        });
        let http = http.expect("it listens");
        assert_eq!(get(&http, "/panic"), "");
        assert!(get(&http, "/healthz").starts_with("HTTP/1.1 200 "));
    }
    #[test]
    fn the_oldest_that_may_not_look_makes_room_and_those_that_may_do_not() {
        // A request for /kept may be answered, and is not; any other waits for more bytes.
        let http = Http::serving(options(), |site, connection| {
            let mut head = [0; 6];
            while connection.socket.peek(&mut head).is_ok_and(|length| (1..6).contains(&length)) {}
            if &head == b"GET /h" {
                return routes::serve(site, connection);
            }
            if &head == b"GET /k" {
                connection.keep_its_place();
                (&connection.socket).write_all(b"k").expect("it reads");
            }
            let _ = (&connection.socket).read_to_end(&mut Vec::new());
        });
        let http = http.expect("it listens");
        let address = http.0.socket.local_addr().expect("it listens");
        let connect = |request: &[u8]| {
            let mut socket = TcpStream::connect(address).expect("it accepts");
            socket.write_all(request).expect("it is open");
            socket
        };
        let is_kept = |mut socket: &TcpStream| socket.read_exact(&mut [0]).expect("it is kept");
        let kept: Vec<TcpStream> =
            (1..MOST_CONNECTIONS).map(|_| connect(b"GET /kept")).inspect(is_kept).collect();
        let mut silent = connect(b"");
        assert!(get(&http, "/healthz").starts_with("HTTP/1.1 200 "), "there is room");
        assert_eq!(silent.read(&mut [0]).expect("it was closed in order"), 0);
        let last = connect(b"GET /kept");
        is_kept(&last);
        assert!(get(&http, "/healthz").starts_with("HTTP/1.1 503 "), "all may look");
        drop((kept, last));
    }
}
