//! The figures that the page is told, all of them since the start: the page takes two and finds out what happened
//! between them. So a viewer costs the server nothing to remember.

use serde_json::{Value, json};

use super::{LogKind, Site, health};
use crate::command::Role;
use crate::commands;
use crate::engine::{LogFacts, StoreFacts};
use crate::metrics::{Histogram, Metrics, Process};
use crate::server::Watch;

/// The facts that do not change.
pub fn about(site: &Site, server: &Watch) -> Value {
    let log = match site.options.log {
        LogKind::Synced => "synced",
        LogKind::SyncedLater => "later",
        LogKind::Etcd => "etcd",
        LogKind::None => "none",
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "port": server.port(),
        "pid": std::process::id(),
        "log": log,
    })
}

/// The figures at this moment.
pub fn now(site: &Site, server: &Watch) -> Value {
    let metrics = server.metrics();
    let StoreFacts { totals, most_bytes, .. } = server.engine().store_facts();
    let (clients, process) = (server.clients(), Process::look());
    let calls = Calls::of(metrics);
    json!({
        "at": site.began.elapsed().as_secs_f64() * 1e3,
        "uptime": metrics.run.began.elapsed().as_secs(),
        "notReady": health::why_not(Some(server)),
        "reads": calls.reads,
        "writes": calls.writes,
        "others": calls.others,
        "errors": metrics.commands.errors(),
        "hits": metrics.hits.get(),
        "misses": metrics.misses.get(),
        "readNanos": calls.read_nanos,
        "writeNanos": sparse(&metrics.batches_seen.waits),
        "syncMicros": sparse(&metrics.commit_micros),
        "batches": metrics.batches.get(),
        "records": metrics.records.get(),
        "bytes": metrics.log_bytes.get(),
        "syncs": metrics.syncs.get(),
        "keys": totals.keys,
        "memory": totals.bytes,
        "memoryLimit": most_bytes,
        "resident": process.memory,
        "cpu": process.user_seconds + process.system_seconds,
        "threads": process.threads,
        "clients": clients.connected,
        "clientLimit": clients.most,
        "blocked": clients.blocked,
        "subscribers": clients.subscribers,
        "unread": clients.unread_bytes,
        "log": server.engine().log_facts().map(|facts| log(&facts, metrics)),
        "group": group(server),
    })
}

fn log(facts: &LogFacts, metrics: &Metrics) -> Value {
    let (status, why) = facts.status();
    let stats = &metrics.compaction;
    json!({
        "status": status,
        "why": why,
        "snapshot": facts.snapshot_bytes,
        "bytes": facts.bytes,
        "dueAt": facts.due_at,
        "segment": facts.segment,
        "lsn": metrics.durable_lsn.get(),
        "compacting": stats.running.get() > 0,
        "compactions": stats.done.get(),
        "compactionError": stats.error(),
    })
}

fn group(server: &Watch) -> Option<Value> {
    let group = server.group()?;
    let role = match group.role {
        Role::Leading => "leading",
        Role::Following => "following",
        Role::Loading => "loading",
    };
    let leader = group.leader.map(|leader| format!("{}:{}", leader.host, leader.port));
    Some(json!({
        "name": group.name,
        "role": role,
        "leader": leader,
        "machines": group.others.len() + 1,
        "term": group.term,
        "lag": group.lag,
        "lease": group.lease.as_millis(),
        "leaseLeft": group.lease_left.as_millis(),
    }))
}

/// Calls of all commands, by what they may do: a transaction or a script counts as a write.
#[derive(Default)]
struct Calls {
    reads: u64,
    writes: u64,
    others: u64,
    read_nanos: Vec<(usize, u64)>,
}

impl Calls {
    fn of(metrics: &Metrics) -> Calls {
        let (mut calls, mut nanos) = (Calls::default(), [0; 64]);
        for (spec, stats) in commands::table().iter().zip(metrics.commands.all()) {
            let buckets = stats.times.nanos().buckets();
            let count: u64 = buckets.iter().sum();
            if spec.has("readonly") {
                calls.reads += count;
                nanos.iter_mut().zip(buckets).for_each(|(sum, count)| *sum += count);
            } else if spec.has("write") || ["exec", "eval", "evalsha"].contains(&spec.name) {
                calls.writes += count;
            } else {
                calls.others += count;
            }
        }
        calls.read_nanos = filled(&nanos);
        calls
    }
}

fn sparse(histogram: &Histogram) -> Vec<(usize, u64)> {
    filled(&histogram.buckets())
}

/// The buckets that have counted something, with their places.
fn filled(buckets: &[u64; 64]) -> Vec<(usize, u64)> {
    buckets.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
}
