//! Where client threads leave submissions for the committer, and others leave errands.
//!
//! One lock, held for a push or a swap, never while a thread waits for disk or network. Only the committer's
//! thread sleeps here. Whose turn it is to commit:
//!
//! | turn | who commits | a push | then |
//! |------|-------------|--------|------|
//! | `Committer` | the committer's thread | appends | `Gathering` or `Nobody`, when the committer comes for more |
//! | `Gathering` | nobody: the committer waits for the clients that it has just answered | appends; the last of them wakes the committer | `Committer`, then or after the deadline of the commit window |
//! | `Nobody` | nobody: the committer sleeps until its timer | the client becomes the leader; an errand wakes the committer | `Leader` or `Committer` |
//! | `Leader` | the client's thread, one batch | appends | `Nobody`, or `Committer` if anything has been queued |

use std::time::{Duration, Instant};

use super::Submission;
use super::log::Errand;
use super::window::Window;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Submissions and errands, each in the order in which they came.
#[derive(Default)]
pub struct CommitQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    work: Work,
    turn: Turn,
    /// When the committer's thread will wake up by itself, as set when it went to sleep.
    timer: Option<Instant>,
    window: Window,
    closed: bool,
}

/// Submissions to commit and errands to do.
#[derive(Default)]
pub struct Work {
    pub submissions: Vec<Submission>,
    pub errands: Vec<Errand>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.submissions.is_empty() && self.errands.is_empty()
    }
}

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Committer,
    Gathering,
    Nobody,
    Leader,
}

/// The result of a push.
pub enum Pushed {
    /// The committer's thread commits it.
    Queued,
    /// The caller commits it, and then calls [`CommitQueue::step_down`].
    Leads(Submission),
    /// The queue is closed.
    Refused(Submission),
}

/// A batch whose replies are about to be sent.
pub struct Replying {
    /// The clients that may submit again after them.
    pub answered: usize,
    /// Those that have to wait for a later batch.
    pub backlog: usize,
    /// How long the batch's sync took, if it was synced.
    pub sync: Option<Duration>,
}

/// What a committing thread reports when it comes back for more.
#[derive(Clone, Copy, Default)]
pub struct Next {
    /// Whether it has kept something for the next batch.
    pub has_backlog: bool,
    /// When the last reply was sent, if there was a batch.
    pub replied: Option<Instant>,
    /// When there is something to do even if nothing is queued.
    pub timer: Option<Instant>,
}

impl CommitQueue {
    /// Appends a submission, unless the caller is to commit it or the queue is closed.
    pub fn push(&self, submission: Submission) -> Pushed {
        let mut state = self.state.lock();
        if state.closed {
            return Pushed::Refused(submission);
        }
        if submission.is_of_client() {
            state.window.note_arrival();
        }
        if state.turn == Turn::Nobody && state.work.is_empty() {
            debug_assert!(!state.closed, "no client leads once the queue is closed");
            state.turn = Turn::Leader;
            return Pushed::Leads(submission);
        }
        state.work.submissions.push(submission);
        match state.turn {
            Turn::Gathering if state.window.is_complete() => self.wake(state),
            Turn::Nobody => self.wake(state),
            Turn::Gathering | Turn::Committer | Turn::Leader => {}
        }
        Pushed::Queued
    }

    /// Appends an errand, or drops it if the queue is closed.
    pub fn push_errand(&self, errand: Errand) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.work.errands.push(errand);
        if state.turn == Turn::Nobody {
            self.wake(state);
        }
    }

    /// Ends the caller's lead. What it has left comes before everything queued meanwhile. Wakes the
    /// committer's thread if there is work, a timer that it does not know of, or a close.
    pub fn step_down(&self, rest: Option<Submission>, next: Next) {
        let mut state = self.state.lock();
        assert_eq!(state.turn, Turn::Leader, "only the leader steps down");
        state.turn = Turn::Nobody;
        state.work.submissions.splice(0..0, rest);
        if let Some(replied) = next.replied {
            state.window.note_replied(replied);
        }
        let has_news = next.timer.is_some() && state.timer.is_none();
        if has_news || state.closed || !state.work.is_empty() {
            self.wake(state);
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        state.turn = Turn::Committer;
        drop(state);
        self.arrived.notify_one();
    }

    /// For the committer's thread: waits until there is work and no leader, and swaps it for `empty`. Returns
    /// without any if there is a backlog, or at the timer. False if nothing more will come.
    pub fn take(&self, empty: &mut Work, next: Next) -> bool {
        debug_assert!(empty.is_empty(), "all that was taken has been done");
        let mut state = self.state.lock();
        let deadline = next.replied.and_then(|replied| state.window.note_replied(replied));
        if !next.has_backlog {
            self.gather(&mut state, deadline);
            if state.turn == Turn::Leader || state.work.is_empty() && !state.closed {
                self.sleep(&mut state, next.timer);
            }
        }
        if state.turn == Turn::Leader {
            // The timer has come, or the queue was closed: the caller next waits for the leader's lock.
            return true;
        }
        state.turn = Turn::Committer;
        let goes_on = next.has_backlog || !state.work.is_empty() || !state.closed;
        std::mem::swap(&mut state.work, empty);
        goes_on
    }

    /// Waits until all clients that were just answered have submitted again, but not after `deadline`.
    fn gather(&self, state: &mut MutexGuard<'_, State>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let mut is_over = false;
        while !state.window.is_complete() && !state.closed && !is_over {
            state.turn = Turn::Gathering;
            is_over = self.arrived.wait_until(state, deadline).timed_out();
        }
    }

    fn sleep(&self, state: &mut MutexGuard<'_, State>, timer: Option<Instant>) {
        state.timer = timer;
        if state.turn != Turn::Leader {
            state.turn = Turn::Nobody;
        }
        match timer {
            Some(at) => drop(self.arrived.wait_until(state, at)),
            None => self.arrived.wait(state),
        }
    }

    /// Begins the next round of the commit window. Returns how many clients write: those that are answered,
    /// and those that wait for a later batch.
    pub fn begin_round(&self, batch: &Replying) -> usize {
        let Replying { answered, backlog, sync } = *batch;
        let mut state = self.state.lock();
        if let Some(sync) = sync {
            state.window.note_sync(sync);
        }
        let writers = answered + backlog + state.work.submissions.len();
        state.window.begin_round(answered, writers);
        writers
    }

    /// Takes the errands that are there, without waiting.
    pub fn take_errands(&self) -> Vec<Errand> {
        std::mem::take(&mut self.state.lock().work.errands)
    }

    /// Refuses everything that comes from now on, and wakes the committer's thread.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }
}
