//! Slows down whoever guesses passwords.
//!
//! Failed logins are counted for each address, so that a new connection for each guess does not help. After
//! [`FREE`] of them the next login from there is looked at only after a pause, which doubles with each failure
//! up to [`LONGEST_PAUSE`]; the pause is before the look, so that it cannot be escaped by leaving early either.
//! The client's own thread waits, nobody else does.
//!
//! A login with the right password is never refused, only late, and only from an address that fails: so
//! nobody is locked out. The record is bounded, and forgets an address that has been quiet.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::seldom::Seldom;
use crate::sync::Mutex;

/// Failures without a pause: a person's typing errors, a program that tries an old password first.
const FREE: u32 = 3;

/// The first pause: not felt by a person.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause. Clients give a connection a few seconds; one from an address from which somebody else
/// guesses must get in within them. (One client guesses once a second then; half a million times without.)
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An address without a failure for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Addresses that are kept; with more, the one that has been quiet longest is forgotten. (64 bytes each.)
const ADDRESSES: usize = 1024;

/// The failed logins of late.
#[derive(Default)]
pub struct Logins {
    failed: Mutex<HashMap<IpAddr, Failed>>,
    complaint: Seldom,
}

struct Failed {
    count: u32,
    last: Instant,
}

impl Logins {
    /// Whether a login succeeds: what `is_right` says, asked after the pause that the address has earned.
    /// `pause` waits, and says whether the client is still there.
    pub fn judge(
        &self,
        from: SocketAddr,
        is_right: impl FnOnce() -> bool,
        pause: impl FnOnce(Duration) -> bool,
    ) -> bool {
        let source = source_of(from.ip());
        let mut failed = self.failed.lock();
        let time = failed.get(&source).map_or(Duration::ZERO, Failed::pause);
        if !time.is_zero() {
            drop(failed);
            if !pause(time) {
                return false;
            }
            failed = self.failed.lock();
        }
        // Under the lock, or a thousand connections at once would all be judged as the first.
        if is_right() {
            return true;
        }
        note(&mut failed, source);
        drop(failed);
        let complain = || format!("{from}: a login failed, wrong password or user");
        self.complaint.say(log::Level::Warn, complain);
        false
    }
}

impl Failed {
    fn is_forgotten(&self) -> bool {
        self.last.elapsed() >= FORGOTTEN_AFTER
    }

    fn pause(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            Some(doublings) if !self.is_forgotten() => {
                (FIRST_PAUSE * (1 << doublings.min(10))).min(LONGEST_PAUSE)
            }
            _ => Duration::ZERO,
        }
    }
}

fn note(failed: &mut HashMap<IpAddr, Failed>, source: IpAddr) {
    if failed.len() >= ADDRESSES && !failed.contains_key(&source) {
        failed.retain(|_, failed| !failed.is_forgotten());
        if failed.len() >= ADDRESSES
            && let Some(&oldest) =
                failed.iter().min_by_key(|(_, failed)| failed.last).map(|(source, _)| source)
        {
            failed.remove(&oldest);
        }
    }
    let now = Instant::now();
    let entry = failed.entry(source).or_insert(Failed { count: 0, last: now });
    entry.count = if entry.is_forgotten() { 1 } else { entry.count.saturating_add(1) };
    entry.last = now;
}

/// Who has one IPv6 address has 2^64 of them (RFC 4291: a network has 64 bits for its hosts).
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u32) -> SocketAddr {
        SocketAddr::new(std::net::Ipv4Addr::from_bits(host).into(), 1)
    }

    /// Whether it succeeds, and after which pause.
    fn log_in(logins: &Logins, from: SocketAddr, right: bool) -> (bool, Duration) {
        let mut paused = Duration::ZERO;
        let succeeds = logins.judge(
            from,
            || right,
            |time| {
                paused = time;
                true
            },
        );
        (succeeds, paused)
    }

    #[test]
    fn pauses_grow_for_the_address_that_fails_and_for_no_other() {
        let logins = Logins::default();
        let pauses: Vec<_> = (0..12).map(|_| log_in(&logins, at(1), false).1.as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 50, 100, 200, 400, 800, 1000, 1000, 1000, 1000]);
        assert_eq!(log_in(&logins, at(1), true), (true, LONGEST_PAUSE), "late, and not refused");
        assert_eq!(log_in(&logins, at(2), true), (true, Duration::ZERO));
    }

    #[test]
    fn who_leaves_during_the_pause_learns_nothing() {
        let logins = Logins::default();
        (0..5).for_each(|_| assert!(!log_in(&logins, at(1), false).0));
        assert!(!logins.judge(at(1), || panic!("it is looked at"), |_| false));
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_a_few() {
        let logins = Logins::default();
        (0..5000).for_each(|host| assert!(!log_in(&logins, at(host), false).0));
        assert_eq!(logins.failed.lock().len(), ADDRESSES);
        let host =
            |low: u64| SocketAddr::new(Ipv6Addr::from_bits(7 << 64 | u128::from(low)).into(), 1);
        let pauses = (0..5).map(|low| log_in(&logins, host(low), false).1);
        assert!(pauses.last().expect("five") > Duration::ZERO, "one network is one guesser");
    }
}
