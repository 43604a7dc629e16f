//! What the server counts, and INFO, which shows it.
//!
//! Counters are relaxed atomics: each is right, two of them may be a moment apart. Nothing decides
//! anything by them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// All counters of a server.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    /// Clients there are.
    pub connected_clients: Counter,
    /// Clients there were, with those.
    pub total_connections: Counter,
    /// Connections turned away for their number.
    pub rejected_connections: Counter,
    /// Commands answered.
    pub commands: Counter,
    /// Reads that found their key.
    pub hits: Counter,
    /// Reads that did not.
    pub misses: Counter,
    /// Batches written to the log.
    pub batches: Counter,
    /// Records in them.
    pub records: Counter,
    /// Bytes in them, padding too.
    pub log_bytes: Counter,
    /// Times the log was synced for a client.
    pub syncs: Counter,
    /// The last LSN on disk.
    pub durable_lsn: Counter,
    /// Microseconds that a batch took to be written and synced.
    pub commit_micros: Histogram,
    /// Records per batch.
    pub batch_records: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            started: Instant::now(),
            connected_clients: Counter::default(),
            total_connections: Counter::default(),
            rejected_connections: Counter::default(),
            commands: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            batches: Counter::default(),
            records: Counter::default(),
            log_bytes: Counter::default(),
            syncs: Counter::default(),
            durable_lsn: Counter::default(),
            commit_micros: Histogram::default(),
            batch_records: Histogram::default(),
        }
    }
}

impl Metrics {
    /// Counts a batch that was written, and synced if `synced`.
    pub fn count_batch(&self, records: u32, bytes: u64, elapsed: Duration, synced: bool) {
        self.batches.add(1);
        self.records.add(u64::from(records));
        self.log_bytes.add(bytes);
        self.syncs.add(u64::from(synced));
        self.commit_micros.add(elapsed.as_micros() as u64);
        self.batch_records.add(u64::from(records));
    }

    /// The counters as INFO shows them. `keys` are those in the store; `failure` is why the log
    /// takes no more writes, if so.
    pub fn render(&self, keys: usize, failure: Option<&str>) -> String {
        let mut text = String::new();
        let mut section = |title: &str, fields: &[(&str, &dyn std::fmt::Display)]| {
            let mut lines = format!("{}# {title}\r\n", if text.is_empty() { "" } else { "\r\n" });
            for (name, value) in fields {
                write!(lines, "{name}:{value}\r\n").expect("writing to memory cannot fail");
            }
            text.push_str(&lines);
        };
        section(
            "Server",
            &[
                ("server_name", &env!("CARGO_PKG_NAME")),
                ("server_version", &env!("CARGO_PKG_VERSION")),
                ("process_id", &std::process::id()),
                ("uptime_in_seconds", &self.started.elapsed().as_secs()),
            ],
        );
        section(
            "Clients",
            &[
                ("connected_clients", &self.connected_clients.get()),
                ("total_connections_received", &self.total_connections.get()),
                ("rejected_connections", &self.rejected_connections.get()),
            ],
        );
        section(
            "Persistence",
            &[
                ("wal_status", &if failure.is_some() { "err" } else { "ok" }),
                ("wal_failure", &failure.unwrap_or("")),
                ("wal_batches", &self.batches.get()),
                ("wal_records", &self.records.get()),
                ("wal_bytes", &self.log_bytes.get()),
                ("wal_syncs", &self.syncs.get()),
                ("wal_durable_lsn", &self.durable_lsn.get()),
                ("wal_commit_usec", &self.commit_micros),
                ("wal_batch_records", &self.batch_records),
            ],
        );
        section(
            "Stats",
            &[
                ("total_commands_processed", &self.commands.get()),
                ("keyspace_hits", &self.hits.get()),
                ("keyspace_misses", &self.misses.get()),
            ],
        );
        section("Keyspace", &[("keys", &keys)]);
        text
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

    /// Replaces it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
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
        let bucket = (u64::BITS - value.leading_zeros()).min(63) as usize;
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.largest.fetch_max(value, Relaxed);
    }

    /// A value that the given share of all values does not exceed, to within a factor of two.
    pub fn quantile(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
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
