//! Replies on their way to one client.
//!
//! Three threads put bytes here or take them away: the client's own (replies to reads, and to writes
//! that it commits itself), the committer (replies to writes) and the flusher (what the socket did
//! not take at once). Any thread may put messages here that others have published (see [`super::pushes`]).
//! None of them waits for the client: a send never
//! blocks, and what is left over stays here, in order. Replies and messages are put here as wholes, so that
//! none is in the middle of another.
//!
//! Unread replies are limited, for each client and for all together (`UnreadLimits`); a long reply reserves its
//! bytes before they are allocated, and counts as unread from then on. A client over its own limit is closed.
//! Above the limit for all, the clients with most unread are closed.
//!
//! The lock is held for encoding and for a send that does not block. No two outboxes are locked at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::Shutdown;

use super::flusher::Flusher;
use super::profile::{Profile, Sending};
use crate::command::{ClientKind, RespVersion, TOO_LONG, Words};
use crate::doors::Wire;
use crate::engine::{Operation, Recipient};
use crate::metrics::{Caller, Metrics};
use crate::protocol;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// With more bytes than this unsent, the client's own thread waits for the client, as long as that reads.
pub const COMFORTABLE_BYTES: usize = 1 << 20;

/// The most that is sent under one lock: a client that reads as fast as we send must not keep the committer
/// waiting for the lock.
const ROUND_BYTES: u64 = 1 << 20;

/// Memory for replies that is kept while a client is quiet.
const KEPT_BYTES: usize = 4 * 1024;

/// Room for this many operations is kept for the next ones, so that a client without a pipeline needs no allocation.
const KEPT_OPERATIONS: usize = 4;

/// Replies of more bytes are moved instead of copied.
const LONG_BYTES: usize = 128 * 1024;

const NO_ROOM: &str =
    "ERR clients leave more replies unread than -maxmemory-clients allows, try again later";
const CLOSED: &str = "ERR the connection is closed";

/// One client's replies, and its wire.
pub struct Outbox {
    /// The client's number, for its thread and the server's messages.
    pub id: u64,
    pub profile: Profile,
    wire: Wire,
    pub(super) flusher: Arc<Flusher>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// This client's part of the sum over all clients.
    accounted: AtomicUsize,
    /// `State::broken`, to be read without the lock.
    pub(super) gone: AtomicBool,
    /// It was killed, or its login has ended.
    revoked: AtomicBool,
    /// The client is about to go: it has asked its last.
    leaves: AtomicBool,
    /// The version of RESP in which messages are spelled.
    speaks_v3: AtomicBool,
}

/// - `unsent[sent..]` is still to be sent; if that is empty, so is `unsent`.
/// - If `flushing`, the flusher has it, and no other thread may send.
/// - At most `replied` bytes of what is unsent are replies, the others are messages.
#[derive(Default)]
pub(super) struct State {
    pub(super) unsent: Vec<u8>,
    sent: usize,
    pub(super) flushing: bool,
    replied: usize,
    /// Since when there are too many messages unsent for long.
    pub(super) heavy_since: Option<Instant>,
    /// Messages that have to wait until a reply that is sent piece by piece is complete.
    pub(super) held: Option<Vec<u8>>,
    pub(super) queued_operations: usize,
    /// An empty list, with room for the next operations.
    pub(super) spare: Vec<Operation>,
    /// Bytes that they took up when they were queued.
    pub(super) queued_bytes: usize,
    /// Bytes of a reply that the client's thread is forming.
    reserved: usize,
    /// Bytes taken by the socket, ever.
    pub(super) total_sent: u64,
    /// `total_sent` when the client was last seen not to read.
    pub(super) stalled_at: Option<u64>,
    /// Nothing can be sent any more.
    pub(super) broken: bool,
}

impl Outbox {
    pub fn new(id: u64, wire: Wire, flusher: Arc<Flusher>, metrics: Arc<Metrics>) -> Outbox {
        let profile = Profile::new(id, wire.peer.clone(), wire.local.clone());
        let (state, changed) = (Mutex::default(), Condvar::new());
        let accounted = AtomicUsize::new(0);
        let [gone, revoked] = [const { AtomicBool::new(false) }; 2];
        let [leaves, speaks_v3] = [const { AtomicBool::new(false) }; 2];
        Outbox {
            id,
            profile,
            wire,
            flusher,
            metrics,
            state,
            changed,
            accounted,
            gone,
            revoked,
            leaves,
            speaks_v3,
        }
    }

    /// What the client is connected by, to receive from.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Bytes of memory with replies that this client has not read, or reserved for its next one.
    pub fn unread_bytes(&self) -> usize {
        self.accounted.load(Ordering::Relaxed)
    }

    /// The version of RESP in which messages are spelled.
    pub fn version(&self) -> RespVersion {
        match self.speaks_v3.load(Ordering::Relaxed) {
            true => RespVersion::V3,
            false => RespVersion::V2,
        }
    }

    /// Messages are spelled in this version from now on.
    pub fn speak(&self, version: RespVersion) {
        self.speaks_v3.store(version == RespVersion::V3, Ordering::Relaxed);
    }

    /// From now on nothing is sent to the client but the replies that it waits for.
    pub fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }

    /// Whether the client is gone, or about to go.
    pub fn has_left(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.leaves.load(Ordering::Relaxed)
    }

    /// Sends replies that are ready, and empties `replies`. Ends the reservation, which was for them.
    pub fn send(self: &Arc<Self>, replies: &mut Vec<u8>) {
        let mut state = self.state.lock();
        self.release(&mut state);
        self.append(&mut state, replies.len(), |out| {
            match out.is_empty() && replies.len() > LONG_BYTES {
                true => std::mem::swap(out, replies),
                false => out.extend_from_slice(replies),
            }
        });
        self.make_room(state);
        replies.clear();
        replies.shrink_to(LONG_BYTES);
    }

    /// Reserves room for a reply that the client's thread is about to form, until it is sent. Refused if the
    /// reply would be too long, or if there is no room and no other client can be closed to make some.
    pub fn reserve(&self, bytes: usize) -> Result<(), &'static str> {
        let state = self.state.lock();
        let is_too_long = state.reserved + bytes > self.flusher.limits.one;
        if is_too_long { Err(TOO_LONG) } else { self.reserve_any(state, bytes) }
    }

    fn reserve_any(
        &self,
        mut state: MutexGuard<'_, State>,
        bytes: usize,
    ) -> Result<(), &'static str> {
        if state.broken || self.is_too_much(&state, bytes) {
            self.close_for_unread(&mut state);
            return Err(CLOSED);
        }
        state.reserved += bytes;
        self.account(&state);
        drop(state);
        if self.flusher.make_room(self, 0) {
            return Ok(());
        }
        self.release(&mut self.state.lock());
        Err(NO_ROOM)
    }

    /// If all clients together have too much unread, and this one much of it, closes those with most; this
    /// one only when it is its turn, and it has not said CLIENT NO-EVICT.
    fn make_room(&self, state: MutexGuard<'_, State>) {
        let has_much = state.unsent_bytes() > COMFORTABLE_BYTES;
        drop(state);
        if has_much && !self.flusher.make_room(self, 0) && !self.is_kept() {
            self.close_for_unread(&mut self.state.lock());
        }
    }

    /// Whether it is not closed for what all clients together leave unread. Its own limits hold all the same.
    pub(super) fn is_kept(&self) -> bool {
        self.profile.is_kept.load(Ordering::Relaxed)
    }

    fn release(&self, state: &mut State) {
        state.reserved = 0;
        self.account(state);
    }

    /// Closes this client to give its memory to others.
    pub fn evict(&self) {
        log::warn!(
            "client {}: closed, all clients together leave too much unread, and this one most",
            self.id
        );
        self.abandon();
        self.metrics.evicted_clients.add(1);
    }

    /// Notes that a command with these words took long.
    pub fn note_slow_words(&self, words: &Words<'_>, elapsed: Duration) {
        self.metrics.slow.note(elapsed, words, || {
            let info = self.profile.info();
            let user = info.login.map(|login| login.user.name.to_string());
            Caller { address: self.profile.address.to_string(), name: info.name, user }
        });
    }

    /// The client's line in CLIENT LIST.
    pub fn line(&self) -> String {
        let state = self.state.lock();
        let sending = Sending {
            unsent: state.unsent_bytes(),
            unsent_room: state.unsent.capacity(),
            flushing: state.flushing,
            waiting_bytes: state.queued_bytes,
            outbox_bytes: size_of::<Outbox>(),
        };
        drop(state);
        self.profile.line(self.id, self.wire.descriptor(), &sending)
    }

    /// Whether the client has asked nothing for this long, and waits for nothing: neither a reply nor messages.
    pub fn is_idle(&self, longest: Duration) -> bool {
        let state = self.state.lock();
        let waits = state.queued_operations > 0 || state.unsent_bytes() > 0;
        drop(state);
        let is_subscriber = self.profile.kind() == ClientKind::Subscriber;
        !waits && !is_subscriber && self.profile.idle() >= longest
    }

    /// Whether nothing can be sent any more.
    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    /// Stops both directions at once. Every thread that waits for this client goes on.
    pub fn abandon(&self) {
        self.break_off(&mut self.state.lock());
    }

    /// Closes the client, and has none of its requests carried out any more, queued ones neither. A batch that
    /// is being evaluated goes on with the operations it has.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
        self.abandon();
    }

    /// For the flusher: sends what the socket takes, and returns whether something is left.
    pub fn flush(&self) -> bool {
        let mut state = self.state.lock();
        self.send_unsent(&mut state);
        self.account(&state);
        state.flushing = !state.unsent.is_empty();
        self.changed.notify_all();
        state.flushing
    }

    /// Appends what `write` writes, about `bytes` bytes, and sends what the socket takes.
    fn append(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
        bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if state.broken {
            return;
        }
        if self.is_too_much(state, bytes) {
            return self.close_for_unread(state);
        }
        let before = state.unsent.len();
        write(&mut state.unsent);
        state.replied += state.unsent.len() - before;
        if !state.flushing {
            self.send_unsent(state);
            if !state.unsent.is_empty() {
                state.flushing = true;
                if let Err(error) = self.flusher.watch(self) {
                    log::error!("client {}: closed, cannot watch its socket: {error}", self.id);
                    self.break_off(state);
                }
            }
        }
        self.account(state);
    }

    /// Whether a client with much unread would have too much with this many bytes more. A client that keeps
    /// up never has more than one reply unread, and replies have a limit of their own.
    fn is_too_much(&self, state: &State, bytes: usize) -> bool {
        let unsent = state.unsent_replies();
        unsent > COMFORTABLE_BYTES && unsent + state.reserved + bytes > self.flusher.limits.one
    }

    pub(super) fn close_for_unread(&self, state: &mut State) {
        if !state.broken {
            log::warn!("client {}: closed, it leaves its replies unread", self.id);
            self.break_off(state);
            self.metrics.unread_disconnections.add(1);
        }
    }

    /// Updates the sum over all clients. Called with the lock held, whenever what is unread has changed.
    pub(super) fn account(&self, state: &State) {
        let held = state.held.as_ref().map_or(0, Vec::len);
        let now = state.unsent.len() + state.reserved + held;
        let before = self.accounted.load(Ordering::Relaxed);
        if now != before {
            self.accounted.store(now, Ordering::Relaxed);
            self.flusher.account(before, now);
        }
    }

    fn send_unsent(&self, state: &mut State) {
        debug_assert!(state.sent <= state.unsent.len(), "no more was sent than there was");
        let before = state.total_sent;
        while state.sent < state.unsent.len() {
            if state.total_sent - before >= ROUND_BYTES {
                return state.forget_sent();
            }
            match self.wire.send(&state.unsent[state.sent..]) {
                Ok(count) => {
                    state.sent += count;
                    state.replied = state.replied.saturating_sub(count);
                    state.total_sent += count as u64;
                    self.metrics.output_bytes.add(count as u64);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return state.forget_sent(),
                Err(errno) => {
                    log::debug!("client {}: cannot send: {errno}", self.id);
                    return self.break_off(state);
                }
            }
        }
        (state.sent, state.replied) = (0, 0);
        state.unsent.clear();
        state.unsent.shrink_to(KEPT_BYTES);
    }

    pub(super) fn break_off(&self, state: &mut State) {
        state.broken = true;
        self.gone.store(true, Ordering::Relaxed);
        (state.sent, state.reserved, state.replied) = (0, 0, 0);
        (state.unsent, state.held) = (Vec::new(), None);
        self.account(state);
        if let Err(error) = self.wire.shut(Shutdown::Both) {
            log::debug!("client {}: cannot shut down: {error}", self.id);
        }
        self.changed.notify_all();
    }
}

impl State {
    /// Drops what is sent once that is more than the rest, so that on average each byte is moved at most once.
    fn forget_sent(&mut self) {
        if self.sent > self.unsent.len() / 2 {
            self.unsent.drain(..self.sent);
            self.sent = 0;
            self.unsent.shrink_to(LONG_BYTES);
        }
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Bytes of replies that are unsent, at most; what is sent is taken to be replies first.
    pub(super) fn unsent_replies(&self) -> usize {
        self.replied.min(self.unsent_bytes())
    }

    /// Bytes of messages that are unsent, at least.
    pub(super) fn unsent_messages(&self) -> usize {
        self.unsent_bytes() - self.unsent_replies()
    }
}

impl Recipient for Outbox {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        let spelled =
            |operation: &Operation| protocol::most_bytes(operation.dialect, &operation.reply);
        let heard = || answered.iter().filter(|operation| !operation.is_muted);
        let bytes = heard().map(spelled).sum();
        let has_room = bytes <= COMFORTABLE_BYTES
            || self.reserve_any(self.state.lock(), bytes).is_ok()
            || self.is_kept();
        let mut state = self.state.lock();
        match has_room {
            true => {
                self.release(&mut state);
                let is_last = state.queued_operations == answered.len();
                let held = if is_last { state.held.take() } else { None };
                self.append(&mut state, bytes, |out| {
                    for Operation { command, dialect, reply, .. } in heard() {
                        protocol::encode(command.key(), *dialect, reply, out);
                    }
                    out.extend(held.into_iter().flatten());
                });
            }
            // Closed, because it cannot be told what became of its writes.
            false => self.close_for_unread(&mut state),
        }
        assert!(state.queued_operations >= answered.len(), "each operation is answered once");
        state.queued_operations -= answered.len();
        if state.queued_operations == 0 {
            state.queued_bytes = 0;
            if answered.capacity() <= KEPT_OPERATIONS {
                answered.clear();
                std::mem::swap(&mut state.spare, answered);
            }
        }
        self.make_room(state);
        self.changed.notify_all();
    }

    fn client(&self) -> u64 {
        self.id
    }

    fn note_slow(&self, operation: &Operation, elapsed: Duration) {
        let words = operation.words.as_ref();
        let words = words.map_or_else(|| operation.command.words(), |words| words.list());
        self.note_slow_words(&words, elapsed);
    }

    fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}
