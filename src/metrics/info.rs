//! A page of INFO. Names are Redis's if Redis has one, so that dashboards find them; our own of the log begin
//! with `wal_`.
//!
//! Each section is shown by its owner: the engine shows the store and the log, the server shows the clients.
//! This file knows the form of a page, and shows what is counted here.

use std::fmt::{Display, Write};

use super::{Metrics, SpreadCounter};

/// A page, which its owners fill section by section.
pub struct Info<'a> {
    asked: &'a [String],
    text: String,
}

/// When a section is part of the page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Also if no section is named, or `default` is.
    Usually,
    /// If it is named, or `all` or `everything` is: it has a line for each command.
    OnRequest,
}

impl Info<'_> {
    /// An empty page of the sections that were asked for.
    pub fn new(asked: &[String]) -> Info<'_> {
        Info { asked, text: String::new() }
    }

    /// Adds a section, if it was asked for.
    pub fn section(&mut self, title: &str, fields: &[(&str, &dyn Display)]) {
        let line = |(name, value): &(&str, &dyn Display)| format!("{name}:{value}\r\n");
        self.lines(title, Shown::Usually, &fields.iter().map(line).collect::<String>());
    }

    fn lines(&mut self, title: &str, shown: Shown, lines: &str) {
        let named = |name: &str| self.asked.iter().any(|asked| asked.eq_ignore_ascii_case(name));
        let usual = self.asked.is_empty() || named("default");
        let all = named("all") || named("everything");
        if all || named(title) || usual && shown == Shown::Usually {
            let gap = if self.text.is_empty() { "" } else { "\r\n" };
            write!(self.text, "{gap}# {title}\r\n{lines}").expect("writing to memory cannot fail");
        }
    }

    /// The whole page.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Metrics {
    /// The section `Stats`: what was done since the start, and `more` that its owner has counted.
    pub fn show_stats(&self, info: &mut Info<'_>, more: &[(&str, &dyn Display)]) {
        let [answered, input, output] =
            [&self.answered, &self.input_bytes, &self.output_bytes].map(SpreadCounter::get);
        let kibibytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
        let counted: [(&str, &dyn Display); 17] = [
            ("total_connections_received", &self.total_connections.get()),
            ("total_commands_processed", &answered),
            ("instantaneous_ops_per_sec", &self.answer_rate.per_second(answered)),
            ("total_net_input_bytes", &input),
            ("total_net_output_bytes", &output),
            ("instantaneous_input_kbps", &kibibytes(self.input_rate.per_second(input))),
            ("instantaneous_output_kbps", &kibibytes(self.output_rate.per_second(output))),
            ("rejected_connections", &self.rejected_connections.get()),
            ("acl_access_denied_cmd", &self.denied_commands.get()),
            ("acl_access_denied_auth", &self.failed_logins.get()),
            ("expired_keys", &self.expired.get()),
            ("evicted_keys", &0),
            ("evicted_clients", &self.evicted_clients.get()),
            ("keyspace_hits", &self.hits.get()),
            ("keyspace_misses", &self.misses.get()),
            ("total_error_replies", &self.commands.errors()),
            ("client_output_buffer_limit_disconnections", &self.unread_disconnections.get()),
        ];
        info.section("Stats", &[&counted[..], more].concat());
    }

    /// The section `CPU`: processor time in seconds.
    pub fn show_cpu(&self, info: &mut Info<'_>) {
        let process = Process::look();
        info.section(
            "CPU",
            &[
                ("used_cpu_sys", &format_args!("{:.2}", process.system_seconds)),
                ("used_cpu_user", &format_args!("{:.2}", process.user_seconds)),
            ],
        );
    }

    /// The sections that have a line for each kind of error, or for each command.
    pub fn show_commands(&self, info: &mut Info<'_>) {
        info.lines("Errorstats", Shown::Usually, &self.commands.error_lines());
        info.lines("Commandstats", Shown::OnRequest, &self.commands.calls_lines());
        info.lines("Latencystats", Shown::OnRequest, &self.commands.latency_lines());
    }
}

/// What the kernel says of this process.
pub struct Process {
    /// Memory that is mapped and present, in bytes.
    pub memory: u64,
    /// Processor time that its own code has taken.
    pub user_seconds: f64,
    /// Processor time that the kernel has taken for it.
    pub system_seconds: f64,
    /// Threads that it has.
    pub threads: u64,
}

impl Process {
    /// Reads `/proc`; zeros if there is none.
    pub fn look() -> Process {
        // `/proc/self/stat` counts in hundredths of a second on every Linux, whatever its own clock.
        const TICKS_PER_SECOND: f64 = 100.0;
        let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        let status = read("/proc/self/status");
        let number = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        let stat = read("/proc/self/stat");
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let seconds = |field: usize| {
            let ticks = fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok());
            ticks.unwrap_or_default() / TICKS_PER_SECOND
        };
        Process {
            memory: number("VmRSS:").unwrap_or(0) * 1024,
            threads: number("Threads:").unwrap_or(0),
            user_seconds: seconds(11),
            system_seconds: seconds(12),
        }
    }

    /// How many descriptors are open, and may be.
    pub fn descriptors() -> (u64, u64) {
        // Since Linux 6.2 the size of the directory is their number; before, they have to be counted.
        let size = std::fs::metadata("/proc/self/fd").map_or(0, |fds| fds.len());
        let count = || std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let limit = limit.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        (if size > 0 { size } else { count() }, limit.unwrap_or(0))
    }
}
