//! Numbers that every client's thread counts up at every request.
//!
//! One number for all would go from processor to processor with each request: some 50 ns on two processors, and more
//! with each further one. So there is a part for each processor, on cache lines of its own, and a reader adds
//! the parts up.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::thread::sched_getcpu;

use super::number::{Counter, Histogram};

/// The most parts: processors beyond this share them.
const MOST_PARTS: usize = 64;

/// Parts of something, one for each processor; made when they are first needed.
#[derive(Debug)]
struct Spread<T>(OnceLock<Box<[Part<T>]>>);

/// On cache lines of its own. Processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part<T>(T);

impl<T> Default for Spread<T> {
    fn default() -> Spread<T> {
        Spread(OnceLock::new())
    }
}

impl<T: Default> Spread<T> {
    /// The part of the processor that the calling thread runs on. It may be on another one a moment later, so
    /// a part is still counted up by several threads.
    fn here(&self) -> &T {
        let parts = self.0.get_or_init(|| {
            let processors = available_parallelism().map_or(1, NonZero::get);
            let parts = processors.next_power_of_two().min(MOST_PARTS);
            (0..parts).map(|_| Part::default()).collect()
        });
        &parts[sched_getcpu() & (parts.len() - 1)].0
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.0.get().into_iter().flatten().map(|Part(part)| part)
    }
}

/// A [`Counter`] in parts.
#[derive(Debug, Default)]
pub struct SpreadCounter(Spread<Counter>);

impl SpreadCounter {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.here().add(more);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.all().map(Counter::get).fold(0, u64::wrapping_add)
    }

    /// Sets it to zero. An addition in the same moment may be lost.
    pub fn reset(&self) {
        self.0.all().for_each(|part| part.set(0));
    }
}

/// How long the calls of a command took, in parts.
#[derive(Debug, Default)]
pub struct CallTimes(Spread<Times>);

#[derive(Debug, Default)]
struct Times {
    nanos: Histogram,
    total: Counter,
}

impl CallTimes {
    /// Counts calls that took this long together.
    pub fn add(&self, calls: u64, together: Duration) {
        let total = together.as_nanos() as u64;
        if let Some(each) = total.checked_div(calls) {
            let Times { nanos, total: sum } = self.0.here();
            nanos.add_times(each, calls);
            sum.add(total);
        }
    }

    /// The nanoseconds of each call, as of now.
    pub fn nanos(&self) -> Histogram {
        let sum = Histogram::default();
        self.0.all().for_each(|part| sum.add_all(&part.nanos));
        sum
    }

    /// The number of calls.
    pub fn calls(&self) -> u64 {
        self.0.all().map(|part| part.nanos.count()).sum()
    }

    /// The nanoseconds of all calls together.
    pub fn total_nanos(&self) -> u64 {
        self.0.all().map(|part| part.total.get()).fold(0, u64::wrapping_add)
    }

    /// Sets all to zero.
    pub fn reset(&self) {
        for Times { nanos, total } in self.0.all() {
            nanos.reset();
            total.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_on_all_processors_adds_up() {
        const THREADS: u64 = 8;
        const ROUNDS: u64 = 10_000;
        let (counter, times) = (SpreadCounter::default(), CallTimes::default());
        assert_eq!((counter.get(), times.calls()), (0, 0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        counter.add(round % 3);
                        times.add(2, Duration::from_nanos(2 * round));
                    }
                });
            }
        });
        let sum = |of: fn(u64) -> u64| THREADS * (0..ROUNDS).map(of).sum::<u64>();
        assert_eq!(counter.get(), sum(|round| round % 3));
        assert_eq!(times.calls(), sum(|_| 2));
        assert_eq!(times.total_nanos(), sum(|round| 2 * round));
        assert_eq!(times.nanos().quantile(1.0), ROUNDS - 1);
        counter.reset();
        times.reset();
        assert_eq!((counter.get(), times.calls(), times.total_nanos()), (0, 0, 0));
    }

    #[test]
    fn calls_that_were_none_took_no_time() {
        let times = CallTimes::default();
        times.add(0, Duration::from_secs(1));
        assert_eq!((times.calls(), times.total_nanos()), (0, 0));
    }
}
