//! What is counted of compactions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::number::Counter;

/// The running compaction and the last one.
#[derive(Debug, Default)]
pub struct CompactionStats {
    /// 1 while one is running.
    pub running: Counter,
    /// Those that succeeded.
    pub done: Counter,
    /// Those that did not.
    pub failed: Counter,
    /// 1 if the last one failed.
    pub last_failed: Counter,
    /// When the last one that succeeded has ended, in seconds of Unix time.
    pub last_done_at: Counter,
    /// How long the last one took, in milliseconds.
    pub last_millis: Counter,
    /// Bytes of the log before the last one that succeeded.
    pub bytes_before: Counter,
    /// Bytes of the snapshot that it made.
    pub bytes_after: Counter,
    /// Why the last one failed.
    error: Mutex<String>,
}

impl CompactionStats {
    /// Notes that one begins.
    pub fn begin(&self) {
        self.running.set(1);
    }

    /// Why the last one failed; nothing if it did not.
    pub fn error(&self) -> String {
        self.error.lock().clone()
    }

    /// Notes its end: the bytes before and after if it succeeded, otherwise the reason.
    pub fn end(&self, outcome: Result<(u64, u64), String>, elapsed: Duration) {
        self.last_millis.set(elapsed.as_millis() as u64);
        self.last_failed.set(u64::from(outcome.is_err()));
        *self.error.lock() = outcome.as_ref().err().cloned().unwrap_or_default();
        match outcome {
            Err(_) => self.failed.add(1),
            Ok((before, after)) => {
                self.done.add(1);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.last_done_at.set(now.as_secs());
                self.bytes_before.set(before);
                self.bytes_after.set(after);
            }
        }
        // Last, so that a thread that waits for it finds the rest.
        self.running.set(0);
    }
}
