//! Tells systemd how the server is, where systemd started it with `Type=notify`; otherwise nothing happens here.
//!
//! | when | what is told |
//! |------|--------------|
//! | the log is replayed and clients are accepted | ready |
//! | each third of `WatchdogSec`, as long as the committing thread goes on | alive |
//! | the log is closed for writing | why, in `systemctl status` |
//! | an ordered stop has begun | stopping |
//!
//! The watchdog is fed by way of the commit path: a disk that takes a write and never returns, or a lock that is never
//! given back, ends the process, and systemd starts it again. The reference is sd_notify(3).

use std::sync::{Arc, Weak};
use std::time::Duration;

use sd_notify::NotifyState::{Ready, Status, Stopping, Watchdog};
use sd_notify::{NotifyState, notify, watchdog_enabled};

use crate::engine::Engine;
use crate::sync::{spawn_vital, thread};
use crate::wal::Failure;

/// How many times a watchdog is fed while it waits once.
const FEEDS: u32 = 3;

/// How often the log is looked at if no watchdog waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Tells that clients are served, and begins to tell how the server goes on.
///
/// # Errors
/// If the thread for that cannot be started.
pub fn serving(engine: &Arc<Engine>) -> std::io::Result<()> {
    tell(&[Ready, Status("serving")]);
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let interval = watchdog_enabled().map_or(LOOK_INTERVAL, |time| time / FEEDS);
    let engine = Arc::downgrade(engine);
    spawn_vital("watchdog", move || feed(&engine, interval)).map(drop)
}

/// Tells that an ordered stop has begun.
pub fn stopping() {
    tell(&[Stopping, Status("stopping")]);
}

/// Feeds the watchdog until the engine is gone.
fn feed(engine: &Weak<Engine>, interval: Duration) {
    let mut told = None;
    loop {
        let Some(engine) = engine.upgrade() else { return };
        // Waits for the thread that commits. An engine that is closed, or keeps nothing, has none to wait for.
        engine.errand(|_| ());
        tell(&[Watchdog]);
        let failure = engine.health().failure().map(|Failure(why)| why.to_string());
        drop(engine);
        if failure != told {
            match &failure {
                Some(why) => tell(&[Status(&format!("closed for writing: {why}"))]),
                None => tell(&[Status("serving")]),
            }
            told = failure;
        }
        thread::sleep(interval);
    }
}

/// Nobody is served worse if systemd does not hear it, and it then says so itself.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        log::debug!("systemd cannot be told: {error}");
    }
}
