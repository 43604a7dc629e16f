//! The `idle` thread: closes clients that have asked nothing for `timeout` seconds, if that is set, and those that have
//! not logged in in time, if there is a password.
//!
//! It sleeps until there is something to look for, and then looks at the clients once a second, as Redis does. No
//! client's own thread looks at a clock for it.

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
            let idle_time = Duration::from_secs(shared.settings.changeable.timeout_seconds());
            let login_time = match shared.settings.accounts.needs_password() {
                true => shared.settings.login_time,
                false => Duration::ZERO,
            };
            if idle_time.is_zero() && login_time.is_zero() {
                self.changed.wait(&mut stops);
                continue;
            }
            self.changed.wait_for(&mut stops, INTERVAL);
            // Nobody who wakes this thread waits for the clients' locks.
            if !idle_time.is_zero() {
                shared.clients.close_idle(idle_time);
            }
            if !login_time.is_zero() {
                shared.clients.close_strangers(login_time);
            }
        }
    }
}
