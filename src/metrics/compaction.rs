//! What is counted of compactions.

use std::time::Duration;

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
    /// How long the last one took, in milliseconds.
    pub last_millis: Counter,
    /// Bytes of the log before the last one that succeeded.
    pub bytes_before: Counter,
    /// Bytes of the snapshot that it made.
    pub bytes_after: Counter,
}

impl CompactionStats {
    /// One begins.
    pub fn begin(&self) {
        self.running.set(1);
    }

    /// It has ended; with bytes before and after if it succeeded.
    pub fn end(&self, bytes: Option<(u64, u64)>, elapsed: Duration) {
        self.last_millis.set(elapsed.as_millis() as u64);
        self.last_failed.set(u64::from(bytes.is_none()));
        match bytes {
            None => self.failed.add(1),
            Some((before, after)) => {
                self.done.add(1);
                self.bytes_before.set(before);
                self.bytes_after.set(after);
            }
        }
        // Last, so that whoever waits for it finds the rest.
        self.running.set(0);
    }
}
