//! Where client threads leave operations for the committer.
//!
//! One lock, held for a push or a swap, never while anyone waits for disk or network. One sleeper:
//! the committer's thread. Who pushes wakes it only if it sleeps; or leads, if nobody else is
//! waiting: commits in its place, while it sleeps on.

use std::collections::VecDeque;
use std::time::Instant;

use super::Submission;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Submissions in the order in which they came.
#[derive(Default)]
pub struct CommitQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Submission>,
    round: Round,
    sleep: Sleep,
    /// A client commits, and the committer is to sleep.
    led: bool,
    closed: bool,
}

/// What the committer's thread waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleep {
    /// Nothing: it works, or is about to.
    #[default]
    Awake,
    /// The first submission, and its next duty if it knows of one.
    Idle { knows_duty: bool },
    /// The last submission of the round.
    Gathering,
}

/// Those who were answered last, on their way back.
#[derive(Default)]
struct Round {
    wanted: usize,
    arrived: usize,
    complete_at: Option<Instant>,
}

impl Round {
    fn note_arrival(&mut self, submission: &Submission) {
        if !submission.is_of_client() {
            return;
        }
        self.arrived += 1;
        if self.arrived == self.wanted {
            self.complete_at = Some(Instant::now());
        }
    }

    fn is_complete(&self) -> bool {
        self.arrived >= self.wanted
    }
}

/// What becomes of a submission.
pub enum Pushed {
    /// The committer's thread sees to it.
    Queued,
    /// The caller commits it, and then says [`CommitQueue::step_down`].
    Leads(Submission),
    /// The queue is closed.
    Refused(Submission),
}

/// How a wait for submissions ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// There are some.
    Submissions,
    /// There are none yet; the time is over, or there may be another duty.
    Nothing,
    /// There are none and will be none.
    Closed,
}

impl CommitQueue {
    /// Appends a submission, or gives it back if the queue is closed.
    pub fn push(&self, submission: Submission) -> Result<(), Submission> {
        self.append(self.state.lock(), submission)
    }

    fn append(
        &self,
        mut state: MutexGuard<'_, State>,
        submission: Submission,
    ) -> Result<(), Submission> {
        if state.closed {
            return Err(submission);
        }
        state.round.note_arrival(&submission);
        state.waiting.push(submission);
        let enough = match state.sleep {
            Sleep::Awake => false,
            Sleep::Idle { .. } => !state.led,
            Sleep::Gathering => state.round.is_complete(),
        };
        if enough {
            self.wake(state);
        }
        Ok(())
    }

    /// Appends a submission, unless the committer's thread is idle and there is no other.
    pub fn push_or_lead(&self, submission: Submission) -> Pushed {
        let mut state = self.state.lock();
        let is_idle = matches!(state.sleep, Sleep::Idle { .. }) && state.waiting.is_empty();
        if is_idle && !state.led && !state.closed {
            state.led = true;
            state.round.note_arrival(&submission);
            return Pushed::Leads(submission);
        }
        self.append(state, submission).map_or_else(Pushed::Refused, |()| Pushed::Queued)
    }

    /// The caller leads no longer. What it has left is the first that the committer's thread takes;
    /// that is woken up if there is something to take, or a duty that it may not know of.
    pub fn step_down(&self, rest: Option<Submission>, has_duty: bool) {
        let mut state = self.state.lock();
        state.led = false;
        state.waiting.splice(0..0, rest);
        let news = match state.sleep {
            Sleep::Idle { knows_duty } => has_duty && !knows_duty,
            Sleep::Awake | Sleep::Gathering => false,
        };
        if news || state.closed || !state.waiting.is_empty() {
            self.wake(state);
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        state.sleep = Sleep::Awake;
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until there are submissions and nobody leads, and swaps them for `empty`.
    pub fn take(&self, empty: &mut Vec<Submission>, until: Option<Instant>) -> Taken {
        debug_assert!(empty.is_empty());
        let mut state = self.state.lock();
        let mut has_slept = false;
        loop {
            if !state.led && !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, empty);
                return Taken::Submissions;
            }
            if !state.led && state.closed {
                return Taken::Closed;
            }
            if has_slept {
                return Taken::Nothing;
            }
            self.sleep(&mut state, Sleep::Idle { knows_duty: until.is_some() }, until);
            has_slept = true;
        }
    }

    /// From now on counts clients until as many as `wanted` have come. Says how many are there already,
    /// and when the round before this one was complete, if it was.
    pub fn begin_round(&self, wanted: usize) -> (usize, Option<Instant>) {
        let mut state = self.state.lock();
        let round = Round { wanted, ..Round::default() };
        let before = std::mem::replace(&mut state.round, round);
        (state.waiting.len(), before.complete_at)
    }

    /// Waits until the round is complete, but not longer than `until`.
    pub fn gather(&self, until: Instant) {
        let mut state = self.state.lock();
        let mut timed_out = false;
        while !state.round.is_complete() && !state.closed && !timed_out {
            timed_out = self.sleep(&mut state, Sleep::Gathering, Some(until));
        }
    }

    /// Whether the time is over.
    fn sleep(
        &self,
        state: &mut MutexGuard<'_, State>,
        sleep: Sleep,
        until: Option<Instant>,
    ) -> bool {
        state.sleep = sleep;
        let timed_out = match until {
            Some(until) => self.arrived.wait_until(state, until).timed_out(),
            None => {
                self.arrived.wait(state);
                false
            }
        };
        state.sleep = Sleep::Awake;
        timed_out
    }

    /// Takes what is there, without waiting.
    pub fn take_more(&self, backlog: &mut VecDeque<Submission>) {
        backlog.extend(self.state.lock().waiting.drain(..));
    }

    /// Lets no more submissions in.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }
}
