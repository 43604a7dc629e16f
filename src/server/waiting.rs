//! What a client's own thread waits for: that its writes are answered, and that the client reads its replies.
//!
//! Only that thread waits here, and only for its own client; the committer and the flusher wake it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outbox::{COMFORTABLE_BYTES, Outbox, State};
use crate::engine::Operation;
use crate::sync::MutexGuard;

/// A client that takes nothing for this long is probably still sending, and will read later.
const READING_PAUSE: Duration = Duration::from_millis(100);

/// How often a client that has to wait is checked, for it may have hung up.
const HUNG_UP_STEP: Duration = Duration::from_millis(50);

impl Outbox {
    /// Whether operations of this client are in the queue: then the next one has to be queued
    /// after them, a read too.
    pub fn has_queued(&self) -> bool {
        self.state.lock().queued_operations > 0
    }

    /// Counts operations that are about to be queued, and their bytes. Waits first until those before are
    /// answered and the client reads, so that a client that sends faster than it is answered is not read from,
    /// and takes turns with others.
    ///
    /// Returns an empty list with room for the next operations.
    pub fn queue(&self, operations: &[Operation], bytes: usize) -> Vec<Operation> {
        let mut state = self.until_answered(self.state.lock());
        state = self.until_read(state);
        state.queued_operations += operations.len();
        state.queued_bytes = bytes;
        // What its own commands cause comes after their replies, as in Redis.
        if self.profile.hears() && !operations.is_empty() && !state.broken {
            state.held.get_or_insert_default();
        }
        std::mem::take(&mut state.spare)
    }

    /// Waits until every queued operation is answered, or the client is gone.
    pub fn wait_until_answered(&self) {
        drop(self.until_answered(self.state.lock()));
    }

    fn until_answered<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while !state.broken && state.queued_operations > 0 {
            self.changed.wait(&mut state);
        }
        state
    }

    /// Waits while a client that reads has many replies left to read; messages that others publish may come without
    /// end, and must not keep it from unsubscribing. For one that does not read it waits only once,
    /// briefly: it may be sending a long pipeline first, and is closed if that does not end.
    pub fn wait_for_reader(&self) {
        drop(self.until_read(self.state.lock()));
    }

    fn until_read<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while !state.broken && state.unsent_replies() > COMFORTABLE_BYTES {
            if state.stalled_at == Some(state.total_sent) {
                break;
            }
            let before = state.total_sent;
            let timed_out = self.changed.wait_for(&mut state, READING_PAUSE).timed_out();
            if timed_out && state.total_sent == before {
                state.stalled_at = Some(before);
            }
        }
        state
    }

    /// Waits until every queued operation is answered and every reply sent, or the client is gone.
    pub fn wait_until_empty(&self) {
        let mut state = self.state.lock();
        while !state.broken && (state.queued_operations > 0 || !state.unsent.is_empty()) {
            self.changed.wait(&mut state);
        }
    }

    /// Waits for this long, or until the client is closed or has hung up. Returns whether it is still there.
    pub fn pause(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while !self.has_hung_up() && Instant::now() < deadline {
            let next_look = deadline.min(Instant::now() + HUNG_UP_STEP);
            let mut state = self.state.lock();
            while !state.broken && !self.changed.wait_until(&mut state, next_look).timed_out() {}
        }
        !self.has_hung_up()
    }

    /// Whether the client is gone: the connection was closed here, or reset by the other side.
    pub fn has_hung_up(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.wire().has_hung_up()
    }
}
