//! INFO: the counters under the names that Redis's have, so that dashboards find them, and our own
//! with `wal_`.

use std::fmt::{Display, Write};
use std::sync::Arc;

use super::{Counter, Metrics};

impl Metrics {
    /// The counters as INFO shows them. No sections and `default` mean all but those that have a
    /// line for each command, `all` and `everything` mean these too.
    pub fn render(&self, sections: &[String], facts: &Facts) -> String {
        let named = |name: &str| sections.iter().any(|section| section.eq_ignore_ascii_case(name));
        let all = named("all") || named("everything");
        let usual = all || sections.is_empty() || named("default");
        let mut text = String::new();
        let mut lines_of = |title: &str, wanted: bool, lines: &str| {
            if wanted || named(title) {
                let gap = if text.is_empty() { "" } else { "\r\n" };
                write!(text, "{gap}# {title}\r\n{lines}").expect("writing to memory cannot fail");
            }
        };
        let mut section = |title: &str, fields: &[(&str, &dyn Display)]| {
            let line = |(name, value): &(&str, &dyn Display)| format!("{name}:{value}\r\n");
            lines_of(title, usual, &fields.iter().map(line).collect::<String>());
        };
        let process = Process::look();
        let uptime = self.birth.at.elapsed();
        let (log_status, refuses) = match (&facts.failure, &facts.room) {
            (Some(_), _) => ("err", true),
            (None, Some((_, refuses))) => (if *refuses { "full" } else { "short" }, *refuses),
            (None, None) => ("ok", false),
        };
        let status = |is_bad: bool| if is_bad { "err" } else { "ok" };
        let no_room = facts.room.as_ref().map_or("", |(why, _)| why);
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
                ("run_id", &format_args!("{:040x}", self.birth.run_id)),
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
                ("watching_clients", &self.watching_clients.get()),
                ("total_watched_keys", &self.watched_keys.get()),
                ("watched_keys_bytes", &self.watched_bytes.get()),
                ("client_recent_max_output_buffer", &facts.largest_unread),
            ],
        );
        self.peak_memory.raise(facts.store_bytes as u64);
        let [requests, transactions] =
            [&self.request_memory, &self.transaction_memory].map(Counter::get);
        section(
            "Memory",
            &[
                ("used_memory", &facts.store_bytes),
                ("used_memory_rss", &process.memory),
                ("used_memory_peak", &self.peak_memory.get()),
                ("used_memory_overhead", &facts.index_bytes),
                ("used_memory_dataset", &facts.store_bytes.saturating_sub(facts.index_bytes)),
                ("maxmemory", &facts.max_memory),
                ("maxmemory_policy", &"noeviction"),
                ("mem_clients_normal", &(facts.unread_bytes as u64 + requests + transactions)),
                ("mem_client_replies", &facts.unread_bytes),
                ("mem_client_requests", &requests),
                ("mem_client_transactions", &transactions),
                ("mem_aof_buffer", &self.log_memory.get()),
                ("mem_batch", &self.batch_memory.get()),
                ("mem_allocator", &"libc"),
            ],
        );
        let compaction = &self.compaction;
        let compaction_failed = compaction.last_failed.get() > 0 || facts.failure.is_some();
        // As in Redis: -1 before the first.
        let compactions = compaction.done.get() + compaction.failed.get();
        let compaction_millis = compaction.last_millis.get();
        let compaction_seconds =
            if compactions == 0 { -1 } else { (compaction_millis / 1000) as i64 };
        let always: [(&str, &dyn Display); 9] = [
            ("loading", &0),
            ("async_loading", &0),
            ("rdb_bgsave_in_progress", &0),
            ("aof_enabled", &u8::from(facts.has_log)),
            ("aof_rewrite_in_progress", &compaction.running.get()),
            ("aof_rewrite_scheduled", &u8::from(facts.compaction_asked)),
            ("aof_last_rewrite_time_sec", &compaction_seconds),
            ("aof_last_bgrewrite_status", &status(compaction_failed)),
            ("aof_last_write_status", &status(refuses)),
        ];
        let of_the_log: [(&str, &dyn Display); 21] = [
            ("aof_rewrites", &compaction.done.get()),
            ("aof_current_size", &(facts.snapshot_bytes + facts.log_bytes)),
            ("aof_base_size", &facts.snapshot_bytes),
            ("aof_pending_bio_fsync", &self.running_syncs.get()),
            ("aof_delayed_fsync", &self.delayed_syncs.get()),
            ("wal_status", &log_status),
            ("wal_failure", &facts.failure.as_deref().unwrap_or("")),
            ("wal_no_room", &no_room),
            ("wal_batches", &self.batches.get()),
            ("wal_records", &self.records.get()),
            ("wal_bytes", &self.log_bytes.get()),
            ("wal_syncs", &self.syncs.get()),
            ("wal_durable_lsn", &self.durable_lsn.get()),
            ("wal_commit_usec", &self.commit_micros),
            ("wal_batch_records", &self.batch_records),
            ("wal_compactions", &compaction.done.get()),
            ("wal_compactions_failed", &compaction.failed.get()),
            ("wal_last_compaction_error", &compaction.error()),
            ("wal_last_compaction_msec", &compaction_millis),
            ("wal_last_compaction_bytes_before", &compaction.bytes_before.get()),
            ("wal_last_compaction_bytes_after", &compaction.bytes_after.get()),
        ];
        let of_the_log = if facts.has_log { &of_the_log[..] } else { &[] };
        section("Persistence", &[&always, of_the_log].concat());
        let [answered, input, output] =
            [&self.answered, &self.input_bytes, &self.output_bytes].map(Counter::get);
        let kibibytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
        section(
            "Stats",
            &[
                ("total_connections_received", &self.total_connections.get()),
                ("total_commands_processed", &answered),
                ("instantaneous_ops_per_sec", &self.answer_rate.per_second(answered)),
                ("total_net_input_bytes", &input),
                ("total_net_output_bytes", &output),
                ("instantaneous_input_kbps", &kibibytes(self.input_rate.per_second(input))),
                ("instantaneous_output_kbps", &kibibytes(self.output_rate.per_second(output))),
                ("rejected_connections", &self.rejected_connections.get()),
                ("acl_access_denied_auth", &self.failed_logins.get()),
                ("expired_keys", &self.expired.get()),
                ("evicted_keys", &0),
                ("evicted_clients", &self.evicted_clients.get()),
                ("keyspace_hits", &self.hits.get()),
                ("keyspace_misses", &self.misses.get()),
                ("total_error_replies", &self.commands.errors()),
                ("client_output_buffer_limit_disconnections", &self.unread_disconnections.get()),
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
        let database = format!("keys={},expires={}", facts.keys, facts.expiring);
        match facts.keys {
            0 => section("Keyspace", &[]),
            _ => section("Keyspace", &[("db0", &database)]),
        }
        lines_of("Errorstats", usual, &self.commands.error_lines());
        lines_of("Commandstats", all, &self.commands.calls_lines());
        lines_of("Latencystats", all, &self.commands.latency_lines());
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
    /// What the store takes up in memory.
    pub store_bytes: usize,
    /// Of that, what is needed to find an entry.
    pub index_bytes: usize,
    /// What all clients have not read.
    pub unread_bytes: usize,
    /// What one of them has not read, at most.
    pub largest_unread: usize,
    /// What the store may take up, 0 if that is not limited.
    pub max_memory: usize,
    /// Whether a compaction was asked for that has not begun.
    pub compaction_asked: bool,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the log behind it.
    pub log_bytes: u64,
    /// Whether anything is kept on disk.
    pub has_log: bool,
    /// Why the log takes no more writes.
    pub failure: Option<Arc<str>>,
    /// Why no segment can follow the running one, and whether writes are refused for it.
    pub room: Option<(Arc<str>, bool)>,
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
