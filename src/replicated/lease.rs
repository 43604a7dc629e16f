//! The leader's lease: until when it may show what it has.
//!
//! No timer of etcd is in it. The leader's last change of the head was sent at some time; another node that
//! sees this head waits for a whole TTL before it tries to replace it, and can only have seen it after it was
//! sent. So up to 0.9 TTL after it was *sent* no other node leads. The tenth that is missing allows for clocks
//! that run at different rates.
//!
//! The lease is asked for *after* a value was read: a process that is stopped between the question and the read
//! would show what another leader has changed since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::{Clock, Moment};

/// Of ten parts of the TTL, those that the leader itself counts on.
const TENTHS: u32 = 9;

/// The lease of this process. One thread extends and ends it, all others ask.
///
/// - It never extends beyond 0.9 TTL after some successful change of the head was sent.
/// - It is ended before a head is sent that says `free`.
#[derive(Debug)]
pub struct Lease {
    ttl: Duration,
    /// 0 if this process does not lead.
    until: AtomicU64,
    term: AtomicU64,
}

impl Lease {
    /// No lease yet.
    pub fn new(ttl: Duration) -> Lease {
        assert!(!ttl.is_zero(), "a lease lasts");
        Lease { ttl, until: AtomicU64::new(0), term: AtomicU64::new(0) }
    }

    /// The time for which a head is respected by others.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// This process took over in `term`, by a change that was sent at `sent`, and the store holds everything
    /// that is in the log.
    pub fn begin(&self, term: u64, sent: Moment) {
        let before = self.term.swap(term, Ordering::SeqCst);
        assert!(before < term, "a term is won once");
        assert_eq!(self.until.load(Ordering::SeqCst), 0, "the lease of the term before was ended");
        self.extend(sent);
    }

    /// A change of the head that was sent at `sent` succeeded. It never shortens the lease: a change whose
    /// outcome was unknown for a while may be settled late.
    pub fn extend(&self, sent: Moment) {
        let until = sent + self.ttl * TENTHS / 10;
        self.until.fetch_max(until.0, Ordering::SeqCst);
    }

    /// This process leads no more, or is about to say so.
    pub fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// The term in which what was read a moment ago may be shown.
    pub fn term(&self, clock: &impl Clock) -> Option<u64> {
        // First the end, then the clock: a lease that is extended in between was not over.
        let until = self.until.load(Ordering::SeqCst);
        (clock.now().0 < until).then(|| self.term.load(Ordering::SeqCst))
    }

    /// Whether what was read a moment ago may be shown.
    pub fn may_show(&self, clock: &impl Clock) -> bool {
        self.term(clock).is_some()
    }

    /// How long it lasts from now on, for INFO and for the time of the next renewal.
    pub fn rest(&self, clock: &impl Clock) -> Duration {
        Moment(self.until.load(Ordering::SeqCst)).since(clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Boottime;
    use super::super::scripted::Hands;
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn a_lease_lasts_nine_tenths_from_the_time_of_sending() {
        let (lease, clock) = (Lease::new(TTL), Hands::at(Duration::from_secs(100)));
        assert!(!lease.may_show(&clock));
        let sent = clock.now();
        clock.rest(Duration::from_secs(4));
        lease.begin(1, sent);
        assert_eq!(lease.term(&clock), Some(1));
        assert_eq!(lease.rest(&clock), Duration::from_secs(5));
        clock.rest(Duration::from_millis(4_999));
        assert!(lease.may_show(&clock));
        clock.rest(Duration::from_millis(1));
        assert!(!lease.may_show(&clock));
    }

    #[test]
    fn a_change_that_is_settled_late_does_not_shorten_the_lease() {
        let (lease, clock) = (Lease::new(TTL), Hands::at(Duration::from_secs(100)));
        let early = clock.now();
        clock.rest(Duration::from_secs(5));
        lease.begin(1, clock.now());
        lease.extend(early);
        assert_eq!(lease.rest(&clock), Duration::from_secs(9));
        lease.end();
        assert!(!lease.may_show(&clock));
        assert_eq!(lease.rest(&clock), Duration::ZERO);
    }

    #[test]
    fn the_clock_of_leases_goes_on() {
        let (first, second) = (Boottime.now(), Boottime.now());
        assert!(first.0 > 0 && second >= first);
    }
}
