//! The committer: whichever thread walks the commit path, its own or that of a lone client.
//!
//! Its own thread takes everything that is queued. While that sleeps and nothing is queued, a client that
//! submits something leads: it commits on the spot and spares two threads a wake-up (as in RocksDB's write
//! groups and MySQL's binary log). Whatever is queued meanwhile the committer's thread commits, so a client leads
//! one batch and no more. The states are at the head of `queue`.

use std::time::Instant;

use super::commit_path::CommitPath;
use super::queue::{CommitQueue, Pushed, Work};
use super::{Shared, Submission};
use crate::sync::{AbortOnPanic, Mutex};

/// Commits what is submitted.
pub struct Committer {
    pub shared: std::sync::Arc<Shared>,
    path: Mutex<CommitPath>,
}

impl Committer {
    /// A committer on this path, without its thread.
    pub fn new(path: CommitPath) -> Committer {
        Committer { shared: path.shared.clone(), path: Mutex::new(path) }
    }

    fn queue(&self) -> &CommitQueue {
        &self.shared.queue
    }

    /// The thread's loop: works until the queue is closed and empty, then closes the log.
    pub fn run(&self) {
        let mut work = Work::default();
        let mut next = self.path.lock().walk(&mut work);
        while self.queue().take(&mut work, next) {
            next = self.path.lock().walk(&mut work);
        }
        self.path.lock().close();
    }

    /// Has a submission committed and answered, or gives it back if the queue is closed.
    pub fn submit(&self, mut submission: Submission) -> Result<(), Submission> {
        if self.shared.metrics.batches_seen.are_watched() && submission.is_of_client() {
            submission.arrived = Some(Instant::now());
        }
        match self.queue().push(submission) {
            Pushed::Queued => {}
            Pushed::Refused(submission) => return Err(submission),
            Pushed::Leads(submission) => self.lead(submission),
        }
        Ok(())
    }

    fn lead(&self, submission: Submission) {
        let mut path = self.path.lock();
        // After the lock, so that a panic ends the process before another thread has it.
        let _guard = AbortOnPanic("committing");
        path.add(submission);
        let next = path.walk(&mut Work::default());
        let rest = path.take_rest();
        drop(path);
        self.queue().step_down(rest, next);
    }
}
