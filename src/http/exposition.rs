//! `/metrics`: the counters in Prometheus's text format, read when they are asked for.
//!
//! The numbers are those of INFO: counts are read from the same counters, and all others from the same facts. `table`
//! has a row for each number; histograms and numbers with a label are here. A scrape takes no lock that
//! the commit path waits for longer than a read of one key makes it wait, and is as long as the list of commands
//! makes it: a label is a command's name or one of a few words, never what a client has chosen.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::response::{Response, Status};
use super::table::{NUMBERS, Number, PROCESS, Row, Seen};
use crate::metrics::{Histogram, Stats};
use crate::server::Watch;

/// The first word of each name, but for those of the process, which Prometheus has a convention for.
pub const PREFIX: &str = "post_gres_rs";

/// The powers of two of nanoseconds between which calls are counted: from one microsecond to a second.
const CALL_BUCKETS: std::ops::RangeInclusive<usize> = 10..=30;

/// The same in microseconds for a commit: from 16 to 17 seconds.
const COMMIT_BUCKETS: std::ops::RangeInclusive<usize> = 4..=24;

/// The same for records of a batch: from 1 to 65535.
const RECORD_BUCKETS: std::ops::RangeInclusive<usize> = 1..=16;

/// The answer.
pub fn page(server: &Watch) -> Response {
    let mut registry = Registry::default();
    let seen = Arc::new(Seen::now(server));
    registry.register_collector(Box::new(OfProcess(seen.clone())));
    let own = registry.sub_registry_with_prefix(PREFIX);
    own.register_collector(Box::new(Own(seen)));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => Response::of(CONTENT_TYPE, &text),
        Err(Error) => Response::error(Status::Unavailable, "the metrics cannot be written"),
    }
}

struct OfProcess(Arc<Seen>);

impl Collector for OfProcess {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        PROCESS.iter().try_for_each(|row| number(&mut to, row, &self.0))
    }
}

struct Own(Arc<Seen>);

impl Collector for Own {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let seen = &*self.0;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        to.encode_descriptor("build", "The program.", None, MetricType::Info)?
            .encode_info(&version)?;
        NUMBERS.iter().try_for_each(|row| number(&mut to, row, seen))?;
        memory(&mut to, seen)?;
        commits(&mut to, seen)?;
        commands(&mut to, seen)
    }
}

impl std::fmt::Debug for OfProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OfProcess")
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Own")
    }
}

fn number(to: &mut DescriptorEncoder<'_>, row: &Row, seen: &Seen) -> Result<(), Error> {
    match row.number {
        Number::Counter(of) => {
            let value: f64 = of(seen);
            to.encode_descriptor(row.name, row.help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, f64>(&value, None)
        }
        Number::Gauge(of) => match of(seen) {
            None => Ok(()),
            Some(value) => to
                .encode_descriptor(row.name, row.help, None, MetricType::Gauge)?
                .encode_gauge(&value),
        },
    }
}

/// The name of the metric of memory, which has a label for each use.
pub const MEMORY: &str = "memory_bytes";

fn memory(to: &mut DescriptorEncoder<'_>, seen: &Seen) -> Result<(), Error> {
    let help = "Memory in use, by what it is for; -maxmemory limits entries and index together.";
    let mut all = to.encode_descriptor(MEMORY, help, None, MetricType::Gauge)?;
    for (kind, bytes) in seen.memory() {
        all.encode_family(&[("kind", kind)])?.encode_gauge(&(bytes as f64))?;
    }
    Ok(())
}

/// How long a batch took to become durable.
pub const COMMITS: &str = "wal_commit_duration_seconds";
/// How many records it had.
pub const RECORDS: &str = "wal_batch_records";

fn commits(to: &mut DescriptorEncoder<'_>, seen: &Seen) -> Result<(), Error> {
    if seen.log.is_none() {
        return Ok(());
    }
    let metrics = &seen.metrics;
    let help = "How long a batch took to be written and, with -fsync always, synced.";
    let (sum, buckets) = (metrics.total_commit_micros.get() as f64 / 1e6, COMMIT_BUCKETS);
    let below = cumulated(&metrics.commit_micros, buckets, |power| (1u64 << power) as f64 / 1e6);
    histogram(to, COMMITS, help, sum, &below)?;
    let help = "Records of a batch, which share one sync.";
    let sum = metrics.records.get() as f64;
    let below =
        cumulated(&metrics.batch_records, RECORD_BUCKETS, |power| ((1u64 << power) - 1) as f64);
    histogram(to, RECORDS, help, sum, &below)
}

fn histogram(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    sum: f64,
    below: &Cumulated,
) -> Result<(), Error> {
    to.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
        sum,
        below.count,
        &below.buckets,
        None,
    )
}

/// Calls of each command.
pub const CALLS: &str = "command_duration_seconds";
/// Error replies to each command.
pub const ERRORS: &str = "command_errors";

fn commands(to: &mut DescriptorEncoder<'_>, seen: &Seen) -> Result<(), Error> {
    let asked = |stats: &&Stats| stats.times.calls() + stats.rejected.get() > 0;
    let all = || seen.metrics.commands.all().iter().filter(asked);
    let help = "How long calls of a command took to be carried out, without the wait for the disk.";
    let mut calls = to.encode_descriptor(CALLS, help, None, MetricType::Histogram)?;
    for stats in all() {
        let sum = stats.times.total_nanos() as f64 / 1e9;
        let below =
            cumulated(&stats.times.nanos(), CALL_BUCKETS, |power| (1u64 << power) as f64 / 1e9);
        let labels = [("command", stats.name)];
        calls.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            sum,
            below.count,
            &below.buckets,
            None,
        )?;
    }
    let help = "Error replies to a command: rejected before it was carried out, or failed.";
    let mut errors = to.encode_descriptor(ERRORS, help, None, MetricType::Counter)?;
    for stats in all() {
        for (kind, count) in [("rejected", stats.rejected.get()), ("failed", stats.failed.get())] {
            let labels = [("command", stats.name), ("kind", kind)];
            count_of(&mut errors.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

fn count_of(
    to: &mut prometheus_client::encoding::MetricEncoder<'_>,
    count: u64,
) -> Result<(), Error> {
    to.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

/// A histogram as Prometheus has it, but that its buckets are not yet added up.
struct Cumulated {
    count: u64,
    /// Upper limits, and how many values each bucket has.
    buckets: Vec<(f64, u64)>,
}

/// The buckets of these powers of two. A value below the first is in the first; one above the last is counted as
/// above all limits.
fn cumulated(
    of: &Histogram,
    powers: std::ops::RangeInclusive<usize>,
    limit: impl Fn(usize) -> f64,
) -> Cumulated {
    let (counts, first, last) = (of.buckets(), *powers.start(), *powers.end());
    let below: u64 = counts[..first].iter().sum();
    let above: u64 = counts[last + 1..].iter().sum();
    let bucket = |power: usize| {
        let more = if power == first { below } else { 0 };
        (limit(power), counts[power] + more)
    };
    let over = [(f64::INFINITY, above)];
    Cumulated { count: counts.iter().sum(), buckets: powers.map(bucket).chain(over).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::table::Tells;

    const ALERTS: &str = include_str!("../../packaging/prometheus/alerts.yml");
    const TESTED: &str = include_str!("../../packaging/prometheus/alerts_test.yml");
    const DASHBOARD: &str = include_str!("../../packaging/grafana/post-gres-rs.json");
    const PAGE: &str = include_str!("../watching.md");

    /// The names of all metrics, as Prometheus stores them.
    fn exported() -> BTreeSet<String> {
        let full = |row: &Row| match row.number {
            Number::Counter(_) => format!("{}_total", row.name),
            Number::Gauge(_) => row.name.to_owned(),
        };
        let own = NUMBERS.iter().map(full).chain([
            MEMORY.to_owned(),
            format!("{ERRORS}_total"),
            "build_info".to_owned(),
        ]);
        let parts = ["_bucket", "_sum", "_count"];
        let histograms = [CALLS, COMMITS, RECORDS].into_iter();
        let histograms = histograms.flat_map(|name| parts.map(|part| format!("{name}{part}")));
        let own = own.chain(histograms).map(|name| format!("{PREFIX}_{name}"));
        own.chain(PROCESS.iter().map(full)).collect()
    }

    /// The words of a text that are names of metrics of this server.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words
            .filter(|word| word.starts_with("post_gres_rs_") || word.starts_with("process_"))
            .collect()
    }

    #[test]
    fn alerts_and_the_dashboard_use_only_what_is_exported() {
        let exported = exported();
        for (file, text) in [("alerts", ALERTS), ("their tests", TESTED), ("dashboard", DASHBOARD)]
        {
            let unknown: Vec<_> =
                named(text).into_iter().filter(|name| !exported.contains(*name)).collect();
            assert!(unknown.is_empty(), "{file}: {unknown:?} are not exported");
            assert!(named(text).len() > 4, "{file} uses something");
        }
    }

    #[test]
    fn every_number_that_tells_of_trouble_has_an_alert() {
        let alerted = named(ALERTS);
        let names = |row: &Row| [row.name.to_owned(), format!("{}_total", row.name)];
        for row in NUMBERS.iter().filter(|row| row.tells == Tells::Trouble) {
            let has = names(row).iter().any(|name| alerted.contains(&*format!("{PREFIX}_{name}")));
            assert!(has, "{} has no alert", row.name);
        }
    }

    #[test]
    fn the_page_about_watching_explains_each_metric_and_each_alert() {
        let unexplained = |name: &&String| {
            let short = name.trim_start_matches("post_gres_rs_");
            let short = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| short.strip_suffix(part))
                .unwrap_or(short);
            !PAGE.contains(&format!("`{short}`"))
        };
        let exported = exported();
        let missing: Vec<_> = exported.iter().filter(unexplained).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let alerts = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        let missing: Vec<_> = alerts.filter(|alert| !PAGE.contains(*alert)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_lies_beyond_the_first_and_the_last_bucket_is_counted() {
        let histogram = Histogram::default();
        [1, 1000, 5000, 1 << 40].iter().for_each(|value| histogram.add(*value));
        let Cumulated { count, buckets } = cumulated(&histogram, 10..=13, |power| power as f64);
        let counts: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((count, counts), (4, vec![2, 0, 0, 1, 1]));
    }
}
