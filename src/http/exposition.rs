//! `/metrics`: the counters in Prometheus's text format, read when they are asked for.
//!
//! The numbers are those of INFO: what is counted is read where it is counted, what is found out comes from the same
//! facts. `table` has a row for each number; histograms and what has a label are here. A scrape takes no lock that
//! the commit path waits for longer than a read of one key makes it wait, and is as long as the list of commands
//! makes it: a label is a command's name or one of a few words, never what a client has chosen.

use std::fmt::Error;

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
    registry.register_collector(Box::new(OfProcess(server.clone())));
    let own = registry.sub_registry_with_prefix(PREFIX);
    own.register_collector(Box::new(Own(server.clone())));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => Response::of(CONTENT_TYPE, &text),
        Err(Error) => Response::error(Status::Unavailable, "the metrics cannot be written"),
    }
}

struct OfProcess(Watch);

impl Collector for OfProcess {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let seen = Seen::now(&self.0);
        PROCESS.iter().try_for_each(|row| number(&mut to, row, &seen))
    }
}

struct Own(Watch);

impl Collector for Own {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let seen = Seen::now(&self.0);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        to.encode_descriptor("build", "The program.", None, MetricType::Info)?
            .encode_info(&version)?;
        NUMBERS.iter().try_for_each(|row| number(&mut to, row, &seen))?;
        memory(&mut to, &seen)?;
        commits(&mut to, &seen)?;
        commands(&mut to, &seen)
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

fn number(to: &mut DescriptorEncoder<'_>, row: &Row, seen: &Seen<'_>) -> Result<(), Error> {
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

/// What takes up memory, by its kind.
pub const MEMORY: &str = "memory_bytes";

fn memory(to: &mut DescriptorEncoder<'_>, seen: &Seen<'_>) -> Result<(), Error> {
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

fn commits(to: &mut DescriptorEncoder<'_>, seen: &Seen<'_>) -> Result<(), Error> {
    if seen.log.is_none() {
        return Ok(());
    }
    let metrics = seen.metrics;
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

fn commands(to: &mut DescriptorEncoder<'_>, seen: &Seen<'_>) -> Result<(), Error> {
    let asked = |stats: &&Stats| stats.nanos.count() + stats.rejected.get() > 0;
    let all = || seen.metrics.commands.all().iter().filter(asked);
    let help = "How long calls of a command took to be carried out, without the wait for the disk.";
    let mut calls = to.encode_descriptor(CALLS, help, None, MetricType::Histogram)?;
    for stats in all() {
        let sum = stats.total_nanos.get() as f64 / 1e9;
        let below = cumulated(&stats.nanos, CALL_BUCKETS, |power| (1u64 << power) as f64 / 1e9);
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

/// The buckets of these powers of two. What is less than the first is in the first; what is more than the last is
/// counted as more than all limits.
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
