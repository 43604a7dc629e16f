//! Messages on their way to a client that has not asked for them one by one.
//!
//! A publisher appends its message to the outbox of each subscriber and leaves all sending to the flusher: it
//! never waits for a subscriber, and makes one system call for all of them, or none if the flusher is awake.
//!
//! A subscriber that does not read is closed, with a message to stderr: at once above [`PUSHED_BYTES`], or
//! after [`HEAVY_PATIENCE`] above [`HEAVY_BYTES`]. What it leaves unread also counts among what all clients leave
//! unread, and is checked before the memory is taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::{Outbox, State};

/// The most bytes of messages that a client may leave unread: the hard limit of Redis's
/// `client-output-buffer-limit pubsub 32mb 8mb 60`.
pub const PUSHED_BYTES: usize = 32 << 20;

/// And this many for [`HEAVY_PATIENCE`] only: the soft limit there.
pub const HEAVY_BYTES: usize = 8 << 20;

/// See [`HEAVY_BYTES`].
pub const HEAVY_PATIENCE: Duration = Duration::from_secs(60);

/// These limits and that of replies as Redis's setting `client-output-buffer-limit` has them.
pub fn output_limits(replies: usize) -> String {
    let patience = HEAVY_PATIENCE.as_secs();
    format!("normal {replies} 0 0 slave 0 0 0 pubsub {PUSHED_BYTES} {HEAVY_BYTES} {patience}")
}

impl Outbox {
    /// Appends a message. If that makes it the flusher's turn to send, this outbox is added to `woken`, and the
    /// caller hands those over: [`super::flusher::Flusher::take_over`].
    pub fn push(self: &Arc<Self>, message: &[u8], woken: &mut Vec<Arc<Outbox>>) {
        let has_room = self.flusher.has_room(message.len())
            || self.flusher.make_room(self, message.len())
            || self.is_kept();
        if !has_room {
            return self.close_for_messages(&mut self.state.lock());
        }
        let mut state = self.state.lock();
        if state.broken {
            return;
        }
        if self.is_too_heavy(&mut state, message.len()) {
            return self.close_for_messages(&mut state);
        }
        let State { held, unsent, .. } = &mut *state;
        match held {
            Some(held) => held.extend_from_slice(message),
            None => unsent.extend_from_slice(message),
        }
        self.account(&state);
        if !state.flushing && state.held.is_none() {
            state.flushing = true;
            woken.push(self.clone());
        }
    }

    /// Puts something of this client's own between the messages; [`Outbox::send`] has to follow.
    pub fn put(&self, reply: &[u8]) {
        let mut state = self.state.lock();
        if !state.broken {
            state.unsent.extend_from_slice(reply);
            self.account(&state);
        }
    }

    /// From now on messages wait, because a reply is sent piece by piece.
    pub fn hold_messages(&self) {
        let mut state = self.state.lock();
        if !state.broken {
            state.held.get_or_insert_default();
        }
    }

    /// The reply is complete, and sent: messages go on.
    pub fn release_messages(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let held = state.held.take().unwrap_or_default();
        if held.is_empty() || state.broken {
            return;
        }
        state.unsent.extend_from_slice(&held);
        self.account(&state);
        if !state.flushing {
            state.flushing = true;
            drop(state);
            self.flusher.take_over(&mut vec![self.clone()]);
        }
    }

    /// Closes the client if it has left too many messages unread for too long. Returns whether it has many.
    pub fn look_for_heavy(&self) -> bool {
        let mut state = self.state.lock();
        if self.is_too_heavy(&mut state, 0) {
            self.close_for_messages(&mut state);
        }
        state.heavy_since.is_some()
    }

    /// Whether the client would leave too many messages unread with this many bytes `more`.
    fn is_too_heavy(&self, state: &mut State, more: usize) -> bool {
        let held = state.held.as_ref().map_or(0, Vec::len);
        let unread = state.unsent_messages() + held + more;
        if unread <= HEAVY_BYTES {
            state.heavy_since = None;
            return false;
        }
        let since = *state.heavy_since.get_or_insert_with(|| {
            self.flusher.note_heavy();
            Instant::now()
        });
        unread > PUSHED_BYTES || since.elapsed() >= HEAVY_PATIENCE
    }

    fn close_for_messages(&self, state: &mut State) {
        if !state.broken {
            let unread = state.unsent_messages();
            log::warn!("client {}: closed, it leaves {unread} bytes of messages unread", self.id);
            state.heavy_since = None;
            self.break_off(state);
            self.metrics.unread_disconnections.add(1);
        }
    }
}
