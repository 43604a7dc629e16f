//! Where the log was some time ago: up to which LSN it may be trimmed.
//!
//! A snapshot covers everything before a seal, and a node that reads the log a moment behind the leader would find what
//! comes next gone, and begin anew with the snapshot. So the log keeps its last seconds and megabytes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::log::Sealed;
use crate::sync::Mutex;

/// Entries stay in the log for this long, and for this many bytes after them.
const SLACK: Duration = Duration::from_secs(10);
const SLACK_BYTES: u64 = 16 << 20;

/// Places are remembered at this distance, and this many of them.
const MARK_BYTES: u64 = 1 << 20;
const MOST_MARKS: usize = 4096;

/// Where the log was at some times, to be trimmed up to there.
#[derive(Default)]
pub struct Marks(Mutex<VecDeque<(u64, u64, Instant)>>);

impl Marks {
    /// Notes that the next batch begins with this LSN, and how many bytes were logged before it.
    pub fn note(&self, next_lsn: u64, logged: u64) {
        let mut marks = self.0.lock();
        if marks.back().is_none_or(|(_, bytes, _)| logged >= bytes + MARK_BYTES) {
            marks.push_back((next_lsn, logged, Instant::now()));
        }
        if marks.len() > MOST_MARKS {
            marks.pop_front();
        }
    }

    /// The LSN before which entries may go, once a snapshot of all before `sealed` counts.
    pub fn last_before(&self, sealed: &Sealed) -> Option<u64> {
        let mut marks = self.0.lock();
        let may_go = |(lsn, logged, at): &(u64, u64, Instant)| {
            *lsn <= sealed.following.first_lsn
                && logged + SLACK_BYTES <= sealed.logged
                && at.elapsed() >= SLACK
        };
        let last = marks.iter().rposition(may_go)?;
        let (lsn, ..) = marks[last];
        marks.drain(..=last);
        Some(lsn)
    }
}
