//! Messages that clients can cause as often as they like: each kind is said once an [`INTERVAL`] at most, with the
//! number of those suppressed.

use std::time::{Duration, Instant};

use log::Level;

use crate::sync::Mutex;

/// The shortest time between two messages of a kind: short enough to see when their cause begins and ends.
const INTERVAL: Duration = Duration::from_secs(1);

/// One kind of message.
#[derive(Default)]
pub struct Seldom(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Seldom {
    /// Says `message`, or only counts it.
    pub fn say(&self, level: Level, message: impl FnOnce() -> String) {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            state.suppressed += 1;
            return;
        }
        state.last = Some(Instant::now());
        let suppressed = std::mem::take(&mut state.suppressed);
        drop(state);
        match suppressed {
            0 => log::log!(level, "{}", message()),
            more => log::log!(level, "{} (and {more} more like it before)", message()),
        }
    }
}
