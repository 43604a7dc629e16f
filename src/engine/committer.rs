//! The committer, who walks the commit path: its own thread, or that of a client who is alone.
//!
//! Its thread takes everything that is queued. While that sleeps, and nobody else is waiting, who
//! submits something may commit it on the spot and spares two threads a wake-up (a leader, as in
//! RocksDB's write groups and MySQL's binary log). What is queued meanwhile is the thread's, so a client
//! leads one batch and no more.

use std::sync::Arc;

use super::commit_path::CommitPath;
use super::queue::{Pushed, Taken};
use super::{Fsync, Shared, Submission};
use crate::sync::{AbortOnPanic, Mutex};
use crate::wal::Wal;

/// Commits what is submitted.
pub struct Committer {
    shared: Arc<Shared>,
    path: Mutex<CommitPath>,
}

impl Committer {
    /// A committer for this store and log, without its thread.
    pub fn new(shared: Arc<Shared>, wal: Option<Wal>, fsync: Fsync) -> Committer {
        let path = Mutex::new(CommitPath::new(shared.clone(), wal, fsync));
        Committer { shared, path }
    }

    /// What the thread does: works until the queue is closed and empty, then closes the log.
    pub fn run(&self) {
        let mut taken = Vec::new();
        loop {
            let until = self.path.lock().next_duty();
            match self.shared.queue.take(&mut taken, until) {
                Taken::Submissions => self.path.lock().run_all(&mut taken),
                Taken::Nothing => self.path.lock().do_duty(),
                Taken::Closed => break,
            }
        }
        self.path.lock().close();
    }

    /// Sees to it that a submission is committed and answered, or gives it back if the queue is
    /// closed.
    pub fn submit(&self, submission: Submission) -> Result<(), Submission> {
        match self.shared.queue.push_or_lead(submission) {
            Pushed::Queued => {}
            Pushed::Refused(submission) => return Err(submission),
            Pushed::Leads(submission) => {
                let mut path = self.path.lock();
                // After the lock, so that a panic ends the process before anyone else has it.
                let _guard = AbortOnPanic("committing");
                let rest = path.run_one(submission);
                let has_duty = path.next_duty().is_some();
                drop(path);
                self.shared.queue.step_down(rest, has_duty);
            }
        }
        Ok(())
    }
}
