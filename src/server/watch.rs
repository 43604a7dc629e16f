//! A view of a server for programs that are not its clients, and the question whether they may have it.
//!
//! Nothing can be changed through this, and nothing here takes a lock for longer than it takes to copy a few numbers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::logins::Verdict;
use super::{Shared, Shutdown};
use crate::command::Group;
use crate::doors::Address;
use crate::engine::Engine;
use crate::metrics::Metrics;

/// A running server, seen from outside.
#[derive(Clone)]
pub struct Watch(pub(super) Arc<Shared>);

/// How many clients there are, and of what kind.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts {
    /// Connected now.
    pub connected: u64,
    /// The most that may be.
    pub most: usize,
    /// Those that CLIENT PAUSE keeps waiting.
    pub blocked: usize,
    /// Those with a subscription.
    pub subscribers: usize,
    /// Those that watch a key.
    pub watching: u64,
    /// Bytes that all of them have not read.
    pub unread_bytes: usize,
}

impl Shared {
    /// How many clients there are now.
    pub(super) fn client_facts(&self) -> ClientFacts {
        let Shared { metrics, settings, hub, pause, flusher, .. } = self;
        ClientFacts {
            connected: metrics.connected_clients.get(),
            most: settings.changeable.max_clients(),
            blocked: pause.waiting(),
            subscribers: hub.subscribed_clients(),
            watching: metrics.watching_clients.get(),
            unread_bytes: flusher.unread_bytes(),
        }
    }
}

impl Watch {
    /// Store and log.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How many clients there are now.
    pub fn clients(&self) -> ClientFacts {
        self.0.client_facts()
    }

    /// The machines that write the log in turn, if it is not this one's alone.
    pub fn group(&self) -> Option<Group> {
        self.0.settings.nodes.as_ref().map(|nodes| nodes.group())
    }

    /// Whether clients can connect.
    pub fn listens(&self) -> bool {
        self.0.listening.get().is_some()
    }

    /// The port that clients connect to without TLS, or with it if there is no other; 0 if there is none.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Whether the server was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.get().is_some_and(Shutdown::is_asked)
    }

    /// Whether clients have to log in.
    pub fn needs_password(&self) -> bool {
        self.0.settings.accounts.needs_password()
    }

    /// Judges a login as that of a client is judged, and counts it with those: failures from an address make all of
    /// its logins wait, here and there. `pause` waits, and returns whether the caller is still there.
    pub fn log_in(
        &self,
        from: SocketAddr,
        (user, password): (&[u8], &[u8]),
        pause: impl FnOnce(Duration) -> bool,
    ) -> Verdict {
        let is_right = || self.0.settings.accounts.find(user, password).is_some();
        let verdict = self.0.logins.judge(&Address::Net(from), is_right, pause);
        if verdict == Verdict::Wrong {
            self.0.metrics.failed_logins.add(1);
        }
        verdict
    }
}
