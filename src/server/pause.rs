//! CLIENT PAUSE: requests wait until a time, or until CLIENT UNPAUSE.
//!
//! Only the client's own thread waits, before its request is carried out or queued in a transaction, and with all
//! earlier replies sent: what has begun ends, and no other client waits for it. Commands about clients, and SHUTDOWN,
//! go on, so that a pause can always be ended (Redis pauses those too). The server itself goes on to remove what has
//! expired. A stop ends every pause. While there is none, a request costs one atomic load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::command::Paused;
use crate::sync::{Condvar, Mutex};

/// How often a client that waits is looked after: it may have hung up, or been killed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The pause, if there is one.
///
/// - If `is_on` is false, no pause is set.
#[derive(Default)]
pub struct Pause {
    is_on: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    current: Option<(Paused, Instant)>,
    /// The server stops: there is no pause any more.
    has_stopped: bool,
}

impl Pause {
    /// Whether a request may have to wait.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// How many clients wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Begins a pause. One that is on already gets no shorter, nor does it let through more, as in Redis. False if
    /// the clock does not go that far.
    pub fn begin(&self, paused: Paused, time: Duration) -> bool {
        let now = Instant::now();
        let Some(end) = now.checked_add(time) else { return false };
        let mut state = self.state.lock();
        if !state.has_stopped {
            let before = state.current.filter(|(_, end)| *end > now).unwrap_or((paused, end));
            state.current = Some((before.0.max(paused), before.1.max(end)));
            self.is_on.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Ends it.
    pub fn end(&self) {
        self.state.lock().current = None;
        self.is_on.store(false, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Ends it for good: the server stops.
    pub fn stop(&self) {
        self.state.lock().has_stopped = true;
        self.end();
    }

    /// Waits as long as such requests are paused, or until `is_gone` is true of the client; then returns false.
    pub fn wait(&self, held_by: Paused, is_gone: impl Fn() -> bool) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let goes_on = loop {
            let Some((paused, end)) = state.current else { break true };
            let now = Instant::now();
            if end <= now {
                state.current = None;
                self.is_on.store(false, Ordering::Relaxed);
            } else if paused < held_by {
                break true;
            } else if is_gone() {
                break false;
            } else {
                self.changed.wait_until(&mut state, end.min(now + LOOK_AGAIN));
            }
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        goes_on
    }
}
