//! The engine's public face: reads, submissions and errands. Client threads and the threads
//! of the upkeep use nothing else.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::committer::Committer;
use super::log::Log;
use super::view::StoreView;
use super::{Health, LogFiles, Operation, Recipient, Shared, Submission, count, evaluate};
use crate::command::{
    Answer, Command, CommandId, Database, Dialect, Refusal, Reply, RespVersion, View, Watcher,
};
use crate::entry::{Entry, now_millis};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::wal::Failure;

const OTHER_TERM: &str = "LOADING this server has just taken over, try again";

/// For this many keys nothing is allocated.
const FEW: usize = 64;

/// Access to a running engine, for as many threads as need it.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Committer>);

impl Handle {
    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// The store. With `-fsync always` it holds durable changes only.
    pub fn store(&self) -> &dyn Store {
        &*self.shared().store
    }

    /// How many databases there are.
    pub fn databases(&self) -> u16 {
        self.shared().databases
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared().metrics
    }

    /// Whether the log takes writes.
    pub fn health(&self) -> &Health {
        &self.shared().health
    }

    /// Whether there is a log.
    pub fn has_log(&self) -> bool {
        self.shared().has_log
    }

    /// Whether this process may write to the log: false while another machine does.
    pub fn leads(&self) -> bool {
        self.shared().gate.as_ref().is_none_or(|gate| gate.term().is_ok())
    }

    /// The files that the log is in, if it is in files.
    pub fn files(&self) -> Option<&LogFiles> {
        self.shared().files.as_ref()
    }

    /// Bytes of the log that were read at the start and written since.
    pub fn logged_bytes(&self) -> u64 {
        self.shared().logged.load(Ordering::Relaxed)
    }

    /// How many clients wait for the committer at a time, as of the last batch.
    pub fn writers(&self) -> usize {
        self.shared().writers.load(Ordering::Relaxed)
    }

    /// Has operations committed: by the committer's thread or, if nothing else is queued, by this one, which
    /// then waits for the disk. They are all answered, whatever happens; only after
    /// [`super::Engine::close`] are they given back.
    pub fn submit(&self, submission: Submission) -> Result<(), Submission> {
        self.0.submit(submission)
    }

    /// Has the committer do something with the log between two batches, and waits for what it returns. `None`
    /// if the engine is closed, or has no log.
    pub fn errand<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut dyn Log) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, wait) = sync_channel(1);
        self.has_log().then_some(())?;
        self.shared().queue.push_errand(Box::new(move |log| {
            // The caller waits for this; one that is gone needs no answer.
            let _ = done.send(errand(log));
        }));
        wait.recv().ok()
    }

    /// Answers a read from the store, on the caller's thread. The reply goes straight into `answer`, so that a
    /// value is copied only once, into the client's buffer. Returns how long that took, too.
    pub fn read(
        &self,
        command: &Command,
        database: u16,
        id: Option<CommandId>,
        answer: &mut dyn Answer,
    ) -> (Result<(), Refusal>, Duration) {
        let metrics = self.metrics();
        let started = Instant::now();
        let mut view = self.view(database);
        let outcome = match command.shows_data() {
            true => self.in_one_term(|| evaluate::read(&mut view, command, answer)),
            false => evaluate::read(&mut view, command, answer),
        };
        let refused = outcome.clone().err().map(|why| Reply::Error(why.text()));
        let reply = match (&refused, command) {
            (Some(error), _) | (None, Command::Answered(error)) => error,
            (None, _) => &Reply::Ok,
        };
        let elapsed = started.elapsed();
        count(metrics, id, command, command.is_answered(), reply, elapsed);
        metrics.answered.add(1);
        (outcome, elapsed)
    }

    /// Answers several GETs of one database as one step: shows `answer` their values in order, until it wants no
    /// more, while the locks of their shards are held. Returns how many were answered, or why none was, and how long
    /// that took.
    pub fn get_each(
        &self,
        keys: &[&[u8]],
        database: u16,
        id: Option<CommandId>,
        answer: &mut dyn FnMut(Option<&[u8]>) -> Answered,
    ) -> (Result<usize, Refusal>, Duration) {
        let metrics = self.metrics();
        let started = Instant::now();
        let mut view = self.view(database);
        let (mut found, mut refused) = (SmallVec::<[bool; FEW]>::new(), Vec::new());
        let outcome = self.in_one_term(|| {
            let mut flow = ControlFlow::Continue(());
            view.get_all(keys, &mut |entry| {
                if flow.is_continue() {
                    found.push(entry.is_some());
                    let answered = answer(entry.map(Entry::value));
                    refused.extend(answered.outcome.err());
                    flow = answered.flow;
                }
            });
            Ok(())
        });
        view.count_reads(keys, &found);
        let elapsed = started.elapsed();
        let answered = if outcome.is_ok() { found.len() } else { keys.len() };
        if let Err(why) = &outcome {
            refused = vec![why.clone(); answered];
        }
        for why in refused {
            metrics.commands.count_error(id, &Reply::Error(why.text()), true);
        }
        metrics.commands.count_calls(id, answered as u64, elapsed);
        metrics.answered.add(answered as u64);
        (outcome.map(|()| answered), elapsed)
    }

    fn view(&self, database: u16) -> StoreView<'_> {
        let shared = self.shared();
        StoreView {
            store: &*shared.store,
            now: now_millis(),
            metrics: &shared.metrics,
            audience: shared.audience(),
            databases: shared.databases,
            number: database,
            of: Database::Number(database),
        }
    }

    /// Reads, or refuses to if this process was not the only one to write to the log all the while.
    fn in_one_term(&self, read: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
        let Some(gate) = &self.shared().gate else { return read() };
        let term = gate.term()?;
        read()?;
        // After the values were read: they were all there is at the time of this question.
        match gate.term()? == term {
            true => Ok(()),
            false => Err(Refusal::Unanswerable(OTHER_TERM)),
        }
    }

    /// Forgets what a connection watched that has ended.
    pub fn forget_watches(&self, watcher: &Arc<Watcher>) {
        watcher.leave();
        let leave = Command::Leave(watcher.clone());
        let leave = Operation::new(leave, Dialect::Resp(RespVersion::V2), None);
        let submission = Submission::new(Arc::new(NoRecipient), vec![leave]);
        // A closed engine has forgotten everything.
        drop(self.submit(submission));
    }

    /// The most memory that the store may take up.
    pub fn max_memory(&self) -> Option<usize> {
        self.shared().max_memory()
    }

    /// Sets it from the next batch on; 0 is no limit.
    pub fn set_max_memory(&self, bytes: usize) {
        self.shared().max_memory.store(bytes, Ordering::Relaxed);
    }

    /// When the log is compacted by itself: how many per cent of the snapshot it grows before, and how many bytes
    /// at least.
    pub fn compaction_policy(&self) -> Option<(u64, u64)> {
        self.shared().compactor().map(|compactor| compactor.policy())
    }

    /// Sets it, if there is a log.
    pub fn set_compaction_policy(&self, percent: u64, least_bytes: u64) {
        if let Some(compactor) = self.shared().compactor() {
            compactor.set_policy(percent, least_bytes);
        }
    }

    /// Asks for a compaction, after the running one if there is one. Returns whether it may begin at once.
    pub fn compact_soon(&self) -> Result<bool, NotCompacted> {
        let compactor = self.shared().compactor().ok_or(NotCompacted::NoLog)?;
        match self.health().failure() {
            Some(Failure(why)) => Err(NotCompacted::Closed(why.clone())),
            None => Ok(compactor.ask_again()),
        }
    }

    /// Asks for a compaction of the log.
    pub fn compact(&self) -> Result<(), NotCompacted> {
        let compactor = self.shared().compactor().ok_or(NotCompacted::NoLog)?;
        match self.health().failure() {
            Some(Failure(why)) => Err(NotCompacted::Closed(why.clone())),
            None if compactor.ask() => Ok(()),
            None => Err(NotCompacted::Running),
        }
    }
}

/// What became of one value of several.
pub struct Answered {
    /// Why it was refused, if it was.
    pub outcome: Result<(), Refusal>,
    /// Whether more are wanted.
    pub flow: ControlFlow<()>,
}

/// Wants no replies.
struct NoRecipient;

impl Recipient for NoRecipient {
    fn deliver(self: Arc<Self>, _answered: &mut Vec<Operation>) {}
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
