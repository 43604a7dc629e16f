//! The `expirer` thread: finds keys that have expired and has the committer remove them.
//!
//! Nobody sees an expired key, whether or not it has been removed; this only gives its memory back
//! without anyone touching it. The removal goes through the log like any other change, so that what
//! is gone stays gone if the clock goes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Operation, Recipient, Shared, Submission};
use crate::command::{Command, Dialect, Key, RespVersion};
use crate::entry::now_millis;
use crate::sync::{Condvar, Mutex};

/// How often it looks, and how long at a time: a hundredth of one core at most.
const INTERVAL: Duration = Duration::from_millis(100);
const WORK: Duration = Duration::from_millis(1);

/// Entries it looks at under one lock.
const STEP: usize = 200;

/// Keys that are removed at a time.
const RECLAIMED: usize = 1000;

/// What the thread and those who stop it share.
#[derive(Default)]
pub struct Expirer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// A removal is queued.
    waiting: bool,
}

impl Expirer {
    /// Works until it is stopped.
    pub(super) fn run(self: &Arc<Self>, shared: &Shared) {
        let mut cursor = 0;
        while self.pause() {
            if shared.store.expiring() == 0 || shared.health.failure().is_some() {
                continue;
            }
            let expired = self.look(shared, &mut cursor);
            if expired.is_empty() {
                continue;
            }
            shared.metrics.expired.add(expired.len() as u64);
            let operation =
                Operation::new(Command::Reclaim(expired), Dialect::Resp(RespVersion::V2), None);
            self.state.lock().waiting = true;
            let operations = vec![operation];
            if shared.queue.push(Submission { recipient: self.clone(), operations }).is_err() {
                return;
            }
            let mut state = self.state.lock();
            while state.waiting && !state.stop {
                self.changed.wait(&mut state);
            }
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits for the next look; false if there will be none.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stop {
            self.changed.wait_for(&mut state, INTERVAL);
        }
        !state.stop
    }

    fn look(&self, shared: &Shared, cursor: &mut u64) -> Vec<Key> {
        let (started, now) = (Instant::now(), now_millis());
        let mut expired = Vec::new();
        while started.elapsed() < WORK && expired.len() < RECLAIMED {
            *cursor = shared.store.scan(*cursor, STEP, &mut |entry| {
                if entry.is_expired(now) {
                    expired.push(entry.key().into());
                }
            });
            if *cursor == 0 {
                break;
            }
        }
        expired
    }
}

impl Recipient for Expirer {
    fn deliver(self: Arc<Self>, _answered: &[Operation]) {
        self.state.lock().waiting = false;
        self.changed.notify_all();
    }
}
