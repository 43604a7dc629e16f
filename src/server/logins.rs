//! Slows down the guessing of passwords.
//!
//! Failed logins are counted for each address, so that a new connection for each guess does not help. After
//! [`FREE`] of them the next login from there is checked only after a pause, which doubles with each failure
//! up to [`LONGEST_PAUSE`]; the pause comes before the check, so that hanging up early does not avoid it.
//! Only the client's own thread waits. The logins of such an address take turns, a pause apart: a hundred
//! connections guess no faster than one.
//!
//! A login whose turn is further off than [`LONGEST_WAIT`] is not checked, and told to try again. So a right
//! password from an address from which many guess at once may need several tries, and has the same chance as
//! each guess; wrong passwords lock no client out, and other addresses notice nothing. The record is bounded, and
//! forgets an address that has been quiet.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::refused::Refused;
use super::seldom::Seldom;
use crate::doors::Address;
use crate::sync::Mutex;

/// Failures without a pause: a person may mistype, and a program may try an old password first.
const FREE: u32 = 3;

/// The first pause: too short for a person to notice.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause. Clients give a connection a few seconds, in which a login must succeed even if another client
/// of its address guesses. (An address then has one guess a second; without pauses, half a million.)
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest wait for a turn: as long as clients give a connection.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An address is forgotten after this long without a failure.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The most addresses that are kept; the one that has been quiet longest is forgotten first. (64 bytes each.)
const ADDRESSES: usize = 1024;

/// The recent failures, by address.
#[derive(Default)]
pub struct Logins {
    failed: Mutex<HashMap<Source, Failed>>,
    complaint: Seldom,
    /// Those that were refused, for ACL LOG.
    pub refused: Refused,
}

/// Where logins come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// An address; of IPv6 a network.
    Net(IpAddr),
    /// This machine, by the Unix socket.
    Machine,
}

struct Failed {
    count: u32,
    last: Instant,
    /// The last turn that was given away.
    turn: Instant,
}

/// The result of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeds.
    Right,
    /// Its password or user is wrong, or the client has gone.
    Wrong,
    /// Too many logins from its address wait for their turns.
    NotLookedAt,
}

impl Logins {
    /// Decides a login by `is_right`, called when it has its turn. `pause` waits, and returns whether the
    /// client is still there.
    pub fn judge(
        &self,
        from: &Address,
        is_right: impl FnOnce() -> bool,
        pause: impl FnOnce(Duration) -> bool,
    ) -> Verdict {
        let source = source_of(from);
        let mut failed = self.failed.lock();
        let wait = failed.get_mut(&source).map_or(Some(Duration::ZERO), Failed::take_turn);
        let Some(wait) = wait else {
            drop(failed);
            pause(LONGEST_PAUSE);
            return Verdict::NotLookedAt;
        };
        if !wait.is_zero() {
            drop(failed);
            if !pause(wait) {
                return Verdict::Wrong;
            }
            failed = self.failed.lock();
        }
        // Under the lock; otherwise a thousand connections at once would each be judged as the first.
        if is_right() {
            return Verdict::Right;
        }
        note(&mut failed, source);
        drop(failed);
        let complain = || format!("{from}: a login failed, wrong password or user");
        self.complaint.say(log::Level::Warn, complain);
        Verdict::Wrong
    }
}

impl Failed {
    fn is_forgotten(&self) -> bool {
        self.last.elapsed() >= FORGOTTEN_AFTER
    }

    /// Gives the next turn away. Returns how long to wait for it; `None`, and no turn, if that is too long.
    fn take_turn(&mut self) -> Option<Duration> {
        let pause = self.pause();
        if pause.is_zero() {
            return Some(pause);
        }
        let now = Instant::now();
        let turn = self.turn.max(now) + pause;
        let wait = turn - now;
        (wait <= LONGEST_WAIT).then(|| {
            self.turn = turn;
            wait
        })
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

fn note(failed: &mut HashMap<Source, Failed>, source: Source) {
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
    let entry = failed.entry(source).or_insert(Failed { count: 0, last: now, turn: now });
    entry.count = if entry.is_forgotten() { 1 } else { entry.count.saturating_add(1) };
    entry.last = now;
}

/// Of an IPv6 address, its network: the owner has all of its 2^64 addresses (RFC 4291).
fn source_of(address: &Address) -> Source {
    let Address::Net(address) = address else { return Source::Machine };
    Source::Net(match address.ip().to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 => v4,
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn at(host: u32) -> Address {
        Address::Net(SocketAddr::new(std::net::Ipv4Addr::from_bits(host).into(), 1))
    }

    /// The verdict, and the pause before it.
    fn log_in(logins: &Logins, from: Address, right: bool) -> (Verdict, Duration) {
        let mut paused = Duration::ZERO;
        let succeeds = logins.judge(
            &from,
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
        let pauses = [0, 0, 0, 50, 100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
        let mut turns = Duration::ZERO;
        let began = Instant::now();
        for pause in pauses {
            let (verdict, waited) = log_in(&logins, at(1), false);
            turns += pause;
            // The pause is not waited for here, so each adds to the one before.
            let passed = began.elapsed();
            assert!(waited <= turns && waited + passed >= turns, "{waited:?} {turns:?} {passed:?}");
            assert_eq!(verdict, Verdict::Wrong);
        }
        let (verdict, waited) = log_in(&logins, at(1), true);
        assert_eq!(verdict, Verdict::Right, "late, and not refused");
        assert!(waited > LONGEST_PAUSE && waited <= LONGEST_WAIT, "{waited:?}");
        let crowd = || (0..3).map(|_| log_in(&logins, at(1), true).0);
        assert!(crowd().any(|verdict| verdict == Verdict::NotLookedAt), "too many wait");
        assert_eq!(log_in(&logins, at(2), true), (Verdict::Right, Duration::ZERO));
    }

    #[test]
    fn a_client_that_leaves_during_the_pause_learns_nothing() {
        let logins = Logins::default();
        (0..5).for_each(|_| assert_eq!(log_in(&logins, at(1), false).0, Verdict::Wrong));
        let verdict = logins.judge(&at(1), || panic!("it is looked at"), |_| false);
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_a_few() {
        let logins = Logins::default();
        (0..5000).for_each(|host| assert_eq!(log_in(&logins, at(host), false).0, Verdict::Wrong));
        assert_eq!(logins.failed.lock().len(), ADDRESSES);
        let host = |low: u64| {
            let address = Ipv6Addr::from_bits(7 << 64 | u128::from(low));
            Address::Net(SocketAddr::new(address.into(), 1))
        };
        let pauses = (0..5).map(|low| log_in(&logins, host(low), false).1);
        assert!(pauses.last().expect("five") > Duration::ZERO, "one network is one guesser");
    }
}
