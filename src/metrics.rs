//! What the server counts, and INFO, which shows it.
//!
//! Counters are relaxed atomics: each is right, two of them may be a moment apart. Nothing decides
//! anything by them.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

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
    /// Keys removed because they had expired.
    pub expired: Counter,
    /// Bytes read from clients.
    pub input_bytes: Counter,
    /// Bytes sent to clients.
    pub output_bytes: Counter,
    /// Microseconds that a batch took to be written and synced.
    pub commit_micros: Histogram,
    /// Records per batch.
    pub batch_records: Histogram,
    peak_memory: Counter,
    rate: Rate,
    run_id: u64,
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
            expired: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            peak_memory: Counter::default(),
            rate: Rate(Mutex::new((Instant::now(), 0, 0))),
            // A fresh RandomState is a random number, and it only has to differ from run to run.
            run_id: RandomState::new().hash_one(std::process::id()),
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

    /// The counters as INFO shows them, under the names that Redis's have, and our own with `wal_`.
    /// No sections, `all`, `everything` and `default` mean all of them.
    pub fn render(&self, sections: &[String], facts: &Facts) -> String {
        let all = ["all", "everything", "default"];
        let wanted = |title: &str| {
            let asked =
                |section: &String| all.contains(&&**section) || title.eq_ignore_ascii_case(section);
            sections.is_empty() || sections.iter().any(asked)
        };
        let mut text = String::new();
        let mut section = |title: &str, fields: &[(&str, &dyn std::fmt::Display)]| {
            if !wanted(title) {
                return;
            }
            let mut lines = format!("{}# {title}\r\n", if text.is_empty() { "" } else { "\r\n" });
            for (name, value) in fields {
                write!(lines, "{name}:{value}\r\n").expect("writing to memory cannot fail");
            }
            text.push_str(&lines);
        };
        let process = Process::look();
        let uptime = self.started.elapsed();
        let status = if facts.failure.is_some() { "err" } else { "ok" };
        section(
            "Server",
            &[
                ("redis_version", &facts.redis_version),
                ("server_name", &env!("CARGO_PKG_NAME")),
                ("server_version", &env!("CARGO_PKG_VERSION")),
                ("redis_mode", &"standalone"),
                ("os", &std::env::consts::OS),
                ("arch_bits", &usize::BITS),
                ("process_id", &std::process::id()),
                ("run_id", &format_args!("{:040x}", self.run_id)),
                ("tcp_port", &facts.port),
                ("uptime_in_seconds", &uptime.as_secs()),
                ("uptime_in_days", &(uptime.as_secs() / 86_400)),
                ("hz", &10),
            ],
        );
        section(
            "Clients",
            &[
                ("connected_clients", &self.connected_clients.get()),
                ("blocked_clients", &0),
                ("maxclients", &facts.max_clients),
            ],
        );
        self.peak_memory.raise(process.memory);
        section(
            "Memory",
            &[
                ("used_memory", &process.memory),
                ("used_memory_rss", &process.memory),
                ("used_memory_peak", &self.peak_memory.get()),
                ("maxmemory", &0),
                ("mem_allocator", &"libc"),
            ],
        );
        section(
            "Persistence",
            &[
                ("loading", &0),
                ("async_loading", &0),
                ("rdb_bgsave_in_progress", &0),
                ("aof_enabled", &1),
                ("aof_rewrite_in_progress", &0),
                ("aof_last_bgrewrite_status", &"ok"),
                ("aof_last_write_status", &status),
                ("aof_current_size", &self.log_bytes.get()),
                ("aof_base_size", &0),
                ("aof_pending_bio_fsync", &0),
                ("aof_delayed_fsync", &0),
                ("wal_status", &status),
                ("wal_failure", &facts.failure.as_deref().unwrap_or("")),
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
                ("total_connections_received", &self.total_connections.get()),
                ("total_commands_processed", &self.commands.get()),
                ("instantaneous_ops_per_sec", &self.rate.per_second(self.commands.get())),
                ("total_net_input_bytes", &self.input_bytes.get()),
                ("total_net_output_bytes", &self.output_bytes.get()),
                ("rejected_connections", &self.rejected_connections.get()),
                ("expired_keys", &self.expired.get()),
                ("evicted_keys", &0),
                ("keyspace_hits", &self.hits.get()),
                ("keyspace_misses", &self.misses.get()),
            ],
        );
        section(
            "Replication",
            &[("role", &"master"), ("connected_slaves", &0), ("master_repl_offset", &0)],
        );
        section(
            "CPU",
            &[
                ("used_cpu_sys", &format_args!("{:.2}", process.system_seconds)),
                ("used_cpu_user", &format_args!("{:.2}", process.user_seconds)),
            ],
        );
        section("Cluster", &[("cluster_enabled", &0)]);
        let database = format!("keys={},expires={},avg_ttl=0", facts.keys, facts.expiring);
        match facts.keys {
            0 => section("Keyspace", &[]),
            _ => section("Keyspace", &[("db0", &database)]),
        }
        text
    }
}

/// What INFO shows and others know.
pub struct Facts {
    /// The version of Redis whose commands are understood.
    pub redis_version: &'static str,
    /// The port.
    pub port: u16,
    /// Clients at the same time.
    pub max_clients: usize,
    /// Number of keys.
    pub keys: usize,
    /// Number of keys with an expiry.
    pub expiring: usize,
    /// Why the log takes no more writes.
    pub failure: Option<String>,
}

/// What the kernel says of this process.
#[derive(Default)]
struct Process {
    memory: u64,
    user_seconds: f64,
    system_seconds: f64,
}

impl Process {
    /// Zeros where there is no `/proc`.
    fn look() -> Process {
        // `/proc/self/stat` counts in hundredths of a second on every Linux, whatever its own clock.
        const TICKS_PER_SECOND: f64 = 100.0;
        let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        let status = read("/proc/self/status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|rest| rest.split_whitespace().next());
        let stat = read("/proc/self/stat");
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let seconds = |field: usize| {
            let ticks = fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok());
            ticks.unwrap_or_default() / TICKS_PER_SECOND
        };
        Process {
            memory: kibibytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024,
            user_seconds: seconds(11),
            system_seconds: seconds(12),
        }
    }
}

/// How fast a counter has grown since it was last looked at.
#[derive(Debug)]
struct Rate(Mutex<(Instant, u64, u64)>);

impl Rate {
    fn per_second(&self, count: u64) -> u64 {
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

    /// Replaces it by a larger value.
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
