//! The `idle` thread: closes clients that have asked nothing for `timeout` seconds, if that is set.
//!
//! It sleeps until there is a timeout, and looks at the clients once a second then, as Redis does. No client's own
//! thread looks at a clock for it.

use std::time::Duration;

use super::Shared;
use crate::sync::{Condvar, Mutex};

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Idle {
    stops: Mutex<bool>,
    changed: Condvar,
}

impl Idle {
    /// Has the thread look at the timeout anew.
    pub fn wake(&self) {
        let _held = self.stops.lock();
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub fn stop(&self) {
        *self.stops.lock() = true;
        self.changed.notify_all();
    }

    /// The thread's loop.
    pub fn run(&self, shared: &Shared) {
        let mut stops = self.stops.lock();
        while !*stops {
            match shared.settings.changeable.timeout_seconds() {
                0 => self.changed.wait(&mut stops),
                seconds => {
                    self.changed.wait_for(&mut stops, INTERVAL);
                    // Nobody who wakes this thread waits for the clients' locks.
                    shared.clients.close_idle(Duration::from_secs(seconds));
                }
            }
        }
    }
}
