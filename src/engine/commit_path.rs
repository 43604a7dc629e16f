//! The commit path, on which everything that changes anything goes.
//!
//! As much of what is waiting as makes a batch is evaluated, its changes are framed, written and
//! synced once, applied in that order, and only then the replies go (promises 1 and 2). One thread at a
//! time is on it, whoever holds its lock; it never waits for a client. After the first failure of
//! the log every write is answered with the reason, and reads go on; where there is only no room for a batch,
//! what it would add is refused, and the next one is tried (promises 6 and 9).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::compaction::Compaction;
use super::window::Window;
use super::write::{carry_out, turn_down};
use super::{
    Fsync, IDLE_BEFORE_MARK, Nobody, Operation, Room, Shared, Submission, count, push_record,
};
use crate::command::{Command, Mutation, Reply};
use crate::entry::now_millis;
use crate::wal::{Committed, Failure, Refused, Wal};

/// A batch ends when its records and replies have this many bytes, so that a small write is not
/// held up by many large ones. (RocksDB caps its write groups at the same 1 MiB.)
const BATCH_BYTES: usize = 1 << 20;

/// And when it has been evaluated for so long: many short commands may be much work. One command or
/// transaction is never split, so a batch may take as long as that takes; the costs are in [`crate::costs`].
/// (A batch of [`BATCH_BYTES`] of plain SETs is evaluated in 2 ms.)
const LONGEST_EVALUATION: Duration = Duration::from_millis(5);

/// How often the log is synced with `-fsync everysec`, on a thread of its own.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// A sync that takes longer is waited for, as Redis does, so that no more can be lost than was written
/// until then.
const SYNC_PATIENCE: Duration = Duration::from_secs(2);

/// A batch for which there is no room waits so long for a compaction that runs: no longer than a disk may take
/// without being called slow, as others wait for the batch.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// How often it looks meanwhile whether the compaction wants something.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);

/// What a batch needs on its way.
pub struct CommitPath {
    shared: Arc<Shared>,
    /// `None` if nothing is kept on disk, and once it is closed.
    wal: Option<Wal>,
    closed: bool,
    fsync: Fsync,
    /// Taken from the queue and not yet answered.
    backlog: VecDeque<Submission>,
    /// Of the running batch: evaluated, not yet durable.
    evaluated: Vec<Submission>,
    batch: Batch,
    /// Why a batch had no room. From then on only what removes something is carried out, until there is
    /// room for more.
    no_room: Option<Arc<str>>,
    window: Window,
    round: Round,
    last_sync: Instant,
    /// When the last batch was over.
    idle_since: Instant,
}

/// A round: some are answered, and come back with their next submissions.
struct Round {
    answered: usize,
    /// They, and those who were waiting for the next batch by then.
    clients: usize,
    /// When the last of them was answered.
    replied: Instant,
}

impl CommitPath {
    /// The path to this store and log.
    pub fn new(shared: Arc<Shared>, wal: Option<Wal>, fsync: Fsync) -> CommitPath {
        let batch = Batch::new(shared.max_value);
        CommitPath {
            shared,
            wal,
            closed: false,
            fsync,
            backlog: VecDeque::new(),
            evaluated: Vec::new(),
            batch,
            no_room: None,
            window: Window::default(),
            round: Round { answered: 0, clients: 0, replied: Instant::now() },
            last_sync: Instant::now(),
            idle_since: Instant::now(),
        }
    }

    /// Commits these, and whatever is queued meanwhile, until nothing is.
    pub fn run_all(&mut self, taken: &mut Vec<Submission>) {
        self.backlog.extend(taken.drain(..));
        while !self.backlog.is_empty() {
            if let Some(until) = self.run_batch() {
                self.shared.queue.gather(until);
            }
            self.shared.queue.take_more(&mut self.backlog);
            self.sync_if_due();
        }
        self.idle_since = Instant::now();
    }

    /// Commits one batch of this submission; gives back what was too much for it. A sync that is due
    /// is left to the committer's thread: the client's next request may be a read, which waits for none.
    pub fn run_one(&mut self, submission: Submission) -> Option<Submission> {
        self.backlog.push_back(submission);
        self.run_batch();
        self.idle_since = Instant::now();
        self.backlog.pop_front()
    }

    /// When there is something to do even if nobody asks for anything.
    pub fn next_duty(&self) -> Option<Instant> {
        let wal = self.wal.as_ref().filter(|wal| wal.failure().is_none())?;
        let is_due =
            self.fsync == Fsync::EverySecond && wal.has_unsynced() && wal.syncing_since().is_none();
        let sync = is_due.then_some(self.last_sync + SYNC_INTERVAL);
        let mark =
            (!wal.is_marked() && !wal.has_unsynced()).then_some(self.idle_since + IDLE_BEFORE_MARK);
        sync.or(mark)
    }

    /// Does it.
    pub fn do_duty(&mut self) {
        self.mark_if_idle();
        self.sync_if_due();
    }

    /// Closes the log in order. Nothing may come after it.
    pub fn close(&mut self) {
        self.closed = true;
        // Whether it could be closed stands in its health.
        let _ = self.wal.take().map(Wal::close);
    }

    /// Says until when to let those queue again who were answered, where that pays.
    fn run_batch(&mut self) -> Option<Instant> {
        assert!(!self.closed, "what comes now would be acknowledged and not be in the log");
        self.settle();
        if let (Some(wal), Some(compaction)) = (&mut self.wal, &self.shared.compaction) {
            compaction.between_batches(wal);
        }
        let answered = self.evaluate();
        self.shared.metrics.batch_memory.set(self.batch.bytes as u64);
        let mut committed = self.commit();
        if let Err(Refused::NoRoom(reason)) = &committed {
            // What only removes something may have room: the way out of a full disk.
            self.refuse(&no_room(reason), Command::only_removes);
            self.no_room = Some(reason.clone());
            committed = self.commit();
        }
        match committed {
            Ok(()) => {
                let together = self.batch.together;
                self.batch.take_mutations(|all| self.shared.store.apply(all, together));
            }
            Err(Refused::NoRoom(reason)) => {
                self.refuse(&no_room(&reason), |command| !command.needs_log());
            }
            Err(Refused::Closed(Failure(reason))) => {
                self.refuse(&Reply::NotDurable(reason), |command| !command.needs_log());
            }
        }
        self.batch.clear();
        self.shared.metrics.batch_memory.set(0);
        self.reply(answered)
    }

    /// Sends the replies, after which `answered` clients may submit again, and looks how long it took
    /// those of the round before. Says until when to wait for them, where that pays.
    fn reply(&mut self, answered: usize) -> Option<Instant> {
        // Who is answered may queue again before the last is, and must not be counted twice.
        let (waiting, complete_at) = self.shared.queue.begin_round(answered);
        let Round { answered: before, clients, replied, .. } = self.round;
        // A client who is alone may take its time, and says nothing about many.
        if before > 0 && clients > 1 {
            let took = complete_at.map(|at| at.saturating_duration_since(replied));
            self.window.note_round(before, took);
        }
        let clients = answered + self.backlog.len() + waiting;
        self.shared.writers.store(clients, Ordering::Relaxed);
        // With a backlog the next batch is there.
        let longest_wait = self.window.longest_wait(clients).filter(|_| self.backlog.is_empty());
        for Submission { recipient, operations } in self.evaluated.drain(..) {
            recipient.deliver(&operations);
        }
        let replied = Instant::now();
        self.round = Round { answered, clients, replied };
        longest_wait.map(|longest| replied + longest)
    }

    /// Moves operations from the backlog into the batch until that is full. The last submission
    /// may be split; its rest goes behind the others, so that nobody's long pipeline keeps
    /// everybody waiting. No order is lost: a recipient has only one submission here at a time.
    /// Returns how many clients that answers whole.
    fn evaluate(&mut self) -> usize {
        let mut answered = 0;
        let Shared { store, max_memory, metrics, max_reply, .. } = &*self.shared;
        self.batch.begin(now_millis(), max_memory.map(|most| (store.bytes(), most)));
        if self.no_room.is_some() && !matches!(self.shared.health.room(), Room::Full(_)) {
            self.no_room = None;
        }
        let mut started = Instant::now();
        let full_at = started + LONGEST_EVALUATION;
        let mut bytes = 0;
        let is_full = |bytes, now| bytes >= BATCH_BYTES || now >= full_at;
        while !is_full(bytes, started)
            && let Some(mut submission) = self.backlog.pop_front()
        {
            let is_of_client = submission.is_of_client();
            let is_gone = submission.recipient.is_gone();
            let mut done = 0;
            for operation in &mut submission.operations {
                let Operation { command, dialect, reply, id, .. } = operation;
                let pushed = self.batch.bytes;
                let before = command.is_answered();
                if !is_gone || command.is_write() {
                    let mut view = self.batch.over(&**store);
                    *reply = match &self.no_room {
                        Some(reason) if !command.only_removes() => {
                            turn_down(&mut view, command, metrics, no_room(reason))
                        }
                        _ => carry_out(&mut view, command, *dialect, metrics, *max_reply),
                    };
                }
                // A COPY of a long value is short itself.
                bytes += operation.bytes.max(self.batch.bytes - pushed) + reply.bytes();
                let now = Instant::now();
                count(metrics, *id, command, before, reply, now - started);
                started = now;
                done += 1;
                if is_full(bytes, now) {
                    break;
                }
            }
            if done < submission.operations.len() {
                let operations = submission.operations.split_off(done);
                let recipient = submission.recipient.clone();
                self.backlog.push_back(Submission { recipient, operations });
            } else {
                answered += usize::from(is_of_client);
            }
            metrics.answered.add(done as u64);
            self.evaluated.push(submission);
        }
        answered
    }

    /// Makes the batch durable.
    fn commit(&mut self) -> Result<(), Refused> {
        let Some(wal) = &mut self.wal else {
            return Ok(());
        };
        if self.batch.mutations().is_empty() {
            // No change, but a write that changes nothing (DEL of no key) must not be told that
            // all is well by a server that could not have done it.
            return wal.failure().map_or(Ok(()), |failure| Err(failure.clone().into()));
        }
        let mut grows = false;
        for mutation in self.batch.mutations() {
            grows |= matches!(mutation, Mutation::Set(_));
            push_record(wal, mutation);
        }
        self.shared.metrics.log_memory.set(wal.buffer_bytes() as u64);
        let mut committed = wal.commit(grows);
        if let Err(Refused::NoRoom(_)) = committed {
            committed = wait_for_room(wal, self.shared.compaction.as_deref(), grows);
        }
        let committed = committed.inspect_err(|_| wal.discard())?;
        let metrics = &self.shared.metrics;
        metrics.log_memory.set(wal.buffer_bytes() as u64);
        let synced = self.fsync == Fsync::Always;
        if synced {
            self.window.note_sync(committed.elapsed);
        }
        metrics.count_batch(committed.records, committed.bytes, committed.elapsed, synced);
        metrics.durable_lsn.set(wal.durable_lsn());
        Ok(())
    }

    /// Answers the batch anew, as if nothing of it had ever been: nothing has. What `is_possible` is
    /// carried out again, the rest gets this reply.
    fn refuse(&mut self, refusal: &Reply<'static>, is_possible: impl Fn(&Command) -> bool) {
        self.batch.clear();
        for operation in self.evaluated.iter_mut().flat_map(|submission| &mut submission.operations)
        {
            let Operation { command, dialect, reply, id, .. } = operation;
            // A transaction that found a watched key changed has forgotten all about it.
            if *reply == Reply::NullArray {
                continue;
            }
            *reply = match is_possible(command) {
                false => {
                    self.shared.metrics.commands.count_error(*id, refusal, true);
                    refusal.clone()
                }
                true => {
                    let mut view = self.batch.over(&*self.shared.store);
                    carry_out(
                        &mut view,
                        command,
                        *dialect,
                        &self.shared.metrics,
                        self.shared.max_reply,
                    )
                }
            };
        }
    }

    fn mark_if_idle(&mut self) {
        if let Some(wal) = &mut self.wal
            && self.idle_since.elapsed() >= IDLE_BEFORE_MARK
        {
            wal.mark_idle();
        }
    }

    /// Begins a sync beside the batches, if it is time.
    fn sync_if_due(&mut self) {
        let Some(wal) = &mut self.wal else {
            return;
        };
        let due = self.fsync == Fsync::EverySecond
            && wal.has_unsynced()
            && wal.failure().is_none()
            && wal.syncing_since().is_none()
            && self.last_sync.elapsed() >= SYNC_INTERVAL;
        if !due {
            return;
        }
        self.last_sync = Instant::now();
        let shared = self.shared.clone();
        // The log keeps a failure; INFO and the next batch ask it.
        let _ = wal.begin_sync(Box::new(move || {
            // An empty submission wakes the committer up, who takes notice.
            let wake = Submission { recipient: Arc::new(Nobody), operations: Vec::new() };
            if shared.queue.push(wake).is_err() {
                log::debug!("the sync ended during the stop, which waits for it");
            }
        }));
        self.shared.metrics.running_syncs.set(u64::from(wal.syncing_since().is_some()));
    }

    /// Takes notice of a sync beside the batches that has ended, or has taken too long.
    fn settle(&mut self) {
        let Some(wal) = &mut self.wal else {
            return;
        };
        let Some(since) = wal.syncing_since().filter(|_| wal.failure().is_none()) else {
            return;
        };
        let metrics = &self.shared.metrics;
        let settled = match wal.settle() {
            Ok(false) if since.elapsed() > SYNC_PATIENCE => {
                metrics.delayed_syncs.add(1);
                wal.wait_for_sync().map(|()| true)
            }
            settled => settled,
        };
        if wal.syncing_since().is_none() {
            metrics.running_syncs.set(0);
        }
        if settled.is_ok_and(|settled| settled) {
            metrics.syncs.add(1);
            metrics.durable_lsn.set(wal.durable_lsn());
        }
    }
}

/// Tries the batch again and again, as long as a compaction may make room, and there is patience. The
/// compaction is served meanwhile: nothing of this batch is in the log or in the store.
fn wait_for_room(
    wal: &mut Wal,
    compaction: Option<&Compaction>,
    grows: bool,
) -> Result<Committed, Refused> {
    let until = Instant::now() + ROOM_PATIENCE;
    let compaction = compaction.inspect(|compaction| compaction.call_for_room());
    loop {
        // In this order: what it has freed until it was over is not missed.
        let hopeful = compaction.is_some_and(Compaction::may_make_room) && Instant::now() < until;
        let committed = wal.commit(grows);
        if !(hopeful && matches!(committed, Err(Refused::NoRoom(_)))) {
            return committed;
        }
        compaction.into_iter().for_each(|compaction| compaction.between_batches(wal));
        wal.wait_for_room(ROOM_INTERVAL);
    }
}

/// What a command is answered for which there is no room. Redis's word is for a log that cannot be written.
fn no_room(reason: &str) -> Reply<'static> {
    let text = format!(
        "MISCONF Errors writing to the AOF file: no room, and nothing was changed; deletes and \
         BGREWRITEAOF are possible: {reason}"
    );
    Reply::Error(text.into())
}
