//! The main figures of a server, from its INFO: for a health check, for people, and for scripts.

use std::collections::HashMap;

use anyhow::bail;
use serde_json::{Value, json};

use super::MOST_INFO;
use super::link::Link;
use super::replies::{Reply, printable};

/// The fields of an INFO.
#[derive(Clone, Debug, Default)]
pub struct Figures(HashMap<String, String>);

impl Figures {
    /// Asks a server for them.
    pub fn ask(link: &mut Link) -> anyhow::Result<Figures> {
        match link.ask(&[b"INFO", b"everything"], MOST_INFO)? {
            Reply::Bytes(text) => Ok(Figures::of(&String::from_utf8_lossy(&text))),
            other => bail!("{}: INFO was answered with {}", link.address(), other.shown()),
        }
    }

    fn of(text: &str) -> Figures {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Figures(fields.map(|(name, value)| (name.to_owned(), printable(value))).collect())
    }

    /// A field; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A field that is a number; 0 if there is none.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A part of a field such as `p50=1,p99=2`.
    pub fn part(&self, name: &str, part: &str) -> Option<f64> {
        let mut parts = self.text(name).split(',').filter_map(|it| it.split_once('='));
        parts.find(|(name, _)| *name == part)?.1.parse().ok()
    }

    /// Why this server cannot be relied on, if so.
    pub fn unwell(&self) -> Option<String> {
        if self.number("loading") > 0 {
            return Some("it is loading its log".to_owned());
        }
        match self.text("wal_status") {
            "err" => Some(format!(
                "its log is closed for writing: {}. Restart it when the disk works again",
                self.text("wal_failure")
            )),
            "full" => Some(format!("there is no room for its log: {}", self.text("wal_no_room"))),
            _ => None,
        }
    }

    /// Whether it keeps a log.
    pub fn has_log(&self) -> bool {
        self.number("aof_enabled") > 0
    }

    /// Keys that were looked up so far.
    pub fn reads(&self) -> u64 {
        self.number("keyspace_hits") + self.number("keyspace_misses")
    }

    /// Keys in all databases.
    pub fn keys(&self) -> u64 {
        let is_database =
            |name: &str| name.strip_prefix("db").is_some_and(|rest| rest.parse::<u16>().is_ok());
        let databases = self.0.keys().filter(|name| is_database(name));
        databases.filter_map(|name| self.part(name, "keys")).map(|keys| keys as u64).sum()
    }

    /// Records for each sync, of all so far.
    pub fn records_per_sync(&self) -> f64 {
        let syncs = self.number("wal_syncs");
        if syncs == 0 { 0.0 } else { self.number("wal_records") as f64 / syncs as f64 }
    }

    /// Each figure in a line for people.
    pub fn rows(&self, address: &str) -> Vec<(&'static str, String)> {
        let number = |name| self.number(name);
        let mut rows = vec![
            (
                "server",
                format!(
                    "{} {} at {address}, {}, up {}",
                    self.text("server_name"),
                    self.text("server_version"),
                    self.text("role"),
                    duration(number("uptime_in_seconds"))
                ),
            ),
            (
                "commands",
                format!(
                    "{} so far, {} a second",
                    number("total_commands_processed"),
                    number("instantaneous_ops_per_sec")
                ),
            ),
            ("clients", format!("{} of {}", number("connected_clients"), number("maxclients"))),
            ("keys", self.keys().to_string()),
            ("memory", self.memory()),
        ];
        for (name, field) in [("GET", "get"), ("SET", "set")] {
            if let Some(text) = self.percentiles(&format!("latency_percentiles_usec_{field}")) {
                rows.push((name, format!("{text} to carry it out")));
            }
        }
        if self.has_log() {
            rows.extend([("log", self.log()), ("syncs", self.syncs())]);
        }
        rows
    }

    /// Bytes in memory, and their limit.
    pub fn memory(&self) -> String {
        let limit = match self.number("maxmemory") {
            0 => "no limit".to_owned(),
            most => format!("at most {}", bytes(most)),
        };
        format!(
            "{} of keys, values and index ({limit}); the process has {}",
            bytes(self.number("used_memory")),
            bytes(self.number("used_memory_rss"))
        )
    }

    /// The log's status and size.
    pub fn log(&self) -> String {
        let status = match self.text("wal_status") {
            "ok" => "open".to_owned(),
            "short" => format!("short of room: {}", self.text("wal_no_room")),
            _ => self.unwell().unwrap_or_else(|| "unknown".to_owned()),
        };
        format!(
            "{status}; {}, of which {} are its snapshot; durable up to LSN {}",
            bytes(self.number("aof_current_size")),
            bytes(self.number("aof_base_size")),
            self.number("wal_durable_lsn")
        )
    }

    fn syncs(&self) -> String {
        let times = self.percentiles("wal_commit_usec").unwrap_or_default();
        format!(
            "{}, {:.1} records for each; a commit takes {times}",
            self.number("wal_syncs"),
            self.records_per_sync()
        )
    }

    /// `p50` and `p99` of a field in microseconds.
    pub fn percentiles(&self, field: &str) -> Option<String> {
        let [p50, p99] = [self.part(field, "p50")?, self.part(field, "p99")?];
        Some(format!("p50 {}, p99 {}", micros(p50), micros(p99)))
    }

    /// The same for scripts.
    pub fn json(&self, address: &str) -> Value {
        let number = |name| self.number(name);
        let mut all = json!({
            "address": address,
            "server": self.text("server_name"),
            "version": self.text("server_version"),
            "role": self.text("role"),
            "well": self.unwell().is_none(),
            "why_not": self.unwell(),
            "uptime_seconds": number("uptime_in_seconds"),
            "commands": number("total_commands_processed"),
            "commands_per_second": number("instantaneous_ops_per_sec"),
            "key_lookups": self.reads(),
            "clients": number("connected_clients"),
            "clients_most": number("maxclients"),
            "keys": self.keys(),
            "memory_bytes": number("used_memory"),
            "memory_most_bytes": number("maxmemory"),
            "process_bytes": number("used_memory_rss"),
            "get_p50_usec": self.part("latency_percentiles_usec_get", "p50"),
            "get_p99_usec": self.part("latency_percentiles_usec_get", "p99"),
            "set_p50_usec": self.part("latency_percentiles_usec_set", "p50"),
            "set_p99_usec": self.part("latency_percentiles_usec_set", "p99"),
        });
        if self.has_log() {
            all["log"] = json!({
                "status": self.text("wal_status"),
                "bytes": number("aof_current_size"),
                "snapshot_bytes": number("aof_base_size"),
                "durable_lsn": number("wal_durable_lsn"),
                "records": number("wal_records"),
                "batches": number("wal_batches"),
                "syncs": number("wal_syncs"),
                "records_per_sync": self.records_per_sync(),
                "commit_p50_usec": self.part("wal_commit_usec", "p50"),
                "commit_p99_usec": self.part("wal_commit_usec", "p99"),
            });
        }
        all
    }
}

/// Bytes, short.
pub fn bytes(count: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} bytes"),
    }
}

/// Microseconds, short.
fn micros(micros: f64) -> String {
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        1000.0..1_000_000.0 => format!("{:.1} ms", micros / 1000.0),
        _ => format!("{:.1} s", micros / 1_000_000.0),
    }
}

/// Seconds, short.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_unwell_while_it_loads_and_while_its_log_takes_no_writes() {
        for (info, why) in [
            ("loading:0\r\nwal_status:ok\r\n", ""),
            ("loading:0\r\n", ""),
            ("wal_status:short\r\nwal_no_room:x\r\n", ""),
            ("loading:1\r\n", "loading its log"),
            (
                "wal_status:err\r\nwal_failure:it\x1b[2J broke\r\n",
                "closed for writing: it?[2J broke",
            ),
            ("wal_status:full\r\nwal_no_room:4 KiB are missing\r\n", "no room for its log: 4 KiB"),
        ] {
            let said = Figures::of(info).unwell();
            assert_eq!(said.is_some(), !why.is_empty(), "{info:?}");
            assert!(said.unwrap_or_default().contains(why), "{info:?}");
        }
    }

    #[test]
    fn figures_are_short_and_those_of_all_databases_are_added() {
        let figures = Figures::of("db0:keys=3,expires=0\r\ndb12:keys=4,x\r\ndbx:keys=9\r\n");
        assert_eq!(figures.keys(), 7);
        assert_eq!((bytes(1023), bytes(1536)), ("1023 bytes".into(), "1.5 KiB".into()));
        assert_eq!((duration(59), duration(90_000)), ("59 s".into(), "1 d 1 h".into()));
        assert_eq!((micros(50.8), micros(7566.0)), ("51 µs".into(), "7.6 ms".into()));
    }
}
