//! Latencies in bounded memory, each known to within 1.6 percent.
//!
//! Log-linear: every power of two of nanoseconds is cut into [`PARTS`] equal buckets. A quantile is
//! answered by the upper edge of its bucket, so that no server looks faster than it was.

use std::time::Duration;

/// Buckets per power of two: 1/64 is the 1.6 percent, and all 64 bits of nanoseconds make 30 KB.
const PARTS: u64 = 1 << PARTS_BITS;
const PARTS_BITS: u32 = 6;

/// How long replies took.
pub struct Histogram {
    buckets: Vec<u64>,
    pub count: u64,
    pub longest: Duration,
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram { buckets: vec![0; bucket_of(u64::MAX) + 1], count: 0, longest: Duration::ZERO }
    }

    /// Adds `count` replies that took the same time.
    pub fn record(&mut self, latency: Duration, count: u64) {
        self.buckets[bucket_of(latency.as_nanos() as u64)] += count;
        self.count += count;
        self.longest = self.longest.max(latency);
    }

    /// The time within which this share of the replies came.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map_or(self.longest, |bucket| upper_edge(bucket).min(self.longest))
    }
}

/// Below [`PARTS`] a bucket for each nanosecond; above, the top bits of the time and their place.
fn bucket_of(nanos: u64) -> usize {
    let shift = (nanos | PARTS).ilog2() - PARTS_BITS;
    (u64::from(shift) * PARTS + (nanos >> shift)) as usize
}

fn upper_edge(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let shift = (bucket / PARTS).saturating_sub(1);
    let top_bits = bucket - shift * PARTS;
    Duration::from_nanos((top_bits << shift) + ((1 << shift) - 1))
}
