//! What the server counts, and INFO, which shows it.
//!
//! Counters are relaxed atomics: each is right, but two of them may be a moment apart. Nothing is decided
//! by them.

mod batches;
mod command;
mod compaction;
mod info;
mod number;
mod slow;
mod slow_messages;
mod spread;

pub use batches::{
    BETWEEN_SAMPLES, BatchSeen, Batches, Brought, Ending, Leader, MOST_CLIENTS, STEPS, Step,
    Watching,
};
pub use command::{CommandStats, Stats};
pub use compaction::CompactionStats;
pub use info::{Info, Process};
pub use number::{Counter, Held, Histogram};
pub use slow::{MOST_SLOW, SlowCommands};
pub use slow_messages::{Caller, SlowMessages};
pub use spread::{CallTimes, SpreadCounter};

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use number::Rate;

/// All counters of a server.
#[derive(Debug, Default)]
pub struct Metrics {
    /// When the server was started.
    pub run: Run,
    /// Clients that are connected now.
    pub connected_clients: Counter,
    /// Connections accepted so far, including those and the rejected ones.
    pub total_connections: Counter,
    /// Connections turned away because there were too many, or no thread could be started.
    pub rejected_connections: Counter,
    /// Logins that failed.
    pub failed_logins: Counter,
    /// Commands that their user may not carry out.
    pub denied_commands: Counter,
    /// Clients that watch a key.
    pub watching_clients: Counter,
    /// Keys that they watch, each counted once for every client.
    pub watched_keys: Counter,
    /// Bytes of memory that these take up.
    pub watched_bytes: Counter,
    /// Clients closed because all together had too many replies unread.
    pub evicted_clients: Counter,
    /// Clients closed because they alone had too many.
    pub unread_disconnections: Counter,
    /// Commands answered.
    pub answered: SpreadCounter,
    /// Calls, errors and times of each command.
    pub commands: CommandStats,
    /// Reads that found their key.
    pub hits: SpreadCounter,
    /// Reads that did not.
    pub misses: SpreadCounter,
    /// Batches written to the log.
    pub batches: Counter,
    /// Records in them.
    pub records: Counter,
    /// Bytes in them, padding too.
    pub log_bytes: Counter,
    /// Times the log was synced for a client.
    pub syncs: Counter,
    /// 1 while a sync goes on beside the batches.
    pub running_syncs: Counter,
    /// How often a batch had to wait for such a sync.
    pub delayed_syncs: Counter,
    /// The last LSN on disk.
    pub durable_lsn: Counter,
    /// Compactions of the log.
    pub compaction: CompactionStats,
    /// Keys removed because they had expired.
    pub expired: Counter,
    /// Memory in which requests of clients arrive.
    pub request_memory: Counter,
    /// Memory for the commands of transactions that have not been carried out.
    pub transaction_memory: Counter,
    /// Scripts that are kept.
    pub scripts: Counter,
    /// Memory that they take up, with Lua itself.
    pub script_memory: Counter,
    /// Scripts that were forgotten to make room for others.
    pub evicted_scripts: Counter,
    /// Memory for the changes of the running batch.
    pub batch_memory: Counter,
    /// Memory in which the log builds a batch.
    pub log_memory: Counter,
    /// The most that keys and values have taken up.
    pub peak_memory: Counter,
    /// Bytes read from clients.
    pub input_bytes: SpreadCounter,
    /// Bytes sent to clients.
    pub output_bytes: SpreadCounter,
    /// Microseconds that a batch took to be written and synced.
    pub commit_micros: Histogram,
    /// All of them together.
    pub total_commit_micros: Counter,
    /// Records per batch.
    pub batch_records: Histogram,
    /// Batches as they happen, for those who watch.
    pub batches_seen: Batches,
    /// Commands that took long.
    pub slow: SlowCommands,
    answer_rate: Rate,
    input_rate: Rate,
    output_rate: Rate,
}

impl Metrics {
    /// Counters for commands of these names.
    pub fn new(commands: impl Iterator<Item = &'static str>) -> Metrics {
        Metrics { commands: CommandStats::new(commands), ..Metrics::default() }
    }

    /// Sets to zero what CONFIG RESETSTAT does: what was counted since the start, not what is the case now.
    pub fn reset(&self) {
        let counters = [
            &self.total_connections,
            &self.rejected_connections,
            &self.evicted_clients,
            &self.unread_disconnections,
            &self.failed_logins,
            &self.denied_commands,
            &self.expired,
            &self.delayed_syncs,
        ];
        counters.iter().for_each(|counter| counter.set(0));
        let of_requests =
            [&self.answered, &self.hits, &self.misses, &self.input_bytes, &self.output_bytes];
        of_requests.iter().for_each(|counter| counter.reset());
        self.commands.reset();
        self.peak_memory.set(0);
    }

    /// Counts a batch that was written, and synced if `synced`.
    pub fn count_batch(&self, records: u32, bytes: u64, elapsed: Duration, synced: bool) {
        self.batches.add(1);
        self.records.add(u64::from(records));
        self.log_bytes.add(bytes);
        self.syncs.add(u64::from(synced));
        self.commit_micros.add(elapsed.as_micros() as u64);
        self.total_commit_micros.add(elapsed.as_micros() as u64);
        self.batch_records.add(u64::from(records));
    }
}

/// When the process was started, and a number that distinguishes it from every other run.
#[derive(Debug)]
pub struct Run {
    /// When it was started.
    pub began: Instant,
    /// A random number.
    pub id: u64,
}

impl Default for Run {
    /// A fresh RandomState is a random number, and it only has to differ from run to run.
    fn default() -> Run {
        let id = RandomState::new().hash_one(std::process::id());
        Run { began: Instant::now(), id }
    }
}
