//! What INFO shows of the store and the log: the sections `Memory`, `Persistence` and `Keyspace`.

use std::fmt::Display;

use super::{Handle, LogFacts, Shared, StoreFacts};
use crate::entry::now_millis;
use crate::metrics::{Counter, Info, Process};
use crate::store::{Counts, Totals};
use crate::wal::Failure;
use crate::wal::health::Room;

impl Handle {
    /// The section `Memory`; the server knows what clients have not read.
    pub fn show_memory(&self, info: &mut Info<'_>, unread_bytes: usize) {
        let Shared { metrics, .. } = self.shared();
        let StoreFacts { totals, peak_bytes, most_bytes } = self.store_facts();
        let Totals { bytes, index_bytes, .. } = totals;
        let [requests, transactions] =
            [&metrics.request_memory, &metrics.transaction_memory].map(Counter::get);
        info.section(
            "Memory",
            &[
                ("used_memory", &bytes),
                ("used_memory_rss", &Process::look().memory),
                ("used_memory_peak", &peak_bytes),
                ("used_memory_overhead", &index_bytes),
                ("used_memory_dataset", &bytes.saturating_sub(index_bytes)),
                ("maxmemory", &most_bytes.unwrap_or(0)),
                ("maxmemory_policy", &"noeviction"),
                ("mem_clients_normal", &(unread_bytes as u64 + requests + transactions)),
                ("mem_client_replies", &unread_bytes),
                ("mem_client_requests", &requests),
                ("mem_client_transactions", &transactions),
                ("mem_aof_buffer", &metrics.log_memory.get()),
                ("mem_batch", &metrics.batch_memory.get()),
                ("used_memory_scripts", &metrics.script_memory.get()),
                ("number_of_cached_scripts", &metrics.scripts.get()),
                ("evicted_scripts", &metrics.evicted_scripts.get()),
                ("mem_allocator", &"libc"),
            ],
        );
    }

    /// The section `Persistence`.
    pub fn show_persistence(&self, info: &mut Info<'_>) {
        let Shared { metrics, has_log, .. } = self.shared();
        let (stats, facts) = (&metrics.compaction, self.log_facts());
        let failure = facts.as_ref().and_then(|facts| facts.failure.as_ref());
        let (status, _) = facts.as_ref().map_or(("ok", ""), |facts| facts.status());
        let ok_unless = |is_bad: bool| if is_bad { "err" } else { "ok" };
        let last_failed = stats.last_failed.get() > 0 || failure.is_some();
        let last_millis = stats.last_millis.get();
        // As in Redis: -1 before the first.
        let is_first = stats.done.get() + stats.failed.get() == 0;
        let last_seconds = if is_first { -1 } else { (last_millis / 1000) as i64 };
        let compactor = self.shared().compactor();
        let is_asked = compactor.as_ref().is_some_and(|compactor| compactor.is_asked());
        let always: [(&str, &dyn Display); 9] = [
            ("loading", &0),
            ("async_loading", &0),
            ("rdb_bgsave_in_progress", &0),
            ("aof_enabled", &u8::from(*has_log)),
            ("aof_rewrite_in_progress", &stats.running.get()),
            ("aof_rewrite_scheduled", &u8::from(is_asked)),
            ("aof_last_rewrite_time_sec", &last_seconds),
            ("aof_last_bgrewrite_status", &ok_unless(last_failed)),
            ("aof_last_write_status", &ok_unless(matches!(status, "err" | "full"))),
        ];
        let Some(LogFacts { room, snapshot_bytes, bytes, .. }) = &facts else {
            return info.section("Persistence", &always);
        };
        let no_room = match room {
            Room::Enough => "",
            Room::Short(why) | Room::Full(why) => why,
        };
        let of_the_log: [(&str, &dyn Display); 21] = [
            ("aof_rewrites", &stats.done.get()),
            ("aof_current_size", &(snapshot_bytes + bytes)),
            ("aof_base_size", &snapshot_bytes),
            ("aof_pending_bio_fsync", &metrics.running_syncs.get()),
            ("aof_delayed_fsync", &metrics.delayed_syncs.get()),
            ("wal_status", &status),
            ("wal_failure", &failure.map_or("", |Failure(why)| why)),
            ("wal_no_room", &no_room),
            ("wal_batches", &metrics.batches.get()),
            ("wal_records", &metrics.records.get()),
            ("wal_bytes", &metrics.log_bytes.get()),
            ("wal_syncs", &metrics.syncs.get()),
            ("wal_durable_lsn", &metrics.durable_lsn.get()),
            ("wal_commit_usec", &metrics.commit_micros),
            ("wal_batch_records", &metrics.batch_records),
            ("wal_compactions", &stats.done.get()),
            ("wal_compactions_failed", &stats.failed.get()),
            ("wal_last_compaction_error", &stats.error()),
            ("wal_last_compaction_msec", &last_millis),
            ("wal_last_compaction_bytes_before", &stats.bytes_before.get()),
            ("wal_last_compaction_bytes_after", &stats.bytes_after.get()),
        ];
        info.section("Persistence", &[&always[..], &of_the_log].concat());
    }

    /// The section `Keyspace`, with a line for each database that has keys.
    pub fn show_keyspace(&self, info: &mut Info<'_>) {
        let (now, mut all) = (now_millis(), self.shared().store.databases());
        all.sort_unstable_by_key(|counts| counts.number);
        let lines = all.iter().map(|counts| {
            let Counts { number, keys, expiring, .. } = counts;
            let ttl = average_ttl(counts, now);
            (format!("db{number}"), format!("keys={keys},expires={expiring},avg_ttl={ttl}"))
        });
        let lines: Vec<_> = lines.collect();
        let fields = lines.iter().map(|(name, text)| (&name[..], text as &dyn Display));
        info.section("Keyspace", &fields.collect::<Vec<_>>());
    }
}

/// Milliseconds that the keys with an expiry have left on average; 0 if there are none, as in Redis.
fn average_ttl(counts: &Counts, now: i64) -> i128 {
    let average = counts.expiries.checked_div(counts.expiring as i128);
    average.map_or(0, |at| (at - i128::from(now)).max(0))
}
