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

/// Whether the end of the log is kept although a snapshot covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slack {
    Kept,
    /// etcd is short of space. To forget old revisions it writes again whatever stays beside them in its file, so that
    /// slack costs its bytes twice; without any, a node that is a moment behind reads the snapshot.
    GivenUp,
}

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

    /// How many bytes were logged before this LSN, to a megabyte; `None` if that is not remembered.
    pub fn logged_before(&self, lsn: u64) -> Option<u64> {
        let marks = self.0.lock();
        marks.iter().rfind(|(at, ..)| *at <= lsn).map(|(_, logged, _)| *logged)
    }

    /// The LSN before which entries may go, once a snapshot of all before `sealed` counts.
    pub fn last_before(&self, sealed: &Sealed, slack: Slack) -> Option<u64> {
        let mut marks = self.0.lock();
        let is_old = |logged: u64, at: &Instant| {
            logged + SLACK_BYTES <= sealed.logged && at.elapsed() >= SLACK
        };
        let may_go = |(lsn, logged, at): &(u64, u64, Instant)| {
            *lsn <= sealed.following.first_lsn && (slack == Slack::GivenUp || is_old(*logged, at))
        };
        let last = marks.iter().rposition(may_go)?;
        let (lsn, ..) = marks[last];
        marks.drain(..=last);
        Some(lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::frame::SegmentHeader;

    /// A place of the log, noted this long ago.
    fn note(marks: &Marks, lsn: u64, logged: u64, ago: Duration) {
        let at = Instant::now().checked_sub(ago).expect("the machine has run for so long");
        marks.0.lock().push_back((lsn, logged, at));
    }

    fn sealed(first_lsn: u64, logged: u64) -> Sealed {
        let following = SegmentHeader {
            store_id: 0,
            sequence: 1,
            epoch: 1,
            first_lsn,
            previous_epoch: 0,
            previous_checksum: 0,
            file_bytes: 0,
        };
        Sealed { following, logged }
    }

    #[test]
    fn the_log_keeps_its_last_seconds_and_megabytes_and_all_after_the_seal() {
        let long = SLACK * 2;
        let marks = Marks::default();
        note(&marks, 10, 0, long);
        note(&marks, 20, 1 << 20, long);
        note(&marks, 30, 2 << 20, long);
        let at = |first_lsn, logged| marks.last_before(&sealed(first_lsn, logged), Slack::Kept);
        assert_eq!(at(99, SLACK_BYTES - 1), None, "its last megabytes");
        assert_eq!(at(9, 99 << 20), None, "it is after the seal");
        assert_eq!(at(99, (1 << 20) + SLACK_BYTES), Some(20));
        assert_eq!(at(99, (1 << 20) + SLACK_BYTES), None, "what may go is told once");
        note(&marks, 40, 3 << 20, Duration::ZERO);
        assert_eq!(at(99, 99 << 20), Some(30), "its last seconds");
        assert_eq!(at(99, 99 << 20), None);
    }

    #[test]
    fn bytes_before_an_lsn_are_those_of_the_last_place_before_it() {
        let marks = Marks::default();
        assert_eq!(marks.logged_before(5), None);
        marks.note(10, 7);
        marks.note(20, 8);
        marks.note(30, 7 + MARK_BYTES);
        assert_eq!(marks.logged_before(9), None);
        assert_eq!(marks.logged_before(29), Some(7), "a mark is a megabyte from the one before");
        assert_eq!(marks.logged_before(30), Some(7 + MARK_BYTES));
    }

    #[test]
    fn the_last_of_the_log_goes_only_if_etcd_is_short_of_space() {
        let marks = Marks::default();
        note(&marks, 100, 50 << 20, Duration::ZERO);
        let sealed = sealed(150, 51 << 20);
        assert_eq!(marks.last_before(&sealed, Slack::Kept), None);
        assert_eq!(marks.last_before(&sealed, Slack::GivenUp), Some(100));
        assert_eq!(marks.last_before(&sealed, Slack::GivenUp), None, "it is gone");
    }
}
