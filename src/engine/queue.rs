//! Where client threads leave operations for the committer.
//!
//! One lock, held for a push or a swap, never while anyone waits for disk or network. One sleeper:
//! the committer. Who pushes wakes it only if it sleeps.

use std::collections::VecDeque;
use std::time::Instant;

use super::Submission;
use crate::sync::{Condvar, Mutex};

/// Submissions in the order in which they came.
#[derive(Default)]
pub struct CommitQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Submission>,
    sleeping: bool,
    /// The committer sleeps until there are so many.
    wanted: usize,
    closed: bool,
}

/// How a wait for submissions ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// There are some.
    Submissions,
    /// The time is over.
    TimedOut,
    /// There are none and will be none.
    Closed,
}

impl CommitQueue {
    /// Appends a submission, or gives it back if the queue is closed.
    pub fn push(&self, submission: Submission) -> Result<(), Submission> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(submission);
        }
        state.waiting.push(submission);
        let wake = state.sleeping && state.waiting.len() >= state.wanted;
        state.sleeping &= !wake;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits until there are submissions, and swaps them for `empty`.
    pub fn take(&self, empty: &mut Vec<Submission>, until: Option<Instant>) -> Taken {
        debug_assert!(empty.is_empty());
        let mut state = self.state.lock();
        loop {
            if !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, empty);
                return Taken::Submissions;
            }
            if state.closed {
                return Taken::Closed;
            }
            state.sleeping = true;
            let timed_out = match until {
                Some(until) => self.arrived.wait_until(&mut state, until).timed_out(),
                None => {
                    self.arrived.wait(&mut state);
                    false
                }
            };
            state.sleeping = false;
            if timed_out && state.waiting.is_empty() && !state.closed {
                return Taken::TimedOut;
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Waits until there are `wanted` submissions, but not longer than `until`; says how many there
    /// are then.
    pub fn gather(&self, wanted: usize, until: Instant) -> usize {
        let mut state = self.state.lock();
        state.wanted = wanted;
        let mut timed_out = false;
        while state.waiting.len() < wanted && !state.closed && !timed_out {
            state.sleeping = true;
            timed_out = self.arrived.wait_until(&mut state, until).timed_out();
            state.sleeping = false;
        }
        state.wanted = 0;
        state.waiting.len()
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
