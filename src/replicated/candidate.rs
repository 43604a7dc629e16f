//! What another node sees of the leader: when it may try to replace it.
//!
//! It polls the head, and keeps the time at which it first saw the value that it last saw. If that is a TTL ago,
//! the leader's lease is over, since it ran from when that value was *sent*. Whether something newer was written
//! meanwhile it need not know: then the decision by which it takes over finds another head than it expects, and
//! does nothing.

use std::time::Duration;

use super::clock::Moment;
use super::head::{Head, Tenure};
use super::history::{self, Another};

/// The greatest delay of a node after the TTL, so that not all of them try at once.
const MOST_JITTER: u64 = 300;
/// After so many TTLs without a leader a node may stand that has not read the whole log: perhaps there is none
/// that has, and it reads the rest after it took over.
const ANYBODY_AFTER: u32 = 5;

/// One node's observation of the head.
///
/// - It never goes back: a member that lags may show a head that is older than the one seen before.
#[derive(Debug)]
pub struct Candidate {
    ttl: Duration,
    jitter: Duration,
    seen: Option<(Head, Moment)>,
}

/// What a look at the head has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A value that was not seen before.
    New,
    /// The one that was last seen.
    Same,
    /// An older one: the member that answered lags.
    Older,
    /// One that is not of the log that was seen before.
    Foreign(Another),
}

impl Candidate {
    /// A node that has seen nothing yet.
    pub fn new(ttl: Duration, node_id: &str) -> Candidate {
        let spread = u64::from(crc32c::crc32c(node_id.as_bytes())) % (MOST_JITTER + 1);
        Candidate { ttl, jitter: Duration::from_millis(spread), seen: None }
    }

    /// Takes note of a head that was read, with the time *after* that. Only a new one starts the wait anew.
    pub fn see(&mut self, head: Head, now: Moment) -> Seen {
        let told = match &self.seen {
            None => Seen::New,
            Some((seen, _)) => match history::compare(seen, &head) {
                Err(another) => Seen::Foreign(another),
                Ok(()) if *seen == head => Seen::Same,
                Ok(()) if head.is_before(seen) => Seen::Older,
                Ok(()) => Seen::New,
            },
        };
        if told == Seen::New {
            self.seen = Some((head, now));
        }
        told
    }

    /// The head that was last seen, which a decision to take over expects.
    pub fn head(&self) -> Option<&Head> {
        self.seen.as_ref().map(|(head, _)| head)
    }

    /// Whether a node that has read the log up to `lsn` may try to take over.
    pub fn may_stand(&self, lsn: u64, now: Moment) -> bool {
        let Some((head, first)) = &self.seen else { return false };
        let waited = now.since(*first);
        let is_vacant = head.tenure == Tenure::Free || waited >= self.ttl + self.jitter;
        let has_all = lsn >= head.lsn;
        is_vacant && (has_all || waited >= self.ttl * ANYBODY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::Node;
    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    fn first() -> Head {
        Head::first(Node::new("n1", "h1:1").unwrap(), 7, 9)
    }

    fn at(millis: u64) -> Moment {
        Moment(0) + Duration::from_millis(1_000_000 + millis)
    }

    fn watching() -> Candidate {
        Candidate { ttl: TTL, jitter: Duration::from_millis(100), seen: None }
    }

    #[test]
    fn a_node_stands_after_the_same_head_was_there_for_a_ttl_since_it_first_saw_it() {
        let mut node = watching();
        assert!(!node.may_stand(99, at(0)), "it has seen nothing");
        assert_eq!(node.see(first(), at(0)), Seen::New);
        assert_eq!(node.see(first(), at(2000)), Seen::Same);
        assert!(!node.may_stand(0, at(3099)) && node.may_stand(0, at(3100)));
        assert_eq!(node.see(first().renewed(1), at(3100)), Seen::New);
        assert!(!node.may_stand(0, at(6199)) && node.may_stand(0, at(6200)));
        let most = Duration::from_millis(MOST_JITTER);
        assert!((0..99).all(|n| Candidate::new(TTL, &format!("n{n}")).jitter <= most));
    }

    #[test]
    fn an_older_head_of_a_member_that_lags_is_not_taken_for_the_leaders() {
        let mut node = watching();
        let (old, new) = (first(), first().appended(5, 8, 1));
        node.see(new.clone(), at(0));
        assert_eq!(node.see(old.clone(), at(10)), Seen::Older);
        assert_eq!(node.head(), Some(&new));
        assert_eq!(node.see(new.clone(), at(20)), Seen::Same);
        assert!(node.may_stand(5, at(3100)), "the older one has not started the wait anew");
        let taken = new.taken_over(Node::new("n2", "h2:1").unwrap(), 8, 0);
        assert_eq!(node.see(taken, at(3200)), Seen::New);
        assert_eq!(node.see(new.renewed(9), at(3300)), Seen::Older);
    }

    #[test]
    fn a_head_that_was_given_back_is_taken_at_once() {
        let mut node = watching();
        node.see(first().freed(1), at(0));
        assert!(node.may_stand(0, at(0)));
    }

    #[test]
    fn only_a_node_that_has_the_whole_log_stands_unless_nobody_does_for_long() {
        let mut node = watching();
        node.see(first().appended(5, 8, 1), at(0));
        assert!(!node.may_stand(4, at(14_999)) && node.may_stand(4, at(15_000)));
        let mut node = watching();
        node.see(first().appended(5, 8, 1).freed(2), at(0));
        assert!(!node.may_stand(4, at(14_999)) && node.may_stand(4, at(15_000)));
    }

    #[test]
    fn a_head_of_another_log_is_not_taken_for_a_later_one() {
        let mut node = watching();
        node.see(first().appended(5, 8, 1), at(0));
        let other = Head::first(Node::new("n2", "h2:1").unwrap(), 8, 10).appended(7, 8, 2);
        assert_eq!(node.see(other, at(1)), Seen::Foreign(Another::Store));
        assert_eq!(node.head(), Some(&first().appended(5, 8, 1)), "it is not noted");
    }
}
