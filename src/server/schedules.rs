//! Clients, committer, flusher and the ordered stop under thousands of schedules of their threads;
//! see [`crate::sync`].
//!
//! Everything runs except `accept`: a client is one end of a socket pair, which takes only a few replies,
//! and has sent all its requests before it is admitted. So no thread ever waits in the kernel, where the
//! checker could not switch to another one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Half, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

use super::outbox::COMFORTABLE_BYTES;
use super::{Accounts, Changeable, STOP_PATIENCE, Server, Settings, Shutdown, UnreadLimits};
use crate::command::Events;
use crate::doors::{Address, Wire};
use crate::engine::{Engine, Fsync, Options};
use crate::metrics::Metrics;
use crate::protocol::Limits;
use crate::scripts;
use crate::store;
use crate::sync::{check_schedules, thread};
use crate::upkeep;

const CLIENTS: u64 = 2;

/// Two of these are more than a client is comfortable with.
const VALUE_BYTES: usize = COMFORTABLE_BYTES * 2 / 3;

/// This many increments, each with two reads, do not fit into what a connection reads at first; the cut is
/// within a read, which then has to wait for what was queued before it.
const ROUNDS: usize = 140;

#[test]
fn clients_that_read_slowly_get_every_reply_in_order() {
    check_schedules("slow clients", 1_000, || {
        let (server, shutdown) = (Running::start(), new_shutdown());
        let peers: Vec<_> =
            (1..=CLIENTS).map(|id| server.admit(id, requests(), &shutdown)).collect();
        for peer in peers {
            let received = peer.join().expect("a peer");
            assert!(received == replies(), "{} bytes", received.len());
        }
        server.stop();
    });
}

#[test]
fn a_pipeline_that_comes_in_parts_is_carried_out_in_order() {
    check_schedules("pipelines", 2_000, || {
        let (server, shutdown) = (Running::start(), new_shutdown());
        let round = |id| format!("INCR n{id}\r\nGET n{id}\r\nGET n{id}\r\n");
        let admit = |id| server.admit(id, round(id).repeat(ROUNDS).into_bytes(), &shutdown);
        let peers: Vec<_> = (1..=CLIENTS).map(admit).collect();
        for peer in peers {
            let received = String::from_utf8(peer.join().expect("a peer")).expect("text");
            let replies = |n| format!(":{n}\r\n+OK {n}\r\n+OK {n}\r\n");
            let expected: String = (1..=ROUNDS).map(replies).collect();
            assert_eq!(received, expected);
        }
        server.stop();
    });
}

#[test]
fn a_stop_ends_every_thread_and_cuts_no_reply_but_those_not_yet_begun() {
    check_schedules("clients and stop", 1_000, || {
        let (server, shutdown) = (Running::start(), new_shutdown());
        let peers: Vec<_> =
            (1..=CLIENTS).map(|id| server.admit(id, requests(), &shutdown)).collect();
        shutdown.flag().store(true, Ordering::Relaxed);
        server.stop();
        for peer in peers {
            let received = peer.join().expect("a peer");
            assert!(replies().starts_with(&received), "{} bytes", received.len());
        }
    });
}

fn new_shutdown() -> Shutdown {
    Shutdown::new().expect("descriptors")
}

/// A write, reads before and after it, and longer replies than [`COMFORTABLE_BYTES`].
fn requests() -> Vec<u8> {
    let value = "v".repeat(VALUE_BYTES);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE_BYTES}\r\n{value}\r\n");
    format!("PING\r\n{set}ECHO a\r\nGETRANGE k 0 9\r\nSTRLEN k\r\nGET k\r\nGET k\r\nSTRLEN k\r\n")
        .into_bytes()
}

fn replies() -> Vec<u8> {
    let (value, few) = ("v".repeat(VALUE_BYTES), "v".repeat(10));
    let get = format!("+OK {value}\r\n");
    let length = format!(":{VALUE_BYTES}\r\n");
    format!("+PONG\r\n+OK\r\n$1\r\na\r\n$10\r\n{few}\r\n{length}{get}{get}{length}").into_bytes()
}

/// A server with its flusher.
struct Running {
    server: Server,
    flusher: thread::JoinHandle<()>,
}

impl Running {
    fn start() -> Running {
        let metrics = Arc::new(Metrics::default());
        let engine = Engine::in_memory(
            store::new(1, 0),
            metrics.clone(),
            &Options {
                fsync: Fsync::Never,
                max_value: 1000,
                max_reply: 1 << 30,
                max_memory: None,
                databases: 16,
            },
        );
        let engine = engine.expect("nothing can fail");
        upkeep::start(&engine, upkeep::Policy::default()).expect("nothing can fail");
        let engine = Arc::new(engine);
        let settings = Settings {
            changeable: Changeable::new(10),
            accounts: Arc::new(Accounts::new(None, None)),
            login_time: Duration::ZERO,
            limits: Limits::default(),
            scripts: scripts::Limits { key: 1000, value: 1000, busy_after: Duration::ZERO },
            unread: UnreadLimits::default(),
            events: Events::default(),
            saves_at_once: false,
            nodes: None,
            reloads: Vec::new(),
            shown: Vec::new(),
        };
        let server = Server::new(engine, metrics, settings).expect("descriptors");
        let flusher = server.flusher.clone();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flusher = thread::spawn(move || {
            while flusher.round(Some(&at_once)) {
                thread::yield_now();
            }
        });
        Running { server, flusher }
    }

    /// Admits a client that has sent everything, and starts its peer, which returns what it has received in
    /// the end.
    fn admit(
        &self,
        id: u64,
        requests: Vec<u8>,
        shutdown: &Shutdown,
    ) -> thread::JoinHandle<Vec<u8>> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None);
        let (ours, theirs) = pair.expect("a socket pair");
        sockopt::set_socket_send_buffer_size(&theirs, 2 * VALUE_BYTES).expect("a socket");
        let mut peer = TcpStream::from(theirs);
        peer.write_all(&requests).expect("it takes all of it");
        peer.shutdown(Half::Write).expect("a socket");
        peer.set_nonblocking(true).expect("a socket");
        let door = Address::Path(Arc::from(Path::new("a pair")));
        self.server.admit(id, Wire::unix(ours, door), shutdown);
        thread::spawn(move || {
            let (mut received, mut part) = (Vec::new(), vec![0; 1 << 18]);
            loop {
                match peer.read(&mut part) {
                    Ok(0) => return received,
                    Ok(count) => received.extend_from_slice(&part[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // It was stopped before it took all that was sent.
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => return received,
                    Err(error) => panic!("the peer cannot read: {error}"),
                }
                thread::yield_now();
            }
        })
    }

    /// Stops as [`Server::run`] and `main` do.
    fn stop(self) {
        let Running { server, flusher } = self;
        server.shared.clients.stop(STOP_PATIENCE);
        server.flusher.stop();
        flusher.join().expect("the flusher");
        assert!(server.shared.engine.close());
    }
}
