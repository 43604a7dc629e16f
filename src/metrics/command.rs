//! What is counted of each command: the sections `Commandstats`, `Latencystats` and `Errorstats`.
//!
//! The time of a command is what it takes to be carried out, as in Redis: for a write that is its
//! place in the batch, without the sync that it shares with others (`wal_commit_usec` has that).
//! A transaction counts as one EXEC.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use super::number::Counter;
use super::spread::CallTimes;
use crate::command::{Calls, CommandId, Reply};

/// Kinds of errors that are counted apart: as many as in Redis, and a limit, for clients may make up their own.
const ERROR_KINDS: usize = 128;

/// Counters for each command, and for each kind of error.
#[derive(Debug, Default)]
pub struct CommandStats {
    commands: Vec<Stats>,
    errors: Mutex<BTreeMap<String, u64>>,
    /// All of them, to be read without the lock.
    total_errors: Counter,
}

/// The counts of one command.
#[derive(Debug)]
pub struct Stats {
    /// Its name, as in COMMAND INFO.
    pub name: &'static str,
    /// How long each call took.
    pub times: CallTimes,
    /// Requests that were refused before they were carried out.
    pub rejected: Counter,
    /// Calls that were answered with an error.
    pub failed: Counter,
}

impl CommandStats {
    /// For commands of these names, in the order of their numbers.
    pub fn new(names: impl Iterator<Item = &'static str>) -> CommandStats {
        let stats = |name| Stats {
            name,
            times: CallTimes::default(),
            rejected: Counter::default(),
            failed: Counter::default(),
        };
        CommandStats { commands: names.map(stats).collect(), ..CommandStats::default() }
    }

    /// Counts a command that was carried out.
    pub fn count_call(&self, id: Option<CommandId>, elapsed: Duration) {
        self.count_calls(id, 1, elapsed);
    }

    /// Counts calls that were carried out as one step and took this long together.
    pub fn count_calls(&self, id: Option<CommandId>, calls: u64, together: Duration) {
        if let Some(stats) = self.of(id) {
            stats.times.add(calls, together);
        }
    }

    /// Counts a reply, if it is an error: as a failed call if the command was carried out, otherwise as a
    /// rejected one.
    pub fn count_error(&self, id: Option<CommandId>, reply: &Reply<'_>, carried_out: bool) {
        let kind = match reply {
            Reply::Error(text) => text.split([' ', '\r', '\n']).next().unwrap_or_default(),
            Reply::NotDurable(_) => "MISCONF",
            _ => return,
        };
        if let Some(stats) = self.of(id) {
            if carried_out { &stats.failed } else { &stats.rejected }.add(1);
        }
        self.total_errors.add(1);
        let mut errors = self.errors.lock();
        let known = errors.len() < ERROR_KINDS || errors.contains_key(kind);
        *errors.entry(if known { kind } else { "OTHER" }.to_owned()).or_default() += 1;
    }

    /// All commands, in the order of their numbers.
    pub fn all(&self) -> &[Stats] {
        &self.commands
    }

    /// Of each command that was called: its calls, and how many took less than each power of two of microseconds.
    pub fn histograms(&self) -> Vec<Calls> {
        let shown = |stats: &Stats| {
            let nanos = stats.times.nanos();
            let calls =
                || Calls { name: stats.name, count: nanos.count(), less_than: nanos.micros() };
            (nanos.count() > 0).then(calls)
        };
        self.commands.iter().filter_map(shown).collect()
    }

    /// Sets everything to zero.
    pub fn reset(&self) {
        for Stats { times, rejected, failed, .. } in &self.commands {
            times.reset();
            [rejected, failed].iter().for_each(|counter| counter.set(0));
        }
        self.errors.lock().clear();
        self.total_errors.set(0);
    }

    fn of(&self, id: Option<CommandId>) -> Option<&Stats> {
        id.and_then(|CommandId(place)| self.commands.get(place))
    }

    /// Error replies of all kinds.
    pub fn errors(&self) -> u64 {
        self.total_errors.get()
    }

    /// The lines of `Commandstats`, for commands that were asked for at all.
    pub fn calls_lines(&self) -> String {
        let mut lines = String::new();
        for Stats { name, times, rejected, failed } in &self.commands {
            let (calls, rejected, failed) = (times.calls(), rejected.get(), failed.get());
            let micros = times.total_nanos() as f64 / 1e3;
            let each = if calls == 0 { 0.0 } else { micros / calls as f64 };
            if calls + rejected > 0 {
                write!(
                    lines,
                    "cmdstat_{name}:calls={calls},usec={micros:.0},usec_per_call={each:.2},\
                     rejected_calls={rejected},failed_calls={failed}\r\n"
                )
                .expect("writing to memory cannot fail");
            }
        }
        lines
    }

    /// The lines of `Latencystats`; accurate to within a factor of two.
    pub fn latency_lines(&self) -> String {
        let mut lines = String::new();
        for Stats { name, times, .. } in &self.commands {
            let nanos = times.nanos();
            let [p50, p99, p999] =
                [0.5, 0.99, 0.999].map(|share| nanos.quantile(share) as f64 / 1e3);
            if nanos.count() > 0 {
                write!(
                    lines,
                    "latency_percentiles_usec_{name}:p50={p50:.3},p99={p99:.3},p99.9={p999:.3}\r\n"
                )
                .expect("writing to memory cannot fail");
            }
        }
        lines
    }

    /// The lines of `Errorstats`.
    pub fn error_lines(&self) -> String {
        let errors = self.errors.lock();
        let line = |(kind, count): (&String, &u64)| format!("errorstat_{kind}:count={count}\r\n");
        errors.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_errors_are_bounded() {
        let stats = CommandStats::new(["get"].into_iter());
        for kind in 0..1000 {
            let reply = Reply::Error(format!("KIND{kind} of error").into());
            stats.count_error(None, &reply, false);
        }
        assert_eq!(stats.errors(), 1000);
        assert_eq!(stats.error_lines().lines().count(), ERROR_KINDS + 1);
    }
}
