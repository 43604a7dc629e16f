//! The connections that are open, and which one makes room for another.
//!
//! There are [`MOST_CONNECTIONS`]. A connection keeps its place once its request was read and may be answered; until
//! then it makes room for a new one if all places are taken, the oldest first. So strangers who send nothing, or have
//! no password, cannot keep a probe out, and an orchestrator does not restart a healthy server because of them.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Connections at the same time; a further one is told so and closed. Prometheus, a balancer's probe and a few people
/// with the page open need a dozen.
pub const MOST_CONNECTIONS: usize = 32;

/// How long the thread of a connection that is closed to make room has to end. Until then nothing else is accepted.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// One connection.
pub struct Connection {
    /// To the client.
    pub socket: TcpStream,
    /// The client's address.
    pub from: SocketAddr,
    keeps_its_place: AtomicBool,
    was_closed: AtomicBool,
}

/// See the head of this file.
#[derive(Default)]
pub struct Places {
    stopping: AtomicBool,
    state: Mutex<State>,
    /// A connection has left, was closed to make room, or the server stops.
    changed: Condvar,
}

/// - A connection's number is larger than those of all that came before it.
#[derive(Default)]
struct State {
    last: u64,
    open: BTreeMap<u64, Arc<Connection>>,
}

impl Connection {
    /// One that would make room for another.
    pub fn new(socket: TcpStream, from: SocketAddr) -> Connection {
        let [keeps_its_place, was_closed] = [const { AtomicBool::new(false) }; 2];
        Connection { socket, from, keeps_its_place, was_closed }
    }

    /// Its request may be answered: it makes room for no other from now on.
    pub fn keep_its_place(&self) {
        self.keeps_its_place.store(true, Ordering::Relaxed);
    }

    /// Closes it, or one direction of it.
    pub fn close(&self, how: Shutdown) {
        if let Err(error) = self.socket.shutdown(how) {
            // Its peer was faster.
            log::trace!("http: {error}");
        }
    }

    fn makes_room(&self) -> bool {
        !self.keeps_its_place.load(Ordering::Relaxed) && !self.was_closed.load(Ordering::Relaxed)
    }
}

impl Places {
    /// Whether the server stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Closes all connections; a thread that is between two reads finds the end, or the flag.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.state.lock().open.values().for_each(|connection| connection.close(Shutdown::Both));
        self.changed.notify_all();
    }

    /// Gives a connection a place, and returns its number; `None` if all are taken by connections that keep theirs.
    /// One that comes during a stop gets none.
    pub fn enter(&self, connection: &Arc<Connection>) -> Option<u64> {
        let mut state = self.state.lock();
        if state.open.len() >= MOST_CONNECTIONS {
            self.make_room(&mut state);
        }
        if state.open.len() >= MOST_CONNECTIONS || self.is_stopping() {
            return None;
        }
        state.last += 1;
        let id = state.last;
        state.open.insert(id, connection.clone());
        Some(id)
    }

    /// Takes the place back.
    pub fn leave(&self, id: u64) {
        self.state.lock().open.remove(&id);
        self.changed.notify_all();
    }

    /// Waits until there are no connections.
    pub fn wait_for_all(&self) {
        let mut state = self.state.lock();
        while !state.open.is_empty() {
            self.changed.wait(&mut state);
        }
    }

    /// Waits, but not longer than until a stop.
    pub fn rest(&self, time: Duration) {
        self.rest_while(time, || true);
    }

    /// The same for a connection's thread, and not longer than until that is closed to make room. Returns whether
    /// the connection may go on.
    pub fn rest_of(&self, connection: &Connection, time: Duration) -> bool {
        let is_open = || !connection.was_closed.load(Ordering::Relaxed);
        self.rest_while(time, is_open);
        is_open() && !self.is_stopping()
    }

    fn rest_while(&self, time: Duration, go_on: impl Fn() -> bool) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !self.is_stopping()
            && go_on()
            && !self.changed.wait_until(&mut state, until).timed_out()
        {}
    }

    /// Closes the oldest connection that does not keep its place, and waits a moment for its thread.
    fn make_room(&self, state: &mut MutexGuard<'_, State>) {
        let oldest = state.open.iter().find(|(_, connection)| connection.makes_room());
        let Some((id, connection)) = oldest.map(|(id, connection)| (*id, connection.clone()))
        else {
            return;
        };
        log::debug!("http: {} is closed, another connection needs its place", connection.from);
        connection.was_closed.store(true, Ordering::Relaxed);
        connection.close(Shutdown::Both);
        self.changed.notify_all();
        let until = Instant::now() + ROOM_PATIENCE;
        while state.open.contains_key(&id)
            && !self.is_stopping()
            && !self.changed.wait_until(state, until).timed_out()
        {}
    }
}
