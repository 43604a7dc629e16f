//! Numbers that many threads count up: a counter, a histogram, the rate at which a counter grows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

/// How fast a counter has grown since it was last looked at.
#[derive(Debug)]
pub struct Rate(Mutex<(Instant, u64, u64)>);

impl Default for Rate {
    fn default() -> Rate {
        Rate(Mutex::new((Instant::now(), 0, 0)))
    }
}

impl Rate {
    /// Growth per second since the last look at least a second ago.
    pub fn per_second(&self, count: u64) -> u64 {
        let mut last = self.0.lock();
        let (at, before, rate) = *last;
        let elapsed = at.elapsed().as_secs_f64();
        if elapsed < 1.0 {
            return rate;
        }
        let rate = (count.saturating_sub(before) as f64 / elapsed) as u64;
        *last = (Instant::now(), count, rate);
        rate
    }
}

/// A number that many threads count up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Takes from it.
    pub fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    /// Sets it to `value` if that is larger.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Memory that is counted as long as it is held.
#[derive(Debug)]
pub struct Held<'a> {
    counter: &'a Counter,
    bytes: u64,
}

impl<'a> Held<'a> {
    /// Nothing yet; `counter` will count it.
    pub fn new(counter: &'a Counter) -> Held<'a> {
        Held { counter, bytes: 0 }
    }

    /// Notes how many bytes are held now.
    pub fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes as u64);
        if self.bytes != before {
            self.counter.add(self.bytes);
            self.counter.subtract(before);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// How often values of each size came: bucket `n` counts those below `2^n`, from `2^(n-1)` on.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; 64],
    largest: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; 64], largest: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&self, value: u64) {
        self.add_times(value, 1);
    }

    /// Counts a value this many times.
    pub fn add_times(&self, value: u64, times: u64) {
        let bucket = (u64::BITS - value.leading_zeros()).min(63) as usize;
        self.buckets[bucket].fetch_add(times, Relaxed);
        // Hardly ever larger, and a load is cheaper than an update.
        if value > self.largest.load(Relaxed) {
            self.largest.fetch_max(value, Relaxed);
        }
    }

    /// Counts all that another one has counted.
    pub fn add_all(&self, other: &Histogram) {
        for (sum, count) in self.buckets.iter().zip(other.buckets()) {
            sum.fetch_add(count, Relaxed);
        }
        self.largest.fetch_max(other.largest.load(Relaxed), Relaxed);
    }

    /// For values in nanoseconds: how many were less than each power of two of microseconds, up to the first that
    /// all are. (A power of two of nanoseconds is 2.4 per cent more.)
    pub fn micros(&self) -> Vec<(u64, u64)> {
        const MICROSECOND: usize = 10;
        let (mut seen, total, mut shown) = (0, self.count(), Vec::new());
        for (bucket, count) in self.buckets.iter().enumerate() {
            let before = seen;
            seen += count.load(Relaxed);
            if seen > 0 && bucket >= MICROSECOND && (seen > before || shown.is_empty()) {
                shown.push((1 << (bucket - MICROSECOND), seen.min(total)));
            }
        }
        shown
    }

    /// How many values each bucket has counted.
    pub fn buckets(&self) -> [u64; 64] {
        std::array::from_fn(|bucket| self.buckets[bucket].load(Relaxed))
    }

    /// Sets it to zero.
    pub fn reset(&self) {
        self.buckets.iter().chain([&self.largest]).for_each(|number| number.store(0, Relaxed));
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// A value that the given share of all values does not exceed, to within a factor of two.
    pub fn quantile(&self, share: f64) -> u64 {
        let counts = self.buckets();
        let rank = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return ((1 << bucket) - 1).min(self.largest.load(Relaxed));
            }
        }
        self.largest.load(Relaxed)
    }
}

impl std::fmt::Display for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99] = [0.5, 0.99].map(|share| self.quantile(share));
        write!(f, "p50={p50},p99={p99},max={}", self.largest.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_within_a_factor_of_two() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (0..1000).for_each(|value| histogram.add(value));
        assert!((499..998).contains(&histogram.quantile(0.5)));
        assert!((989..=999).contains(&histogram.quantile(0.99)));
        assert_eq!(histogram.quantile(1.0), 999);
    }
}
