//! Each number that `/metrics` shows: its name, its meaning, and its source.
//!
//! Names follow Prometheus's conventions: base units, `_total` for what only grows (added by the encoder). A row that
//! is [`Tells::Trouble`] has an alert in `packaging/prometheus/alerts.yml`; a test holds that true.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::health;
use crate::command::{Group, Role};
use crate::engine::{LogFacts, StoreFacts};
use crate::metrics::{Metrics, Process};
use crate::server::{ClientFacts, Watch};

/// One number.
pub struct Row {
    /// Its name, without the prefix and `_total`.
    pub name: &'static str,
    /// Its meaning.
    pub help: &'static str,
    /// Its source.
    pub number: Number,
    /// Whether somebody has to be told.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test asks for the alerts"))]
    pub tells: Tells,
}

/// How a number behaves, and its source.
pub enum Number {
    /// It only grows, until a restart or CONFIG RESETSTAT.
    Counter(fn(&Seen) -> f64),
    /// It goes up and down, and may not be there.
    Gauge(fn(&Seen) -> Option<f64>),
}

/// The use of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// How things are.
    State,
    /// That something is wrong.
    Trouble,
}

/// All that is shown, as it was at one moment: a scrape looks once.
pub struct Seen {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The log, if there is one.
    pub log: Option<LogFacts>,
    store: StoreFacts,
    clients: ClientFacts,
    group: Option<Group>,
    process: Process,
    /// Open descriptors, and how many may be.
    descriptors: (u64, u64),
    is_ready: bool,
}

impl Seen {
    /// Looks now.
    pub fn now(server: &Watch) -> Seen {
        Seen {
            metrics: server.metrics().clone(),
            log: server.engine().log_facts(),
            store: server.engine().store_facts(),
            clients: server.clients(),
            group: server.group(),
            process: Process::look(),
            descriptors: Process::descriptors(),
            is_ready: health::why_not(Some(server)).is_none(),
        }
    }

    /// Bytes in use, by kind.
    pub fn memory(&self) -> [(&'static str, u64); 9] {
        let (totals, metrics) = (self.store.totals, &self.metrics);
        [
            ("entries", totals.bytes.saturating_sub(totals.index_bytes) as u64),
            ("index", totals.index_bytes as u64),
            ("unread_replies", self.clients.unread_bytes as u64),
            ("requests", metrics.request_memory.get()),
            ("transactions", metrics.transaction_memory.get()),
            ("watched_keys", metrics.watched_bytes.get()),
            ("batch", metrics.batch_memory.get()),
            ("log_buffer", metrics.log_memory.get()),
            ("scripts", metrics.script_memory.get()),
        ]
    }

    fn log_is(&self, status: &str) -> Option<f64> {
        self.log.as_ref().map(|log| flag(log.status().0 == status))
    }

    fn of_log(&self, number: fn(&LogFacts) -> u64) -> Option<f64> {
        self.log.as_ref().map(|log| number(log) as f64)
    }

    fn with_log(&self, number: fn(&Metrics) -> f64) -> Option<f64> {
        self.log.as_ref().map(|_| number(&self.metrics))
    }

    fn of_group(&self, number: fn(&Group) -> f64) -> Option<f64> {
        self.group.as_ref().map(number)
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

const fn counter(
    name: &'static str,
    help: &'static str,
    tells: Tells,
    of: fn(&Seen) -> f64,
) -> Row {
    Row { name, help, tells, number: Number::Counter(of) }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    tells: Tells,
    of: fn(&Seen) -> Option<f64>,
) -> Row {
    Row { name, help, tells, number: Number::Gauge(of) }
}

use Tells::{State, Trouble};

/// Those of this server.
#[rustfmt::skip] // A row a line.
pub const NUMBERS: &[Row] = &[
    gauge("ready", "1 while /readyz answers 200: requests should be sent here.", Trouble, |seen| Some(flag(seen.is_ready))),
    counter("commands_answered", "Commands answered.", State, |seen| seen.metrics.answered.get() as f64),
    counter("error_replies", "Replies that were errors, of all kinds.", State, |seen| seen.metrics.commands.errors() as f64),
    counter("keyspace_hits", "Reads that found their key.", State, |seen| seen.metrics.hits.get() as f64),
    counter("keyspace_misses", "Reads that did not.", State, |seen| seen.metrics.misses.get() as f64),
    counter("expired_keys", "Keys removed because their time was over.", State, |seen| seen.metrics.expired.get() as f64),
    counter("network_received_bytes", "Bytes received from clients.", State, |seen| seen.metrics.input_bytes.get() as f64),
    counter("network_sent_bytes", "Bytes sent to clients.", State, |seen| seen.metrics.output_bytes.get() as f64),
    gauge("keys", "Keys in all databases.", State, |seen| Some(seen.store.totals.keys as f64)),
    gauge("expiring_keys", "Keys that have an expiry.", State, |seen| Some(seen.store.totals.expiring as f64)),
    gauge("memory_limit_bytes", "The limit of entries and index together; 0 is none.", State, |seen| Some(seen.store.most_bytes.unwrap_or(0) as f64)),
    gauge("memory_peak_bytes", "The most that entries and index were seen to take up.", State, |seen| Some(seen.store.peak_bytes as f64)),
    gauge("cached_scripts", "Scripts that are kept for EVALSHA.", State, |seen| Some(seen.metrics.scripts.get() as f64)),
    counter("evicted_scripts", "Scripts forgotten to make room for others.", State, |seen| seen.metrics.evicted_scripts.get() as f64),
    // Clients.
    gauge("connected_clients", "Clients connected.", State, |seen| Some(seen.clients.connected as f64)),
    gauge("client_limit", "Clients that may be connected at the same time.", State, |seen| Some(seen.clients.most as f64)),
    gauge("blocked_clients", "Clients that CLIENT PAUSE keeps waiting.", State, |seen| Some(seen.clients.blocked as f64)),
    gauge("subscribed_clients", "Clients with a subscription.", State, |seen| Some(seen.clients.subscribers as f64)),
    gauge("watching_clients", "Clients that watch a key.", State, |seen| Some(seen.clients.watching as f64)),
    counter("connections_accepted", "Connections accepted.", State, |seen| seen.metrics.total_connections.get() as f64),
    counter("connections_rejected", "Connections turned away: too many, or no thread.", Trouble, |seen| seen.metrics.rejected_connections.get() as f64),
    counter("failed_logins", "Logins that failed.", Trouble, |seen| seen.metrics.failed_logins.get() as f64),
    counter("evicted_clients", "Clients closed because all together left too much unread.", Trouble, |seen| seen.metrics.evicted_clients.get() as f64),
    counter("unread_disconnections", "Clients closed because they alone left too much unread.", Trouble, |seen| seen.metrics.unread_disconnections.get() as f64),
    // The log.
    gauge("wal_closed", "1 once the log is closed for writing, until a restart.", Trouble, |seen| seen.log_is("err")),
    gauge("wal_full", "1 while writes that add data are refused for want of room.", Trouble, |seen| seen.log_is("full")),
    gauge("wal_short_of_room", "1 while no further segment can be prepared.", Trouble, |seen| seen.log_is("short")),
    counter("wal_batches", "Batches written to the log.", State, |seen| seen.metrics.batches.get() as f64),
    counter("wal_records", "Records in them.", State, |seen| seen.metrics.records.get() as f64),
    counter("wal_written_bytes", "Bytes in them, padding too.", State, |seen| seen.metrics.log_bytes.get() as f64),
    counter("wal_syncs", "Syncs of the log.", State, |seen| seen.metrics.syncs.get() as f64),
    counter("wal_delayed_syncs", "Batches that waited for a sync beside them, with -fsync everysec.", Trouble, |seen| seen.metrics.delayed_syncs.get() as f64),
    gauge("wal_durable_lsn", "Number of the last record on disk.", State, |seen| seen.with_log(|metrics| metrics.durable_lsn.get() as f64)),
    gauge("wal_segment", "Number of the segment that is being written.", State, |seen| seen.of_log(|log| log.segment)),
    gauge("wal_snapshot_bytes", "Size of the last snapshot.", State, |seen| seen.of_log(|log| log.snapshot_bytes)),
    gauge("wal_bytes_since_snapshot", "Bytes of the log after it, which a start has to replay.", State, |seen| seen.of_log(|log| log.bytes)),
    gauge("wal_compaction_due_bytes", "Bytes after the snapshot from which the log is compacted.", State, |seen| seen.log.as_ref()?.due_at.map(|due| due as f64)),
    gauge("wal_compaction_running", "1 while the log is being compacted.", State, |seen| seen.with_log(|metrics| metrics.compaction.running.get() as f64)),
    counter("wal_compactions", "Compactions that succeeded.", State, |seen| seen.metrics.compaction.done.get() as f64),
    counter("wal_compaction_failures", "Compactions that failed; the log is as it was.", State, |seen| seen.metrics.compaction.failed.get() as f64),
    gauge("wal_last_compaction_failed", "1 if the last compaction failed.", Trouble, |seen| seen.with_log(|metrics| metrics.compaction.last_failed.get() as f64)),
    gauge("wal_last_compaction_timestamp_seconds", "When the last compaction succeeded; 0 is not since the start.", State, |seen| seen.with_log(|metrics| metrics.compaction.last_done_at.get() as f64)),
    gauge("wal_last_compaction_duration_seconds", "How long the last compaction took.", State, |seen| seen.with_log(|metrics| metrics.compaction.last_millis.get() as f64 / 1e3)),
    // Where the log is in etcd.
    gauge("group_leading", "1 if this server leads.", State, |seen| seen.of_group(|group| flag(group.role == Role::Leading))),
    gauge("group_machines", "Servers of the group that are up.", State, |seen| seen.of_group(|group| group.others.len() as f64 + 1.0)),
    gauge("group_term", "How often the lead has passed on.", State, |seen| seen.of_group(|group| group.term as f64)),
    gauge("group_lag_records", "Records of the log that this server has not stored yet.", Trouble, |seen| seen.of_group(|group| group.lag as f64)),
    gauge("group_lease_seconds", "How long a leader that is gone keeps the others waiting.", State, |seen| seen.of_group(|group| group.lease.as_secs_f64())),
    gauge("group_lease_left_seconds", "How long this server may still show data; 0 if it does not lead.", State, |seen| seen.of_group(|group| group.lease_left.as_secs_f64())),
    gauge("group_keepers", "Members of the etcd cluster that keeps the log.", State, |seen| seen.of_group(|group| group.keepers.len() as f64)),
    gauge("group_keepers_down", "Those that did not answer when they were last asked.", Trouble, |seen| seen.of_group(|group| group.keepers.iter().filter(|keeper| keeper.status.is_err()).count() as f64)),
];

/// Those of the process, by Prometheus's own names.
#[rustfmt::skip]
pub const PROCESS: &[Row] = &[
    counter("process_cpu_seconds", "Processor time, of the program and of the kernel for it.", State, |seen| seen.process.user_seconds + seen.process.system_seconds),
    gauge("process_resident_memory_bytes", "Memory that is mapped and present.", State, |seen| Some(seen.process.memory as f64)),
    gauge("process_start_time_seconds", "When the process started, in Unix time.", State, |seen| Some(started_at(seen))),
    gauge("process_threads", "Threads.", State, |seen| Some(seen.process.threads as f64)),
    gauge("process_open_fds", "Open descriptors.", State, |seen| Some(seen.descriptors.0 as f64)),
    gauge("process_max_fds", "Descriptors that may be open.", State, |seen| Some(seen.descriptors.1 as f64)),
];

fn started_at(seen: &Seen) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // To the second, so that it is the same at each scrape.
    now.saturating_sub(seen.metrics.run.began.elapsed()).as_secs_f64().round()
}
