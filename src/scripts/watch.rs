//! How long the running script has run, and its end by others: a client's SCRIPT KILL, the server's own limit, or
//! the order to stop.
//!
//! Lua asks now and then whether the script may go on, at the pace of `pace`, and so do functions that may work for long.
//! Other threads only set flags and read them; none of them ever waits for a script.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::command::Text;
use crate::sync::Mutex;

/// A script is ended after this time, whatever it does: all writers wait for it, and the clients of most libraries
/// have given up long before.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// When the server stops, a script has this time to end by itself.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// Why a script has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A client asked for it.
    Killed,
    /// It has run for [`LONGEST_RUN`].
    TooLong,
    /// The server stops.
    Stopped,
}

impl End {
    /// The error that its client gets.
    pub fn text(self) -> &'static str {
        match self {
            End::Killed => "ERR Script killed by user with SCRIPT KILL...",
            End::TooLong => "ERR the script ran for a minute and was ended; nothing was changed",
            End::Stopped => "ERR the server stops and has ended the script; nothing was changed",
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Watch {
    /// When the running script began.
    began: Mutex<Option<Instant>>,
    /// Milliseconds after which clients are told; 0 is never.
    busy_after: AtomicU64,
    busy: AtomicBool,
    killed: AtomicBool,
    /// The server stops.
    pub stops: AtomicBool,
}

impl Watch {
    /// No script runs. Clients are told after this time.
    pub fn new(busy_after: Duration) -> Watch {
        let busy_after = AtomicU64::new(busy_after.as_millis() as u64);
        let flag = || AtomicBool::new(false);
        let (busy, killed, stops) = (flag(), flag(), flag());
        Watch { began: Mutex::new(None), busy_after, busy, killed, stops }
    }

    /// A script begins.
    pub fn begin(&self) {
        *self.began.lock() = Some(Instant::now());
        self.killed.store(false, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn end(&self) {
        let began = self.began.lock().take();
        debug_assert!(began.is_some(), "a script ends after it began");
        self.busy.store(false, Ordering::Relaxed);
    }

    /// Whether the running script has to end; tells the clients when it takes long.
    pub fn look(&self) -> Option<End> {
        let elapsed = self.began.lock().map_or(Duration::ZERO, |began| began.elapsed());
        let busy_after = self.busy_after();
        if !busy_after.is_zero() && elapsed >= busy_after && !self.is_busy() {
            self.busy.store(true, Ordering::Relaxed);
            log::warn!("a script has been running for {elapsed:.0?}; SCRIPT KILL ends it");
        }
        match () {
            () if self.killed.load(Ordering::Relaxed) => Some(End::Killed),
            () if elapsed >= LONGEST_RUN => Some(End::TooLong),
            () if elapsed >= STOP_PATIENCE && self.stops.load(Ordering::Relaxed) => {
                Some(End::Stopped)
            }
            () => None,
        }
    }

    /// After this time clients are told; zero is never.
    pub fn busy_after(&self) -> Duration {
        Duration::from_millis(self.busy_after.load(Ordering::Relaxed))
    }

    /// Sets it, also for a script that is running.
    pub fn set_busy_after(&self, millis: u64) {
        self.busy_after.store(millis, Ordering::Relaxed);
    }

    /// Whether clients are told.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Has the running script end soon.
    pub fn kill(&self) -> Result<(), Text> {
        let began = self.began.lock();
        if began.is_none() {
            return Err("NOTBUSY No scripts in execution right now.".into());
        }
        // Under the lock, so that it does not hit the next script.
        self.killed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
