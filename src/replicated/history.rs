//! Whether what is read from etcd is the log that this node began with, as it went on.
//!
//! etcd can be restored from a backup, and another node can write on from there, up to the LSN that this node has and
//! beyond; or all keys are deleted, and a log begins anew under the same name. Comparing values of the head keeps two
//! leaders apart, and says nothing of this: to each head that a node reads, it is just another one. These give it away:
//!
//! | | |
//! |---|---|
//! | another store id | or none any more |
//! | one term, two processes | each term belongs to one |
//! | a later term, an earlier LSN | a leader goes on from where the one before it ended; so the first LSN, too |
//! | one LSN, two checksums | and one place of the log, two heads |
//! | a batch that names another one before it, or is not there and was not trimmed | |
//!
//! A node that notices neither leads nor follows any more, and says so. Its store holds what is in no log; a restart
//! begins with what is there.

use std::fmt;

use super::head::Head;

/// How it is told that this is not the log that this node began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Another {
    /// There is no head any more, nor a log.
    Gone,
    /// It has another store id, or none, which was there before.
    Store,
    /// It ends before what was there.
    Shorter,
    /// It went another way.
    Fork,
}

impl fmt::Display for Another {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Another::Gone => "the log with which this server began is gone from etcd: its keys were deleted",
            Another::Store => "another log has this name now: it has another store id than the log with which this server began",
            Another::Shorter => {
                "the log in etcd has gone back: etcd was restored from an older state, and writes that were acknowledged are gone"
            }
            Another::Fork => {
                "the log in etcd has gone another way than this server has read it: etcd was restored from an older state, \
                 and another server has written since; writes that were acknowledged are gone"
            }
        })?;
        out.write_str(". This server neither leads nor follows any more; restart it, and it begins with what is in etcd")
    }
}

/// Whether two heads cannot be of one log. The order in which they were read does not matter, since a member that lags
/// shows an earlier one.
pub fn compare(one: &Head, other: &Head) -> Result<(), Another> {
    if one == other {
        return Ok(());
    }
    let (earlier, later) = if other.is_before(one) { (other, one) } else { (one, other) };
    match (earlier.history, later.history) {
        (Some(earlier), Some(later)) if earlier.store != later.store => return Err(Another::Store),
        // None was written by a server of an older version, which could not have read the one before.
        (Some(_), None) => return Err(Another::Store),
        _ => {}
    }
    let is_one_process = earlier.term != later.term || earlier.process == later.process;
    let goes_on = earlier.lsn <= later.lsn && earlier.first_log_lsn <= later.first_log_lsn;
    // The order is by term, LSN and beat: two heads with the same are one.
    let is_one_place =
        !earlier.is_before(later) || (earlier.term == later.term && earlier.beat >= later.beat);
    match is_one_process && goes_on && !is_one_place && has_same_end(earlier, later) {
        true => Ok(()),
        false => Err(Another::Fork),
    }
}

fn has_same_end(earlier: &Head, later: &Head) -> bool {
    match (earlier.history, later.history) {
        (Some(earlier_end), Some(later_end)) if earlier.lsn == later.lsn => {
            earlier_end.checksum == later_end.checksum
        }
        _ => true,
    }
}

/// Whether a node whose store ends with this LSN and this checksum can have read the log of this head.
pub fn compare_end(head: &Head, lsn: u64, checksum: u32) -> Result<(), Another> {
    match head.history {
        Some(history) if head.lsn == lsn && history.checksum != checksum => Err(Another::Fork),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{History, Node};
    use super::*;

    fn node(id: &str) -> Node {
        Node::new(id, "h:1").expect("a node")
    }

    #[test]
    fn heads_of_one_log_are_never_taken_for_those_of_another_in_whatever_order_they_are_read() {
        let first = Head::first(node("n1"), 1, 9);
        let five = first.appended(5, 0xa, 1);
        let trimmed = five.trimmed(3, 2);
        let taken = trimmed.taken_over(node("n2"), 2, 1);
        let old = Head { history: None, ..five.clone() };
        let upgraded =
            old.taken_over(node("n2"), 2, 1).upgraded(History { store: 9, checksum: 0xa });
        let more = upgraded.appended(6, 0xb, 2);
        let freed = taken.appended(9, 0xc, 2).freed(3);
        for log in [vec![first, five, trimmed, taken, freed], vec![old, upgraded, more]] {
            for one in &log {
                for other in &log {
                    assert_eq!(compare(one, other), Ok(()), "{one} and {other}");
                }
            }
        }
    }

    #[test]
    fn heads_of_two_logs_are_told_apart_by_whatever_cannot_be_in_one() {
        let head = Head::first(node("n1"), 1, 9).appended(5, 0xa, 1).trimmed(3, 2);
        let taken = head.taken_over(node("n2"), 2, 1);
        let history = |store, checksum| Some(History { store, checksum });
        let cases = [
            ("another id", Head { history: history(8, 0xa), ..taken.clone() }, Another::Store),
            ("no id any more", Head { history: None, ..taken.clone() }, Another::Store),
            (
                "the term of another process",
                Head { process: 3, lsn: 6, beat: 3, ..head.clone() },
                Another::Fork,
            ),
            ("an earlier LSN", Head { lsn: 4, ..taken.clone() }, Another::Fork),
            ("an earlier first LSN", Head { first_log_lsn: 2, ..taken.clone() }, Another::Fork),
            ("another checksum", Head { history: history(9, 0xb), ..taken.clone() }, Another::Fork),
            (
                "another one with this beat",
                Head { history: history(9, 0xb), lsn: 6, ..head.clone() },
                Another::Fork,
            ),
            ("another one in its place", Head { first_log_lsn: 4, ..head.clone() }, Another::Fork),
        ];
        for (what, other, told) in cases {
            assert_eq!(compare(&head, &other), Err(told), "{what}");
            assert_eq!(compare(&other, &head), Err(told), "{what}, the other way round");
        }
    }

    #[test]
    fn the_end_of_a_store_is_compared_with_a_head_of_its_lsn() {
        let head = Head::first(node("n1"), 1, 9).appended(5, 0xa, 1);
        assert_eq!(compare_end(&head, 5, 0xa), Ok(()));
        assert_eq!(compare_end(&head, 5, 0xb), Err(Another::Fork));
        assert_eq!(compare_end(&head, 4, 0xb), Ok(()), "what comes next tells");
        assert_eq!(compare_end(&Head { history: None, ..head }, 5, 0xb), Ok(()));
    }
}
