//! The clock of leases: time since the machine started, with the time that it slept.
//!
//! No clock of the day has a part in a lease, since those are set. CLOCK_MONOTONIC stands still while a machine
//! is suspended, and its leader would wake up with a lease that has long ended elsewhere. Only the rate of this
//! clock matters, never what it says on two machines.

use std::ops::Add;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A time on one machine's clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Time that has passed since `earlier`.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(nanos))
    }
}

/// Tells the time, and waits.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Moment;

    /// Returns after `time`.
    fn rest(&self, time: Duration);
}

/// The machine's own clock. A look at it is no system call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boottime;

impl Clock for Boottime {
    fn now(&self) -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let part =
            |part: i64| u64::try_from(part).expect("a machine does not start before it does");
        Moment(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
    }

    fn rest(&self, time: Duration) {
        thread::sleep(time);
    }
}
