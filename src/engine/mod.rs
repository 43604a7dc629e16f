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
//! the log as one batch. Queue order is log order is apply order is reply order. Where nothing is queued
//! and the committer's thread sleeps, a client's own thread goes that way, one at a time.
//!
//! The engine knows no socket: whoever submits brings a [`Recipient`] for the replies.

mod answer;
mod batch;
mod changes;
mod commit_path;
mod committer;
mod compaction;
mod expirer;
mod info;
mod loader;
mod queue;
mod read;
#[cfg(all(test, shuttle))]
mod schedules;
mod view;
mod watches;
mod window;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::command::{Command, CommandId, Dialect, Mutation, Reply, RespVersion, Watcher};
use crate::entry::now_millis;
use crate::metrics::Metrics;
use crate::record;
use crate::store::Store;
use crate::sync::thread::JoinHandle;
use crate::sync::{Mutex, spawn_vital};
use crate::wal::disk::Disk;
use crate::wal::lock::Lock;
use crate::wal::names::Names;
use crate::wal::reader::Replay;
use crate::wal::{self, Failure, SyncPolicy, Wal};

use committer::Committer;
use compaction::{Compaction, Place};
use expirer::Expirer;
use queue::CommitQueue;
use view::StoreView;

pub use answer::{Allowance, Answer, Collected, Refusal, TOO_LONG};
pub use compaction::Policy;
pub use watches::distinct as distinct_watched_keys;

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

/// One request on its way, and its reply on the way back.
#[derive(Debug)]
pub struct Operation {
    /// What is asked. After it is answered a SET's entry is gone: it is in the store.
    pub command: Command,
    /// How the reply is to be spelled.
    pub dialect: Dialect,
    /// The answer.
    pub reply: Reply<'static>,
    /// Under which name it is counted.
    pub id: Option<CommandId>,
    /// What it took up in memory when it was asked.
    pub bytes: usize,
}

impl Operation {
    /// A request that is not answered yet.
    pub fn new(command: Command, dialect: Dialect, id: Option<CommandId>) -> Operation {
        let bytes = command.bytes();
        Operation { command, dialect, reply: Reply::Null, id, bytes }
    }
}

/// Where replies go.
pub trait Recipient: Send + Sync {
    /// Takes answered operations, in the order in which they were submitted. Called by whoever
    /// commits: it must not wait for anyone.
    fn deliver(self: Arc<Self>, answered: &[Operation]);

    /// Whether nobody is there any more who would read replies. Then reads need not be carried out.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Wants no replies.
struct Nobody;

impl Recipient for Nobody {
    fn deliver(self: Arc<Self>, _answered: &[Operation]) {}
}

/// Some of one client's operations, in order. A client submits again only after all of these have
/// been answered.
pub struct Submission {
    /// Who wants the replies.
    pub recipient: Arc<dyn Recipient>,
    /// What is asked.
    pub operations: Vec<Operation>,
}

impl Submission {
    /// Whether it comes from a client, who may submit again when it is answered: not from the expirer,
    /// not from a client that has left, and not from the compactor, who only wakes the committer.
    fn is_of_client(&self) -> bool {
        let is_client =
            |first: &Operation| !matches!(first.command, Command::Reclaim(_) | Command::Leave(_));
        self.operations.first().is_some_and(is_client)
    }
}

/// The store, its log, and what is between them.
pub struct Engine {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
    /// The committer's thread.
    committing: Mutex<Option<JoinHandle<()>>>,
    expirer: Arc<Expirer>,
    /// Threads that work beside the committer.
    helpers: Mutex<Vec<JoinHandle<()>>>,
}

/// What client threads and the committer both use.
struct Shared {
    store: Box<dyn Store>,
    queue: CommitQueue,
    /// How many had something in the last batch, or were waiting for a later one by then.
    writers: AtomicUsize,
    metrics: Arc<Metrics>,
    /// Whether the log takes writes.
    health: Arc<Health>,
    /// Keeps the log short, if there is one.
    compaction: Option<Arc<Compaction>>,
    /// The longest value that a command may make.
    max_value: usize,
    /// The longest reply.
    max_reply: usize,
    /// What the store may take up; above it nothing can be added.
    max_memory: Option<usize>,
}

/// What an engine is told by whoever starts it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a write is on disk.
    pub fsync: Fsync,
    /// When the log is compacted by itself.
    pub compaction: Policy,
    /// The longest value that a command may make.
    pub max_value: usize,
    /// The longest reply, and the most that the replies of one transaction may take up.
    pub max_reply: usize,
    /// What the store may take up in memory. Above it only what adds nothing is carried out.
    pub max_memory: Option<usize>,
}

/// The log, as it was opened.
struct Opened {
    wal: Wal,
    compaction: Arc<Compaction>,
    place: Place,
}

impl Engine {
    /// Starts on a store that keeps nothing on disk.
    pub fn in_memory(
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
        options: &Options,
    ) -> anyhow::Result<Engine> {
        Engine::start(store, None, options, metrics)
    }

    /// Replays the log into the store, which is empty, and starts on both. The caller holds the
    /// log's [`Lock`].
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
        let shown = path.display();
        let read = |replay: &mut dyn Replay| Wal::open(disk.clone(), log, replay);
        let (wal, summary) = loader::load(&*store, read)?;
        log::info!(
            "{shown}: {} records in {} batches, {} keys, {} bytes in {} segments behind a snapshot of \
             {}, read in {:.3} s; {}",
            summary.records,
            summary.batches,
            store.len(),
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
        metrics.durable_lsn.set(wal.durable_lsn());
        let compaction =
            Compaction::new(options.compaction, wal.total_bytes(), summary.snapshot_bytes);
        let place = Place { disk, names: Names::new(&path), reserve: wal.reserve() };
        let opened = Opened { wal, compaction: Arc::new(compaction), place };
        Engine::start(store, Some(opened), options, metrics)
    }

    fn start(
        store: Box<dyn Store>,
        opened: Option<Opened>,
        options: &Options,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Engine> {
        let queue = CommitQueue::default();
        let health = opened.as_ref().map(|log| log.wal.health()).unwrap_or_default();
        let compaction = opened.as_ref().map(|log| log.compaction.clone());
        let Options { max_value, max_reply, max_memory, .. } = *options;
        let shared = Arc::new(Shared {
            store,
            queue,
            writers: AtomicUsize::new(0),
            metrics,
            health,
            compaction,
            max_value,
            max_reply,
            max_memory,
        });
        let (wal, compactor) = match opened {
            None => (None, None),
            Some(Opened { wal, compaction, place }) => (Some(wal), Some((compaction, place))),
        };
        let committer = Committer::new(shared.clone(), wal, options.fsync);
        let committer = Arc::new(committer);
        let runs = committer.clone();
        let committing = spawn("committer", move || runs.run())?;
        let expirer = Arc::<Expirer>::default();
        let (for_thread, its_shared) = (expirer.clone(), shared.clone());
        let mut helpers = vec![spawn("expirer", move || for_thread.run(&its_shared))?];
        if let Some((compaction, place)) = compactor {
            let its_shared = shared.clone();
            let compact = move || compaction.run(&its_shared, &place);
            helpers.push(spawn("compactor", compact)?);
        }
        let (committing, helpers) = (Mutex::new(Some(committing)), Mutex::new(helpers));
        Ok(Engine { shared, committer, committing, expirer, helpers })
    }

    /// Asks for a compaction of the log.
    pub fn compact(&self) -> Result<(), NotCompacted> {
        let Shared { compaction, health, .. } = &*self.shared;
        let compaction = compaction.as_ref().ok_or(NotCompacted::NoLog)?;
        match health.failure() {
            Some(Failure(why)) => Err(NotCompacted::Closed(why.clone())),
            None if compaction.ask() => Ok(()),
            None => Err(NotCompacted::Running),
        }
    }

    /// Answers a read from the store, on the caller's thread. The reply is put in place, so that a value
    /// goes to the client's buffer without a copy between.
    pub fn read(
        &self,
        command: &Command,
        id: Option<CommandId>,
        answer: &mut dyn Answer,
    ) -> Result<(), Refusal> {
        let Shared { store, metrics, .. } = &*self.shared;
        let started = Instant::now();
        let mut view = StoreView { store: &**store, now: now_millis() };
        let outcome = read::read(&mut view, command, metrics, answer);
        let refused = outcome.err().map(|why| Reply::Error(why.into()));
        let reply = match (&refused, command) {
            (Some(error), _) | (None, Command::Answered(error)) => error,
            (None, _) => &Reply::Ok,
        };
        count(metrics, id, command, command.is_answered(), reply, started.elapsed());
        metrics.answered.add(1);
        outcome
    }

    /// What is in memory; for readers, since only the commit path changes it.
    pub fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// Whether the log takes writes.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Hands operations to the committer, or commits them here if nobody else wants anything; then the
    /// disk is waited for. They are all answered, whatever happens; only after [`Engine::close`]
    /// they are given back.
    pub fn submit(&self, submission: Submission) -> Result<(), Submission> {
        self.committer.submit(submission)
    }

    /// Forgets what a connection watches that has ended.
    pub fn forget_watches(&self, watcher: &Arc<Watcher>) {
        watcher.leave();
        let leave = Command::Leave(watcher.clone());
        let leave = Operation::new(leave, Dialect::Resp(RespVersion::V2), None);
        let submission = Submission { recipient: Arc::new(Nobody), operations: vec![leave] };
        // A closed engine has forgotten everything.
        drop(self.submit(submission));
    }

    /// How many wait for the committer at a time, as of the last batch.
    pub fn writers(&self) -> usize {
        self.shared.writers.load(Ordering::Relaxed)
    }

    /// Answers everything that is queued, closes the log in order, and ends the committer. False
    /// if the log could not be closed.
    pub fn close(&self) -> bool {
        self.expirer.stop();
        if let Some(compaction) = &self.shared.compaction {
            compaction.stop();
        }
        for thread in self.helpers.lock().drain(..) {
            thread.join().expect("its panic ends the process");
        }
        self.shared.queue.close();
        // Every caller waits until it has ended: the lock is held until then.
        if let Some(thread) = self.committing.lock().take() {
            thread.join().expect("its panic ends the process");
        }
        self.shared.health.failure().is_none()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a compaction does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCompacted {
    /// There is no log.
    NoLog,
    /// One is running.
    Running,
    /// The log takes no more writes, for this reason.
    Closed(Arc<str>),
}

fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    spawn_vital(name, work).with_context(|| format!("cannot start the {name} thread"))
}

/// Takes the lock of the log at `path`; its directory has to be there, or may be made.
pub fn lock(path: &std::path::Path, may_make_directory: bool) -> anyhow::Result<Arc<Lock>> {
    let names = Names::new(path);
    let lock = Lock::acquire(&names.lock(), may_make_directory)?;
    wal::disk::warn_if_in_memory(names.directory());
    Ok(Arc::new(lock))
}

/// Counts a command and its reply. Who was answered before anything was carried out has made a
/// mistake, or asked something of the connection.
fn count(
    metrics: &Metrics,
    id: Option<CommandId>,
    command: &Command,
    answered_before: bool,
    reply: &Reply<'_>,
    elapsed: Duration,
) {
    let is_error = matches!(reply, Reply::Error(_));
    if is_error {
        metrics.commands.count_error(id, reply, !answered_before);
    }
    // Each error within a transaction is one as if it stood alone.
    if let (Command::Transaction(commands, _), Reply::Array(items)) = (command, reply) {
        for (command, item) in commands.iter().zip(items) {
            metrics.commands.count_error(None, item, !command.is_answered());
        }
    }
    if !(is_error && answered_before) {
        metrics.commands.count_call(id, elapsed);
    }
}

fn sync_policy(fsync: Fsync) -> SyncPolicy {
    match fsync {
        Fsync::Always => SyncPolicy::Always,
        Fsync::EverySecond | Fsync::Never => SyncPolicy::Later,
    }
}

/// Appends the record of a mutation to the batch that the log is building.
fn push_record(wal: &mut Wal, mutation: &Mutation) {
    wal.push(|frame| record::encode(mutation, |piece| frame.extend_from_slice(piece)));
}
