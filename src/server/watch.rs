//! A view of a server for programs that are not its clients, and the question whether they may have it.
//!
//! Nothing can be changed through this, and nothing here takes a lock for longer than it takes to copy a few numbers.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::accounts::Login;
use super::logins::Verdict;
use super::profile::{Profile, Sending};
use super::refused::Refusing;
use super::{Shared, Shutdown};
use crate::command::{Group, RefusedFor};
use crate::doors::Address;
use crate::engine::Engine;
use crate::metrics::Metrics;

/// A running server, seen from outside.
#[derive(Clone)]
pub struct Watch(pub(super) Arc<Shared>);

/// Why a login fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLogin {
    /// Its password or user is wrong, or the caller has gone.
    Wrong,
    /// Too many logins from its address wait for their turns.
    NotLookedAt,
}

/// A login that failed, in ACL LOG: its object there is the protocol, as that of a client's is the command.
const BY_HTTP: Refusing =
    Refusing { reason: RefusedFor::Login, context: "toplevel", command: "http" };

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
    pub fn metrics(&self) -> &Arc<Metrics> {
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
    ) -> Result<Login, NoLogin> {
        let mut found = None;
        let is_right = || {
            found = self.0.settings.accounts.find(user, password);
            found.is_some()
        };
        match self.0.logins.judge(&Address::Net(from), is_right, pause) {
            Verdict::Right => found.ok_or(NoLogin::Wrong),
            Verdict::Wrong => {
                self.0.metrics.failed_logins.add(1);
                self.0.logins.refused.note(BY_HTTP, user, line_of(from));
                Err(NoLogin::Wrong)
            }
            Verdict::NotLookedAt => Err(NoLogin::NotLookedAt),
        }
    }

    /// Whether a login still holds: not once its password was replaced.
    pub fn holds(&self, login: &Login) -> bool {
        self.0.settings.accounts.holds(login)
    }
}

/// A line as in CLIENT LIST, for ACL LOG: programs read all of its fields, also of a login that is no client's.
fn line_of(from: SocketAddr) -> String {
    const NO_CLIENT: u64 = 0;
    const NO_DESCRIPTOR: RawFd = -1;
    let profile = Profile::new(NO_CLIENT, Address::Net(from), None);
    profile.note(|info| info.command = BY_HTTP.command);
    profile.line(NO_CLIENT, NO_DESCRIPTOR, &Sending::default())
}
