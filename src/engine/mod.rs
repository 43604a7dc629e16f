//! Ties the store and the log together; the only place where threads meet.
//!
//! ```text
//!  client threads                               committer thread
//!  ── read ──► store                            ┌───────────────────────────────────────────────┐
//!  ── submit ──► queue ────── all of it ──────► │ evaluate │ frame │ write+sync │ apply │ reply │
//!                                               └───────────────────────────────────────────────┘
//! ```
//!
//! A read goes straight to the store, which holds only what is durable, and waits for no disk. A
//! write goes into the `queue`, and the `committer` carries everything that is queued through
//! the log as one batch. Queue order is log order is apply order is reply order. If nothing is queued
//! and the committer's thread sleeps, a lone client's thread commits its own batch in the same way.
//!
//! One SET: `handle` submits it, `queue`, `committer`, `commit_path` (evaluates it into `batch`), [`log`], the
//! store, and the [`Recipient`] that the submission brought for its replies. The engine knows no socket.

mod alter;
mod altered;
mod answer;
mod audience;
mod batch;
mod batch_view;
mod changes;
mod commit_path;
mod committer;
mod evaluate;
mod events;
mod facts;
mod handle;
mod info;
mod layer;
mod loader;
mod local_log;
pub mod log;
mod no_room;
mod open;
#[cfg(all(test, not(shuttle)))]
mod other_writers;
mod partial;
mod queue;
#[cfg(all(test, shuttle))]
mod schedules;
mod submission;
#[cfg(all(test, shuttle))]
#[path = "takeover/schedules.rs"]
mod takeover_schedules;
mod tap;
mod view;
mod watches;
mod window;

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context;

use crate::metrics::Metrics;
use crate::store::Store;
use crate::sync::thread::JoinHandle;
use crate::sync::{Mutex, spawn_vital};
use crate::wal::disk::Disk;
use crate::wal::guard::reserve::Reserve;
use crate::wal::names::Names;

use self::log::{Gate, Log};
use commit_path::CommitPath;
use committer::Committer;
use queue::CommitQueue;
use submission::{count, count_errors};

pub use answer::{Allowance, Collected};
pub use audience::{Audience, News};
pub use facts::{LogFacts, StoreFacts};
pub use handle::{Answered, Handle, NotCompacted};
pub use loader::store_batch;
pub use open::lock;
pub use submission::{Operation, Recipient, Submission};
pub use watches::distinct as distinct_watched_keys;

pub use crate::command::MOST_DATABASES;
pub use crate::wal::health::{Health, Room};

/// When a write is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before its reply.
    Always,
    /// At most a second after its reply.
    EverySecond,
    /// When the operating system pleases, and at a clean stop.
    Never,
}

/// How long the log must be idle before it is marked so. Long enough that a busy log never is,
/// short enough that little can be lost to damage without being noticed.
pub const IDLE_BEFORE_MARK: Duration = Duration::from_millis(50);

/// Settings of an engine, fixed at its start.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a write is on disk.
    pub fsync: Fsync,
    /// The longest value that a command may make.
    pub max_value: usize,
    /// The longest reply, and the most that the replies of one transaction may take up.
    pub max_reply: usize,
    /// The most memory that the store may take up. Above it, a command that adds something is refused.
    pub max_memory: Option<usize>,
    /// How many databases there are.
    pub databases: u16,
}

/// Shared by client threads and the committer.
struct Shared {
    store: Box<dyn Store>,
    queue: Arc<CommitQueue>,
    metrics: Arc<Metrics>,
    /// Whether the log takes writes.
    health: Arc<Health>,
    has_log: bool,
    /// The files that the log is in, if it is in files.
    files: Option<LogFiles>,
    /// Says whether what is stored may be shown, if others may write to the log.
    gate: Option<Arc<dyn Gate>>,
    /// Kept alive by its thread.
    compactor: OnceLock<Weak<dyn Compactor>>,
    /// Set by the server.
    audience: OnceLock<Arc<dyn Audience>>,
    /// Bytes of the log that were read at the start and written since.
    logged: AtomicU64,
    /// The segment that is being written.
    segment: AtomicU64,
    /// The number of clients that the last batch answered, or that waited for a later one by then.
    writers: AtomicUsize,
    max_value: usize,
    max_reply: usize,
    /// 0 is no limit.
    max_memory: AtomicUsize,
    databases: u16,
}

impl Shared {
    fn max_memory(&self) -> Option<usize> {
        Some(self.max_memory.load(Ordering::Relaxed)).filter(|most| *most > 0)
    }

    fn compactor(&self) -> Option<Arc<dyn Compactor>> {
        self.compactor.get()?.upgrade()
    }

    fn audience(&self) -> Option<&dyn Audience> {
        self.audience.get().map(|audience| &**audience)
    }
}

/// Keeps the log short. The engine knows no more of it than this.
pub trait Compactor: Send + Sync {
    /// Asks for a compaction; false if one is running.
    fn ask(&self) -> bool;
    /// Whether a compaction was asked for that has not begun.
    fn is_asked(&self) -> bool;
    /// Has the compactor decide at once whether to begin, because space may be short.
    fn look(&self);
    /// Whether a compaction that may make room is running, or may begin at once.
    fn may_make_room(&self) -> bool;
    /// Bytes of the snapshot, and of the log after it.
    fn log_bytes(&self) -> (u64, u64);
    /// How many bytes of log after the snapshot make it due for a compaction; `None` if it never is.
    fn due_at(&self) -> Option<u64>;
    /// Asks for a compaction, after the running one if there is one. Returns whether it may begin at once.
    fn ask_again(&self) -> bool;
    /// By how many per cent of the snapshot the log grows before it is compacted, and by how many bytes at least.
    fn policy(&self) -> (u64, u64);
    /// Sets both.
    fn set_policy(&self, percent: u64, least_bytes: u64);
}

/// The files that the log is in.
pub struct LogFiles {
    /// The disk that it is on.
    pub disk: Arc<dyn Disk>,
    /// The names of its files.
    pub names: Names,
    /// The space that it keeps in reserve.
    pub reserve: Arc<Reserve>,
    /// Bytes of the snapshot that was read at the start.
    pub snapshot_bytes: u64,
}

/// A log that has been opened.
struct Opened {
    log: Box<dyn Log>,
    files: Option<LogFiles>,
    gate: Option<Arc<dyn Gate>>,
}

/// A store and its log, with the thread that commits to both.
pub struct Engine {
    handle: Handle,
    /// The committer's thread.
    committing: Mutex<Option<JoinHandle<()>>>,
    /// Ends the threads that work beside it.
    upkeep: Mutex<Vec<Stop>>,
}

/// Ends a thread and waits for its end.
pub type Stop = Box<dyn FnOnce() + Send>;

impl Engine {
    /// Starts without a log: nothing is kept on disk.
    pub fn in_memory(
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
        options: &Options,
    ) -> anyhow::Result<Engine> {
        Engine::start(store, Arc::default(), None, options, metrics)
    }

    /// Starts on a log that others may write to, too. Its errands fill the store.
    pub fn over(
        log: Box<dyn Log>,
        gate: Arc<dyn Gate>,
        options: &Options,
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Engine> {
        let opened = Opened { log, files: None, gate: Some(gate) };
        Engine::start(store, Arc::default(), Some(opened), options, metrics)
    }

    fn start(
        store: Box<dyn Store>,
        queue: Arc<CommitQueue>,
        opened: Option<Opened>,
        options: &Options,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Engine> {
        let Options { fsync: _, max_value, max_reply, max_memory, databases } = *options;
        let log = opened.as_ref().map(|opened| &opened.log);
        let shared = Shared {
            store,
            queue,
            metrics,
            has_log: log.is_some(),
            health: log.map(|log| log.health()).unwrap_or_default(),
            logged: log.map_or(0, |log| log.total_bytes()).into(),
            segment: log.map_or(0, |log| log.last_seal().following.sequence).into(),
            files: None,
            gate: None,
            compactor: OnceLock::new(),
            audience: OnceLock::new(),
            writers: AtomicUsize::new(0),
            max_value,
            max_reply,
            max_memory: max_memory.unwrap_or(0).into(),
            databases,
        };
        let (shared, log) = match opened {
            None => (shared, None),
            Some(Opened { log, files, gate }) => (Shared { files, gate, ..shared }, Some(log)),
        };
        let committer = Arc::new(Committer::new(CommitPath::new(Arc::new(shared), log)));
        let for_thread = committer.clone();
        let committing = spawn_vital("committer", move || for_thread.run());
        let committing = committing.context("cannot start the committer thread")?;
        Ok(Engine {
            handle: Handle(committer),
            committing: Mutex::new(Some(committing)),
            upkeep: Mutex::default(),
        })
    }

    /// The engine for threads that work beside the committer.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets the engine know its compactor.
    pub fn attach(&self, compactor: Weak<dyn Compactor>) {
        let attached = self.handle.shared().compactor.set(compactor);
        assert!(attached.is_ok(), "a log has one compactor");
    }

    /// Lets the engine know those who hear what is published.
    pub fn attach_audience(&self, audience: Arc<dyn Audience>) {
        let attached = self.handle.shared().audience.set(audience);
        assert!(attached.is_ok(), "a server has one audience");
    }

    /// Has [`Engine::close`] begin by stopping a thread that works beside the committer.
    pub fn stop_first(&self, stop: Stop) {
        self.upkeep.lock().push(stop);
    }

    /// Answers everything that is queued, closes the log in order, and ends the committer. False
    /// if the log could not be closed.
    pub fn close(&self) -> bool {
        self.upkeep.lock().drain(..).for_each(|stop| stop());
        self.handle.shared().queue.close();
        // Every caller waits until the thread has ended: the lock is held for the join.
        if let Some(thread) = self.committing.lock().take() {
            thread.join().expect("its panic ends the process");
        }
        self.handle.shared().health.failure().is_none()
    }
}

impl Deref for Engine {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}
