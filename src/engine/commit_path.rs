//! The commit path: the one way by which anything is changed.
//!
//! Waiting operations are evaluated as a batch; its changes are framed, written and synced once, and applied
//! in that order, and only then are the replies sent (promises 1 and 2). One thread at a time is on the path,
//! the one that holds its lock; it never waits for a client. After the first failure of the log every write is
//! answered with the reason, and reads go on (promises 6 and 9); `no_room` deals with a batch that has no room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::batch::{Batch, Takes};
use super::batch_view::BatchView;
use super::evaluate::carry_out;
use super::log::{Log, NotCommitted};
use super::queue::{Next, Replying, Work};
use super::tap::{Tap, count_wait};
use super::{Operation, Room, Shared, Submission, count_errors};
use smallvec::SmallVec;

use crate::command::{Command, Database, Reply};
use crate::entry::now_millis;
use crate::metrics::{Ending, Step};
use crate::store::Store;
use crate::wal::Failure;

/// A batch that is not logged ends when its replies have this many bytes.
const UNLOGGED_BYTES: usize = 1 << 20;

/// A batch also ends when its evaluation has taken this long: many short commands may be much work. One command
/// or transaction is never split, so a batch may take as long as that takes; the costs are in [`crate::costs`].
/// (A batch of 1 MiB of plain SETs is evaluated in 2 ms.)
const LONGEST_EVALUATION: Duration = Duration::from_millis(5);

/// This many plain operations of a kind are timed together: each is done sooner than the clock is read.
const TIMED_TOGETHER: u64 = 16;

/// The most entries that are fetched before a submission is evaluated: they stay in the cache until then.
const FETCHED: usize = 64;

/// The state of the path, with the running batch.
///
/// - Between two walks nothing is `evaluated`, and the batch is empty.
pub struct CommitPath {
    pub(super) shared: Arc<Shared>,
    /// `None` if nothing is kept on disk, and once it is closed.
    pub(super) log: Option<Box<dyn Log>>,
    is_closed: bool,
    /// A batch ends when it has this many bytes.
    batch_bytes: usize,
    /// Taken from the queue and not yet answered.
    backlog: VecDeque<Submission>,
    /// Of the running batch: evaluated, not yet durable.
    pub(super) evaluated: Vec<Submission>,
    pub(super) batch: Batch,
    /// Why a batch had no room. From then on only what removes something is carried out, until there is
    /// room for more.
    pub(super) no_room: Option<Arc<str>>,
    tap: Tap,
}

impl CommitPath {
    /// The path to this store and log.
    pub fn new(shared: Arc<Shared>, log: Option<Box<dyn Log>>) -> CommitPath {
        let batch = Batch::new(shared.max_value, shared.databases, shared.store.order());
        let batch_bytes = log.as_ref().map_or(UNLOGGED_BYTES, |log| log.batch_bytes());
        CommitPath {
            shared,
            log,
            is_closed: false,
            batch_bytes,
            backlog: VecDeque::new(),
            evaluated: Vec::new(),
            batch,
            no_room: None,
            tap: Tap::default(),
        }
    }

    /// Adds what the next walk commits, for the client whose thread this is.
    pub fn add(&mut self, submission: Submission) {
        self.tap.note_leader();
        self.backlog.push_back(submission);
    }

    /// Returns the operations of a lone client that did not fit into its batch; the committer commits them.
    pub fn take_rest(&mut self) -> Option<Submission> {
        debug_assert!(self.backlog.len() <= 1, "a client leads with one submission");
        self.backlog.pop_front()
    }

    /// One turn of the committing thread: it runs the errands, commits one batch if operations wait, and
    /// lets the log run its timers.
    pub fn walk(&mut self, work: &mut Work) -> Next {
        assert!(!self.is_closed, "what comes now would be acknowledged and not be in the log");
        self.backlog.extend(work.submissions.drain(..));
        if let Some(log) = &mut self.log {
            log.note_sync_ended();
            if !work.errands.is_empty() {
                work.errands.drain(..).for_each(|errand| errand(&mut **log));
                // They may have applied what another machine has written.
                self.batch.set_order(self.shared.store.order());
            }
        }
        let replied = (!self.backlog.is_empty()).then(|| self.run_batch());
        if let Some(log) = &mut self.log {
            log.on_timer(replied.unwrap_or_else(Instant::now));
        }
        let timer = self.log.as_ref().and_then(|log| log.next_timer());
        Next { has_backlog: !self.backlog.is_empty(), replied, timer }
    }

    /// Closes the log in order. Nothing may come after it.
    pub fn close(&mut self) {
        debug_assert!(self.backlog.is_empty(), "all that was submitted is answered");
        self.is_closed = true;
        self.log.take().into_iter().for_each(Log::close);
    }

    /// Commits one batch. Returns the time at which its last reply was sent.
    fn run_batch(&mut self) -> Instant {
        debug_assert!(self.evaluated.is_empty(), "the batch before has been answered");
        self.tap.begin(&self.shared.metrics);
        let answered = self.evaluate();
        self.tap.note_evaluated(&self.evaluated);
        self.shared.metrics.batch_memory.set(self.batch.bytes() as u64);
        let mut committed = self.commit();
        if let Err(NotCommitted::NoRoom(reason)) = committed {
            committed = self.commit_without_room(reason);
        }
        let sync = match committed {
            Ok(sync) => {
                let store = &self.shared.store;
                self.batch.apply(|changed, together| store.apply(changed, together));
                self.tap.mark(Step::Applied);
                sync
            }
            Err(NotCommitted::NoRoom(reason)) => {
                self.refuse_changes(&Shared::no_room(&reason));
                self.tap.note_ending(Ending::NoRoom);
                None
            }
            Err(NotCommitted::Closed(Failure(reason))) => {
                self.refuse_changes(&Reply::NotDurable(reason));
                self.tap.note_ending(Ending::Closed);
                None
            }
            Err(NotCommitted::Withheld(text)) => {
                self.withhold(&Reply::Error(text));
                self.tap.note_ending(Ending::Withheld);
                None
            }
        };
        // After the changes are visible and before the replies: who hears of a change finds it, and a client
        // that has its reply knows that the others were told.
        if let Some(audience) = self.shared.audience.get() {
            self.batch.news.tell(&**audience);
            // A client that began to track after the batch did may have read what this batch then replaced, and
            // its changes were not noted. Asked after they are visible: whoever reads the old value has begun to
            // track before this.
            if !self.batch.tracks && audience.tracks() {
                audience.invalidate_all();
            }
        }
        self.batch.clear();
        self.shared.metrics.batch_memory.set(0);
        self.reply(answered, sync)
    }

    /// Sends the replies, after which `answered` clients may submit again.
    fn reply(&mut self, answered: usize, sync: Option<Duration>) -> Instant {
        let batch = Replying { answered, backlog: self.backlog.len(), sync };
        let writers = self.shared.queue.begin_round(&batch);
        self.shared.writers.store(writers, Ordering::Relaxed);
        self.tap.note_meanwhile(writers.saturating_sub(answered));
        for Submission { recipient, mut operations, arrived } in self.evaluated.drain(..) {
            recipient.deliver(&mut operations);
            count_wait(&self.shared.metrics, arrived);
        }
        self.tap.end(&self.shared.metrics);
        Instant::now()
    }

    /// Moves operations from the backlog into the batch until that is full. The last submission
    /// may be split; its rest goes after the others, so that no client's long pipeline keeps
    /// the others waiting. No order is lost: a recipient has only one submission here at a time.
    /// Returns the number of clients whose submissions are in it to their end.
    fn evaluate(&mut self) -> usize {
        let mut answered = 0;
        let Shared { store, metrics, max_reply, .. } = &*self.shared;
        let max_memory = self.shared.max_memory();
        self.batch.attend(self.shared.audience.get());
        self.batch.begin(now_millis(), max_memory.map(|most| (store.bytes(), most)));
        if self.no_room.is_some() && !matches!(self.shared.health.room(), Room::Full(_)) {
            self.no_room = None;
        }
        self.batch.takes = match self.no_room.as_deref() {
            None => Takes::Everything,
            Some(reason) => Takes::Removals(Shared::no_room(reason)),
        };
        let mut started = Instant::now();
        let full_at = started + LONGEST_EVALUATION;
        let mut bytes = 0;
        let is_full = |bytes, now| bytes >= self.batch_bytes || now >= full_at;
        while !is_full(bytes, started)
            && let Some(mut submission) = self.backlog.pop_front()
        {
            let is_of_client = submission.is_of_client();
            let is_gone = submission.recipient.is_gone();
            let is_revoked = submission.recipient.is_revoked();
            self.batch.client = submission.recipient.client();
            let mut done = 0;
            fetch(&**store, &submission.operations);
            let mut run = 0;
            while done < submission.operations.len() {
                let goes_on =
                    run + 1 < TIMED_TOGETHER && may_be_timed(&submission.operations[done..]);
                let operation = &mut submission.operations[done];
                let Operation { command, database, dialect, reply, id, is_remembered, .. } =
                    operation;
                self.batch.remembers = *is_remembered;
                let pushed = self.batch.bytes();
                let before = command.is_answered();
                if !is_gone || (command.is_write() && !is_revoked) {
                    let mut view = BatchView::over(&mut self.batch, &**store, metrics, *database);
                    *reply = carry_out(&mut view, command, *dialect, *max_reply);
                }
                count_errors(metrics, *id, command, before, reply);
                let was_refused = before && matches!(reply, Reply::Error(_));
                run += u64::from(!was_refused);
                // A short command may make a long value, like COPY.
                bytes += operation.bytes.max(self.batch.bytes() - pushed) + operation.reply.bytes();
                done += 1;
                if goes_on && !is_full(bytes, started) {
                    continue;
                }
                let now = Instant::now();
                metrics.commands.count_calls(operation.id, run, now - started);
                if metrics.slow.is_slow(now - started) {
                    submission.recipient.note_slow(operation, now - started);
                }
                (started, run) = (now, 0);
                if is_full(bytes, now) {
                    break;
                }
            }
            if done < submission.operations.len() {
                let operations = submission.operations.split_off(done);
                let (recipient, arrived) = (submission.recipient.clone(), submission.arrived);
                self.backlog.push_back(Submission { recipient, operations, arrived });
            } else {
                answered += usize::from(is_of_client);
            }
            metrics.answered.add(done as u64);
            self.evaluated.push(submission);
        }
        answered
    }

    /// Makes the batch durable, as far as `-fsync` says. Returns how long the sync took.
    pub(super) fn commit(&mut self) -> Result<Option<Duration>, NotCommitted> {
        let changed = self.batch.changed();
        let Some(log) = &mut self.log else {
            return Ok(None);
        };
        if changed.is_empty() {
            return log.confirm().map(|()| None);
        }
        log.frame(changed);
        self.tap.mark(Step::Framed);
        let grows = changed.grows();
        let mut committed = log.commit(grows);
        if let Err(NotCommitted::NoRoom(_)) = committed {
            committed = self.shared.wait_for_room(&mut **log, grows);
        }
        if committed.is_err() {
            log.discard();
        }
        self.tap.mark(Step::Synced);
        self.shared.note_logged(&mut **log);
        committed
    }
}

/// Whether the first of these operations is timed together with the next one.
fn may_be_timed(operations: &[Operation]) -> bool {
    let [one, next, ..] = operations else { return false };
    let is_plain = |command: &Command| matches!(command, Command::Get(_) | Command::Set(..));
    one.id == next.id && is_plain(&one.command) && one.words.is_none()
}

/// Fetches the entries that the GETs among these operations will look up.
fn fetch(store: &dyn Store, operations: &[Operation]) {
    let [first, _, ..] = operations else { return };
    let mut keys: SmallVec<[&[u8]; FETCHED]> = SmallVec::new();
    for operation in operations.iter().filter(|one| one.database == first.database) {
        if let Command::Get(key) = &operation.command
            && keys.len() < FETCHED
        {
            keys.push(key);
        }
    }
    if keys.len() > 1 {
        store.fetch(Database::Number(first.database), &keys);
    }
}
