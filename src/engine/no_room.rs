//! A batch that is not committed. If the log has no room for it, commands that add something are refused, those that
//! only remove something are carried out, and the next batch is tried (promises 6 and 9). If the log takes no
//! writes, commands that change something are refused; if others may write it, all that show something are, too.
//! Nothing that is refused is in the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::batch::Takes;
use super::batch_view::BatchView;
use super::commit_path::CommitPath;
use super::evaluate::carry_out;
use super::log::{Log, NotCommitted};
use super::{Operation, Shared};
use crate::command::{Command, Reply};

/// A batch without room waits this long for a compaction that runs: no longer than a disk may take
/// without being called slow, as others wait for the batch.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// How often it looks meanwhile whether the compaction has an errand.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);

impl CommitPath {
    /// Commits those commands of the batch that only remove something: they may have room, and are the way out
    /// of a full disk.
    pub(super) fn commit_without_room(
        &mut self,
        reason: Arc<str>,
    ) -> Result<Option<Duration>, NotCommitted> {
        let refusal = Shared::no_room(&reason);
        self.batch.takes = Takes::Removals(refusal.clone());
        self.refuse(&refusal, Command::may_only_remove);
        self.no_room = Some(reason);
        self.commit()
    }

    /// Answers the batch anew, of which nothing will be written: every command that changes something gets this
    /// reply. A program that changed nothing before may do so now, for it no longer sees the changes before it: it
    /// gets this reply, too.
    pub(super) fn refuse_changes(&mut self, refusal: &Reply<'static>) {
        self.batch.takes = Takes::Nothing(refusal.clone());
        self.refuse(refusal, |command| !command.needs_log());
        assert!(self.batch.changed().is_empty(), "nothing is acknowledged that is not written");
    }

    /// Answers the batch anew, of which nothing has been applied: no command shows anything of the store.
    pub(super) fn withhold(&mut self, refusal: &Reply<'static>) {
        self.refuse(refusal, |command| !command.shows_data());
        let commands = self.evaluated.iter().flat_map(|submission| &submission.operations);
        for Operation { command, .. } in commands {
            // One that is told that it does not watch does not.
            if let Command::Watch(_, watcher) = command {
                self.batch.watches.end(watcher.id, self.batch.now);
            }
        }
        assert!(self.batch.changed().is_empty(), "nothing is applied that may not be in the log");
    }

    /// Answers the batch anew, of which nothing has been applied. Commands that are possible are carried out
    /// again, the others get this reply.
    fn refuse(&mut self, refusal: &Reply<'static>, is_possible: impl Fn(&Command) -> bool) {
        self.batch.clear();
        let Shared { store, metrics, max_reply, .. } = &*self.shared;
        let operations = self.evaluated.iter_mut().flat_map(|submission| {
            let client = submission.recipient.client();
            submission.operations.iter_mut().map(move |operation| (client, operation))
        });
        for (client, operation) in operations {
            let Operation { command, database, dialect, reply, id, is_remembered, .. } = operation;
            (self.batch.client, self.batch.remembers) = (client, *is_remembered);
            // A transaction that found a watched key changed has forgotten all about it.
            if *reply == Reply::NullArray {
                continue;
            }
            *reply = if is_possible(command) {
                let mut view = BatchView::over(&mut self.batch, &**store, metrics, *database);
                carry_out(&mut view, command, *dialect, *max_reply)
            } else {
                refusal.clone()
            };
            if *reply == *refusal {
                metrics.commands.count_error(*id, refusal, true);
            }
        }
    }
}

impl Shared {
    /// Tries the framed batch again and again, as long as a compaction may make room, and there is patience.
    /// The compaction's errands are done meanwhile.
    pub(super) fn wait_for_room(
        &self,
        log: &mut dyn Log,
        grows: bool,
    ) -> Result<Option<Duration>, NotCommitted> {
        let until = Instant::now() + ROOM_PATIENCE;
        let compactor = self.compactor();
        compactor.iter().for_each(|compactor| compactor.look());
        loop {
            // Before the commit, so that what a compaction frees just before its end is not missed.
            let may_make_room =
                compactor.as_ref().is_some_and(|compactor| compactor.may_make_room());
            let is_hopeful = may_make_room && Instant::now() < until;
            let committed = log.commit(grows);
            if !(is_hopeful && matches!(committed, Err(NotCommitted::NoRoom(_)))) {
                return committed;
            }
            self.queue.take_errands().into_iter().for_each(|errand| errand(log));
            log.wait_for_room(ROOM_INTERVAL);
        }
    }

    /// Lets the compactor know how long the log is, and that with a new segment there is less space.
    pub(super) fn note_logged(&self, log: &mut dyn Log) {
        self.logged.store(log.total_bytes(), Ordering::Relaxed);
        let segment = log.last_seal().following.sequence;
        if self.segment.swap(segment, Ordering::Relaxed) != segment {
            self.compactor().inspect(|compactor| compactor.look());
        }
    }

    /// The reply to a command for which there is no room, with Redis's error for a log that cannot be written.
    pub(super) fn no_room(reason: &str) -> Reply<'static> {
        let text = format!(
            "MISCONF Errors writing to the AOF file: no room, and nothing was changed; deletes and \
             BGREWRITEAOF are possible: {reason}"
        );
        Reply::Error(text.into())
    }
}
