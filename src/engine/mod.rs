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

mod answer;
mod audience;
mod batch;
mod batch_view;
mod changes;
mod commit_path;
mod committer;
mod evaluate;
mod events;
mod handle;
mod info;
mod layer;
mod loader;
mod local_log;
pub mod log;
mod no_room;
mod queue;
#[cfg(all(test, shuttle))]
mod schedules;
mod submission;
mod view;
mod watches;
mod window;

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::metrics::Metrics;
use crate::store::{Counts, Store};
use crate::sync::thread::JoinHandle;
use crate::sync::{Mutex, spawn_vital};
use crate::wal::disk::Disk;
use crate::wal::guard::reserve::Reserve;
use crate::wal::lock::Lock;
use crate::wal::names::Names;
use crate::wal::reader::Replay;
use crate::wal::{self, SyncPolicy, Wal};

use self::log::Log;
use commit_path::CommitPath;
use committer::Committer;
use local_log::LocalLog;
use queue::CommitQueue;
use submission::count;

pub use answer::{Allowance, Collected};
pub use audience::{Audience, News};
pub use handle::{Handle, NotCompacted};
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
    queue: CommitQueue,
    metrics: Arc<Metrics>,
    /// Whether the log takes writes.
    health: Arc<Health>,
    /// Where the log is, if there is one.
    files: Option<LogFiles>,
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
    /// Asks for a compaction, after the running one if there is one. Returns whether it may begin at once.
    fn ask_again(&self) -> bool;
    /// By how many per cent of the snapshot the log grows before it is compacted, and by how many bytes at least.
    fn policy(&self) -> (u64, u64);
    /// Sets both.
    fn set_policy(&self, percent: u64, least_bytes: u64);
}

/// Where the log is.
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
        Engine::start(store, None, options, metrics)
    }

    /// Replays the log into the store, which is empty, and starts on both. The caller holds the log's
    /// [`Lock`].
    pub fn open(
        disk: Arc<dyn Disk>,
        log: wal::Options,
        options: &Options,
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Engine> {
        let log = wal::Options { sync: sync_policy(options.fsync), ..log };
        let started = Instant::now();
        let path = log.path.clone();
        let read = |replay: &mut dyn Replay| Wal::open(disk.clone(), log, replay);
        let (wal, summary) = loader::load(&*store, read)?;
        report_start(&path, &summary, store.len(), started);
        check_databases(&path, &*store, options.databases)?;
        metrics.durable_lsn.set(wal.durable_lsn());
        let reserve = wal.reserve();
        let snapshot_bytes = summary.snapshot_bytes;
        let files = LogFiles { disk, names: Names::new(&path), reserve, snapshot_bytes };
        Engine::start(store, Some((wal, files)), options, metrics)
    }

    fn start(
        store: Box<dyn Store>,
        opened: Option<(Wal, LogFiles)>,
        options: &Options,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Engine> {
        let (wal, files) = opened.unzip();
        let Options { fsync, max_value, max_reply, max_memory, databases } = *options;
        let shared = Arc::new(Shared {
            store,
            queue: CommitQueue::default(),
            metrics: metrics.clone(),
            health: wal.as_ref().map(Wal::health).unwrap_or_default(),
            files,
            compactor: OnceLock::new(),
            audience: OnceLock::new(),
            logged: wal.as_ref().map_or(0, Wal::total_bytes).into(),
            segment: wal.as_ref().map_or(0, |wal| wal.active().sequence).into(),
            writers: AtomicUsize::new(0),
            max_value,
            max_reply,
            max_memory: max_memory.unwrap_or(0).into(),
            databases,
        });
        let queued = Arc::downgrade(&shared);
        // An errand wakes the committer's thread, which takes notice of the sync that has ended.
        let notice = move || {
            queued.upgrade().inspect(|shared| shared.queue.push_errand(Box::new(|_| {})));
        };
        let log = wal.map(|wal| -> Box<dyn Log> {
            Box::new(LocalLog::new(wal, fsync, metrics, Arc::new(notice)))
        });
        let committer = Arc::new(Committer::new(CommitPath::new(shared, log)));
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

fn report_start(path: &std::path::Path, summary: &wal::Summary, keys: usize, started: Instant) {
    let shown = path.display();
    ::log::info!(
        "{shown}: {} records in {} batches, {keys} keys, {} bytes in {} segments after a snapshot of \
         {}, read in {:.3} s; {}",
        summary.records,
        summary.batches,
        summary.bytes,
        summary.segments,
        summary.snapshot_bytes,
        started.elapsed().as_secs_f64(),
        match (summary.cut_bytes, summary.closed) {
            (0, true) => "closed in order".to_owned(),
            (0, false) => "not closed in order, nothing cut".to_owned(),
            (cut, _) => format!("not closed in order, {cut} bytes cut that nobody relied on"),
        }
    );
}

/// Refuses a log with keys in a database that clients could not select: nobody would see that they are there.
fn check_databases(
    path: &std::path::Path,
    store: &dyn Store,
    databases: u16,
) -> anyhow::Result<()> {
    let last = store.databases().into_iter().max_by_key(|counts| counts.number);
    if let Some(Counts { number, keys, .. }) = last.filter(|last| last.number >= databases) {
        anyhow::bail!(
            "{}: database {number} has {keys} key{}, and with -databases {databases} no client could \
             select it. Nothing was changed. Start with -databases {} or more",
            path.display(),
            if keys == 1 { "" } else { "s" },
            number + 1
        );
    }
    Ok(())
}

/// Takes the lock of the log at `path`. A missing directory is made, if it may be.
pub fn lock(path: &std::path::Path, may_make_directory: bool) -> anyhow::Result<Arc<Lock>> {
    let names = Names::new(path);
    let lock = Lock::acquire(&names.lock(), may_make_directory)?;
    wal::disk::warn_if_in_memory(names.directory());
    Ok(Arc::new(lock))
}

fn sync_policy(fsync: Fsync) -> SyncPolicy {
    match fsync {
        Fsync::Always => SyncPolicy::Always,
        Fsync::EverySecond | Fsync::Never => SyncPolicy::Later,
    }
}
