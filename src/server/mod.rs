//! The threads that serve clients: one that accepts, and one per client.
//!
//! All threads that serve clients are started here, in sight: the caller's thread accepts, `flusher`
//! finishes slow replies, and each `client-<id>` serves one client. The server owns no data: requests
//! for it go to the engine.

mod accounts;
mod asked;
mod client;
mod clients;
mod connection;
mod descriptors;
mod direct;
mod flusher;
mod gets;
mod idle;
mod info;
mod logins;
mod muted;
mod outbox;
mod pause;
mod preemption;
mod profile;
mod pubsub;
mod pushes;
mod received;
mod refused;
mod reload;
#[cfg(all(test, shuttle))]
mod schedules;
mod seldom;
mod session;
mod settings;
mod shutdown;
mod transaction;
mod waiting;
mod watch;

pub use accounts::{Accounts, Login};
pub use descriptors::raise_descriptor_limit;
pub use flusher::UnreadLimits;
pub use pushes::output_limits;
pub use reload::Reload;
pub use seldom::Seldom;
pub use settings::Changeable;
pub use shutdown::{Shutdown, Wish};

pub use watch::{ClientFacts, NoLogin, Watch};

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;

use crate::command::{Events, Node, Nodes, Passing, Scope};
use crate::doors::{Doors, Listening, Wire};
use crate::engine::{Audience, Engine};
use crate::entry::now_millis;
use crate::metrics::Metrics;
use crate::protocol::Limits;
use crate::scripts::{self, Scripts};
use crate::sync::{spawn_vital, thread};
use client::Client;
use clients::Clients;
use flusher::Flusher;
use idle::Idle;
use logins::Logins;
use outbox::Outbox;
use pause::Pause;
use pubsub::Hub;

/// Stack of a client's thread. Parsing, answering and committing go a few calls deep and keep their
/// data on the heap; only the pages that are touched take up memory. (The most seen, in a debug build whose
/// clients commit, rotate and seal the log themselves: 68 KiB.) A lone client's thread also runs its scripts, and
/// what a script calls may nest 200 deep, which Lua sees to.
const CLIENT_STACK_BYTES: usize = if cfg!(feature = "scripts") { 1 << 20 } else { 128 << 10 };

/// How long to wait before the next `accept` when there are no file descriptors or no memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients have to read their last replies when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

const FULL: &str = "-ERR max number of clients reached\r\n";

/// A server of the clients that come in by its doors.
pub struct Server {
    shared: Arc<Shared>,
    flusher: Arc<Flusher>,
}

/// Settings of a server, fixed at its start except for those that CONFIG SET changes.
pub struct Settings {
    /// What may be changed while the server runs.
    pub changeable: Changeable,
    /// Who may log in.
    pub accounts: Arc<Accounts>,
    /// How long a client may take to log in.
    pub login_time: Duration,
    /// The limits of a request.
    pub limits: Limits,
    /// The limits of scripts.
    pub scripts: scripts::Limits,
    /// The limits of what clients leave unread.
    pub unread: UnreadLimits,
    /// Which changes of keys are told on channels at first: Redis's `notify-keyspace-events`.
    pub events: Events,
    /// Whether every reply to a write waits until that is on disk.
    pub saves_at_once: bool,
    /// The machines that write the log in turn; `None` if it is this one's alone.
    pub nodes: Option<Arc<dyn Nodes>>,
    /// What is read anew at SIGHUP.
    pub reloads: Vec<Reload>,
    /// The settings that CONFIG GET shows, except those that may change, and the ports, which are known once the
    /// server listens.
    pub shown: Vec<(&'static str, String)>,
}

/// Shared by the threads of all clients.
struct Shared {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    settings: Settings,
    clients: Clients,
    hub: Arc<Hub>,
    logins: Logins,
    scripts: Scripts,
    pause: Pause,
    /// The message that a client is turned away.
    turned_away: Seldom,
    /// The message that a client is closed because it speaks HTTP.
    speak_http: Seldom,
    /// The message that a client is closed because it speaks TLS where it should not.
    speak_tls: Seldom,
    /// The message that a client is closed because of its TLS.
    refused_by_tls: Seldom,
    flusher: Arc<Flusher>,
    /// Where it listens, once it does.
    listening: OnceLock<Vec<Listening>>,
    idle: Idle,
    /// How SHUTDOWN stops the server, once that runs.
    stop: OnceLock<Shutdown>,
    /// In milliseconds of Unix time.
    started_at: i64,
}

impl Shared {
    /// When everything was last known to be on disk, in seconds of Unix time: now, if every write is on disk
    /// before its reply, otherwise the last compaction, or the start of the server.
    fn saved_at(&self) -> i64 {
        let is_saved = self.settings.saves_at_once && self.engine.health().failure().is_none();
        let compacted_at = self.metrics.compaction.last_done_at.get() as i64;
        if is_saved { now_millis() / 1000 } else { compacted_at.max(self.started_at / 1000) }
    }
}

impl Shared {
    /// Closes the clients whose login does not hold any more.
    fn end_stale_logins(&self) {
        let ended = self.clients.end_stale_logins(&self.settings.accounts);
        if ended > 0 {
            log::warn!("{ended} clients are closed: their password does not hold any more");
        }
    }
}

impl Server {
    /// A server of this engine.
    pub fn new(
        engine: Arc<Engine>,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> anyhow::Result<Server> {
        let flusher = Arc::new(Flusher::new(settings.unread).context("cannot watch sockets")?);
        let scripts = Scripts::new(settings.scripts, metrics.clone());
        let hub = Arc::new(Hub::new(flusher.clone(), settings.events));
        engine.attach_audience(hub.clone());
        let shared = Arc::new(Shared {
            engine,
            metrics,
            settings,
            clients: Clients::default(),
            hub,
            logins: Logins::default(),
            scripts,
            pause: Pause::default(),
            turned_away: Seldom::default(),
            speak_http: Seldom::default(),
            speak_tls: Seldom::default(),
            refused_by_tls: Seldom::default(),
            flusher: flusher.clone(),
            listening: OnceLock::new(),
            idle: Idle::default(),
            stop: OnceLock::new(),
            started_at: now_millis(),
        });
        Ok(Server { shared, flusher })
    }

    /// The server, seen from outside.
    pub fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// What the group of machines calls when something changes in it. A new leader is told of as Redis Sentinel tells
    /// of one; when this machine leads no more all connections end, because their clients relied on its lead.
    pub fn heed(&self, group: &str) -> impl Fn(Passing) + Send + Sync + 'static {
        let (shared, group) = (self.shared.clone(), group.to_owned());
        move |change| match change {
            Passing::Ended => shared.clients.end_all(),
            Passing::Leader { from, to } => {
                let Node { host, port, .. } = from.as_ref().unwrap_or(&to);
                let message = format!("{group} {host} {port} {} {}", to.host, to.port);
                shared.hub.publish(Scope::All, b"+switch-master", message.as_bytes());
            }
        }
    }

    /// Reads the files anew that SIGHUP is for. One that cannot be read stays as it was, and a message says so.
    pub fn reload(&self) {
        self.shared.settings.reloads.iter().for_each(Reload::run);
        self.shared.end_stale_logins();
    }

    /// Begins to listen at all doors: from here on clients come in, and wait for [`Server::run`].
    pub fn open(&self, doors: &Doors) -> anyhow::Result<()> {
        self.shared.listening.get_or_init(|| doors.listening());
        doors.open()
    }

    /// Lets clients in and serves them until `shutdown` is asked for. Then closes the doors, answers what is queued,
    /// and waits for all threads.
    /// Calls `stopping` in between, once no more clients come in.
    pub fn run(
        &self,
        doors: Doors,
        shutdown: &Shutdown,
        stopping: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let first_run = self.shared.stop.set(shutdown.clone()).is_ok();
        assert!(first_run, "a server runs once");
        let flusher = self.flusher.clone();
        let flusher_thread = spawn_vital("flusher", move || flusher.run())
            .context("cannot start the flusher thread")?;
        let idle = self.shared.clone();
        let idle_thread = spawn_vital("idle", move || idle.idle.run(&idle))
            .context("cannot start the idle thread")?;
        self.accept_all(&doors, shutdown);
        drop(doors);
        stopping();
        self.shared.scripts.stop();
        self.shared.pause.stop();
        self.shared.clients.stop(STOP_PATIENCE);
        self.shared.idle.stop();
        idle_thread.join().expect("its panic ends the process");
        self.flusher.stop();
        flusher_thread.join().expect("its panic ends the process");
        Ok(())
    }

    fn accept_all(&self, doors: &Doors, shutdown: &Shutdown) {
        let mut next_id = 1;
        let cannot_accept = Seldom::default();
        while !shutdown.is_asked() {
            doors.accept(shutdown, |accepted| match accepted {
                Ok(wire) => {
                    self.admit(next_id, wire, shutdown);
                    next_id += 1;
                }
                // No descriptors or no memory: clients that leave give some back. Until then new
                // ones wait in the kernel's queue.
                Err(error) => {
                    let complain = || format!("cannot accept a client, trying on: {error}");
                    cannot_accept.say(log::Level::Error, complain);
                    shutdown.wait(ACCEPT_PAUSE);
                }
            });
            self.shared.clients.join_finished();
        }
    }

    fn admit(&self, id: u64, wire: Wire, shutdown: &Shutdown) {
        let Shared { metrics, settings, clients, turned_away, .. } = &*self.shared;
        metrics.total_connections.add(1);
        let is_full = clients.count() >= settings.changeable.max_clients();
        let may_make_room = settings.accounts.needs_password();
        if is_full && !(may_make_room && clients.make_room()) {
            metrics.rejected_connections.add(1);
            let most = settings.changeable.max_clients();
            let complain = || format!("{}: turned away, there are {most} clients", wire.peer);
            turned_away.say(log::Level::Warn, complain);
            return turn_away(&wire);
        }
        if let Err(error) = wire.prepare() {
            log::debug!("{}: {error}", wire.peer);
        }
        let outbox = Outbox::new(id, wire, self.flusher.clone(), metrics.clone());
        let outbox = Arc::new(outbox);
        let (shared, stopping) = (self.shared.clone(), shutdown.clone());
        let client = Client { outbox: outbox.clone(), shared, stopping };
        let admitted = clients.admit(&outbox, || {
            thread::Builder::new()
                .name(format!("client-{id}"))
                .stack_size(CLIENT_STACK_BYTES)
                .spawn(move || client.run())
        });
        if let Err(error) = admitted {
            let wire = outbox.wire();
            let complain =
                || format!("{}: turned away, no thread can be started: {error}", wire.peer);
            turned_away.say(log::Level::Error, complain);
            metrics.rejected_connections.add(1);
            turn_away(wire);
        }
    }
}

fn turn_away(wire: &Wire) {
    if let Err(error) = wire.turn_away(FULL) {
        log::debug!("cannot tell a client that it is turned away: {error}");
    }
}
