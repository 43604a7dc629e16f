//! The flags, checked, and turned into each layer's options. Only `main` reads it.
//!
//! A flag has one dash or two; its value follows after `=` or a space. Each also comes from the environment and from a
//! file, see `sources`: a new flag needs nothing for that.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::command::Events;
use crate::engine::{self, Fsync};
use crate::messages::Form;
use crate::metrics::SlowCommands;
use crate::protocol::Limits;
use crate::scripts;
use crate::server::{self, Changeable, Settings, UnreadLimits};
use crate::tools::Tool;
use crate::upkeep;
use crate::wal;

mod check;
mod doors;
#[cfg(feature = "replicated")]
mod etcd;
mod file;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "manual")]
mod manual;
mod messages;
mod shown;
mod sources;
#[cfg_attr(not(feature = "tls"), path = "config/no_tls.rs")]
mod tls;
mod users;

use sources::Setting;

/// A key-value server: SET, GET and DEL, typed into `nc`. Every +OK is on disk.
///
/// Example: post-gres-rs -port 4242 -wal ./wal_files/wal_file
#[derive(Clone, Debug, Parser)]
#[command(
    name = "post-gres-rs",
    version,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    subcommand_help_heading = "Tools, instead of serving",
    subcommand_value_name = "TOOL",
    after_help = SOURCES_HELP
)]
pub struct Config {
    #[command(subcommand)]
    tool: Option<Tool>,

    /// File of flags, one a line: `maxmemory 2gb`
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Each setting, with its value and its source.
    #[arg(skip)]
    settings: Vec<Setting>,

    #[arg(skip)]
    warnings: Vec<String>,

    #[arg(skip)]
    task: Task,

    #[command(flatten)]
    doors: doors::Flags,

    /// Number of maps the keys are spread over; 1 is a single map under one lock
    #[arg(long, default_value_t = 8, value_name = "1-1024", value_parser = number(1, 1024))]
    shards: u64,

    /// Number of keys to make room for at start
    #[arg(long, default_value_t = 0, value_name = "KEYS", value_parser = number(0, MAX_SIZE))]
    size: u64,

    /// Path of the log; its other files are beside it. The directory must exist. Without this flag the
    /// path is ./wal_files/wal_file, and that directory is created if it is missing. Or a log in an etcd
    /// cluster: etcd://HOST:PORT,HOST:PORT,HOST:PORT/NAME
    #[arg(long, value_name = "PATH")]
    wal: Option<PathBuf>,

    #[cfg(feature = "replicated")]
    #[command(flatten)]
    etcd: etcd::Flags,

    #[cfg(feature = "http")]
    #[command(flatten)]
    http: http::Flags,

    /// Whether anything is kept on disk
    #[arg(
        long,
        default_value_t = true,
        value_name = "true|false",
        num_args = 0..=1,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    persist: bool,

    /// When a write is on disk: before its reply, within a second after it, or when the system pleases
    #[arg(long, value_enum, default_value_t = FsyncFlag::Always, value_name = "WHEN")]
    fsync: FsyncFlag,

    /// The log is compacted when it has grown since the last snapshot by this many times that snapshot's size
    #[arg(
        long = "compact-factor",
        default_value_t = upkeep::Policy::default().percent / 100,
        value_name = "1-1000",
        value_parser = number(1, 1000)
    )]
    compact_factor: u64,

    /// The log is not compacted before it has grown by this many bytes
    #[arg(
        long = "compact-least",
        default_value_t = upkeep::Policy::default().least_bytes,
        value_name = "BYTES",
        value_parser = number(0, 1 << 40)
    )]
    compact_least: u64,

    /// Number of clients that may be connected at the same time
    #[arg(
        long = "maxclients",
        default_value_t = 10_000,
        value_name = "1-1000000",
        value_parser = number(1, 1_000_000)
    )]
    max_clients: u64,

    /// Limit for keys, values and their index in memory (used_memory in INFO), such as 100mb. A write that
    /// needs more is refused; reads and deletes go on. Buffers of clients and of the log are not counted. 0
    /// is no limit
    #[arg(long = "maxmemory", default_value = "0", value_name = "BYTES", value_parser = amount)]
    max_memory: u64,

    /// The longest reply, and the most that a client may leave unread before it is closed. The longest
    /// value always fits
    #[arg(
        long = "maxreply",
        default_value = "256mb",
        value_name = "BYTES",
        value_parser = amount_from(1 << 20)
    )]
    max_reply: u64,

    /// Limit for the unread replies of all clients together; above it, the clients with the most are closed
    #[arg(
        long = "maxmemory-clients",
        default_value = "1gb",
        value_name = "BYTES",
        value_parser = amount_from(1 << 20)
    )]
    max_memory_clients: u64,

    /// The longest value, in bytes
    #[arg(
        long = "maxvalue",
        default_value_t = Limits::default().value as u64,
        value_name = "BYTES",
        value_parser = number(1024, MAX_VALUE)
    )]
    max_value: u64,

    /// How many databases there are, numbered from 0, for SELECT
    #[arg(
        long,
        default_value_t = 16,
        value_name = "1-1024",
        value_parser = number(1, engine::MOST_DATABASES.into())
    )]
    databases: u64,

    /// The longest key, in bytes
    #[arg(
        long = "maxkey",
        default_value_t = Limits::default().key as u64,
        value_name = "BYTES",
        value_parser = number(16, MAX_KEY)
    )]
    max_key: u64,

    /// The most words in a request
    #[arg(
        long = "maxwords",
        default_value_t = Limits::default().words as u64,
        value_name = "WORDS",
        value_parser = number(16, MAX_WORDS)
    )]
    max_words: u64,

    /// The longest line of text, in bytes
    #[arg(
        long = "maxline",
        default_value_t = Limits::default().line as u64,
        value_name = "BYTES",
        value_parser = number(1024, MAX_LINE)
    )]
    max_line: u64,

    /// Milliseconds after which other clients are told BUSY while a script runs; 0 is never
    #[arg(
        long = "busy-reply-threshold",
        default_value_t = 5000,
        value_name = "MILLISECONDS",
        value_parser = number(0, 1 << 31)
    )]
    busy_after: u64,

    /// Which changes of keys are told on the channels __keyspace@0__:KEY (K) and __keyevent@0__:EVENT (E),
    /// by the letters of Redis's setting: g is del, expire, rename and the like, $ strings, x expired keys, n new
    /// ones, A all but n and m
    #[arg(
        long = "notify-keyspace-events",
        default_value = "",
        value_name = "LETTERS",
        value_parser = events
    )]
    events: Events,

    #[command(flatten)]
    users: users::Flags,

    #[command(flatten)]
    messages: messages::Flags,

    /// Whether to refuse to listen beyond this machine without a password
    #[arg(long = "protected-mode", value_enum, default_value_t = Switch::Yes, value_name = "yes|no")]
    protected_mode: Switch,
}

/// The sources of flags, for the end of the help.
const SOURCES_HELP: &str = "\
Each flag is also read from the environment (-compact-factor: POST_GRES_RS_COMPACT_FACTOR) and from the file at -config.
The command line comes before the environment, and that before the file. `post-gres-rs config check` tells what holds.";

/// The use of the flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Task {
    /// Serve, or run a tool.
    #[default]
    Use,
    /// Say whether a server would take them.
    Check,
}

/// Why there is no configuration.
enum Mistake {
    /// The command line, or help that was asked for.
    Arguments(clap::Error),
    /// The environment or the file: each with its place.
    Outside(Vec<String>),
}

/// Bytes of a reply beside its value, at most: a generous guess.
const REPLY_FRAME: usize = 64 * 1024;

/// The longest value that a record and a frame can hold with a key, with room to spare.
const MAX_VALUE: u64 = 1 << 30;

/// Far longer than a key that makes sense, and short enough for every record.
const MAX_KEY: u64 = 1 << 24;

/// Each word takes 16 bytes until its request is carried out: at most 256 MiB.
const MAX_WORDS: u64 = 1 << 24;

/// Lines are for people; a program sends its largest values in RESP.
const MAX_LINE: u64 = 1 << 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    Yes,
    No,
}

/// Room for this many keys is some 100 GiB of table, far more than this server is meant for.
const MAX_SIZE: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FsyncFlag {
    Always,
    Everysec,
    No,
}

impl Config {
    /// The flags of this process. Ends the process after printing help, or the reason why they make no sense.
    pub fn from_args() -> Config {
        let args = with_two_dashes(std::env::args_os());
        #[cfg(feature = "manual")]
        if let Some(code) = manual::asked_for(&args) {
            std::process::exit(code);
        }
        let is_check = args.get(1).is_some_and(|first| first == sources::CHECKER);
        match Config::read(args, std::env::vars_os().collect()) {
            Ok(config) => config,
            Err(Mistake::Arguments(error)) => end_with(&error),
            Err(Mistake::Outside(errors)) => {
                errors.iter().for_each(|error| eprintln!("post-gres-rs: {error}"));
                std::process::exit(if is_check { 1 } else { 2 });
            }
        }
    }

    fn read(
        args: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Config, Mistake> {
        let merged = sources::merge(full_command(), args, environment).map_err(Mistake::Outside)?;
        let all = merged.command.clone().try_get_matches_from(&merged.args);
        let all = all.map_err(Mistake::Arguments)?;
        let (task, flags) = match all.subcommand() {
            Some((sources::CHECKER, tool)) => match tool.subcommand() {
                Some((_, flags)) => (Task::Check, flags),
                None => (Task::Check, tool),
            },
            _ => (Task::Use, &all),
        };
        let config = Config::from_arg_matches(flags).map_err(Mistake::Arguments)?;
        let (settings, warnings) = (merged.settings(flags), merged.warnings);
        Ok(Config { settings, warnings, task, ..config })
    }

    /// Whether to serve, and not to run a tool or to look at the flags.
    pub fn is_served(&self) -> bool {
        self.tool.is_none() && !self.is_checked()
    }

    /// Whether only to say if a server would take these flags.
    pub fn is_checked(&self) -> bool {
        self.task == Task::Check
    }

    /// Says whether it would.
    pub fn check(&self) -> ExitCode {
        check::run(self)
    }

    /// The form of messages.
    pub fn message_form(&self) -> Form {
        self.messages.form
    }

    /// Sets which commands are slow, and what becomes of them.
    pub fn begin_slow_log(&self, slow: &SlowCommands) {
        self.messages.begin(slow);
    }

    /// The settings that are not the default, and where they come from.
    pub fn summary(&self) -> String {
        shown::summary(&self.settings)
    }

    /// Warnings of likely mistakes that are not refused.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The tool to run instead of serving, if any.
    pub fn tool(&self) -> Option<&Tool> {
        self.tool.as_ref()
    }

    /// The number of maps, and of keys to make room for.
    pub fn store(&self) -> (usize, usize) {
        (self.shards as usize, self.size as usize)
    }

    /// How the log is kept, if anything is kept.
    pub fn wal(&self) -> anyhow::Result<Option<wal::Options>> {
        if !self.persist {
            return Ok(None);
        }
        Ok(Some(wal::Options {
            path: wal::place::resolve(self.wal.as_deref().unwrap_or(Path::new(wal::DEFAULT_PATH)))?,
            sync: wal::SyncPolicy::Always,
            first_segment_bytes: wal::FIRST_SEGMENT_BYTES,
            largest_segment_bytes: wal::LARGEST_SEGMENT_BYTES,
            lock: None,
        }))
    }

    /// Whether the log's directory may be created: not if `-wal` names it, since that may be on a volume
    /// that is not mounted.
    pub fn may_make_directory(&self) -> bool {
        self.wal.is_none()
    }

    /// What the engine has to know.
    pub fn engine(&self) -> engine::Options {
        engine::Options {
            fsync: match self.fsync {
                FsyncFlag::Always => Fsync::Always,
                FsyncFlag::Everysec => Fsync::EverySecond,
                FsyncFlag::No => Fsync::Never,
            },
            max_value: self.limits().value,
            max_reply: self.unread().one,
            max_memory: usize::try_from(self.max_memory).ok().filter(|most| *most > 0),
            databases: self.databases as u16,
        }
    }

    /// When the log is compacted by itself.
    pub fn compaction(&self) -> upkeep::Policy {
        upkeep::Policy { percent: self.compact_factor * 100, least_bytes: self.compact_least }
    }

    /// The longest value, which a log in etcd has to take as a part of one transaction.
    fn longest_value(&self) -> u64 {
        #[cfg(feature = "replicated")]
        if self.wal.as_deref().is_some_and(wal::place::is_address) {
            return self.max_value.min(crate::replicated::LONGEST_VALUE);
        }
        self.max_value
    }

    /// The longest key. In a log in etcd a snapshot has to take it with the longest value as one record, though each change
    /// in place by which that value grew was a short one.
    fn longest_key(&self) -> u64 {
        #[cfg(feature = "replicated")]
        if self.wal.as_deref().is_some_and(wal::place::is_address) {
            return self.max_key.min(crate::replicated::LONGEST_KEY);
        }
        self.max_key
    }

    /// What clients may leave unread.
    fn unread(&self) -> UnreadLimits {
        let bytes = |amount| usize::try_from(amount).unwrap_or(usize::MAX);
        let longest_value = bytes(self.longest_value()) + REPLY_FRAME;
        UnreadLimits {
            one: bytes(self.max_reply).max(longest_value),
            all: bytes(self.max_memory_clients),
        }
    }

    /// The limits of a request.
    pub fn limits(&self) -> Limits {
        Limits {
            key: self.longest_key() as usize,
            value: self.longest_value() as usize,
            words: self.max_words as usize,
            line: self.max_line as usize,
        }
    }

    /// What the server has to know: limits, password, and what CONFIG GET shows.
    pub fn server(&self) -> anyhow::Result<Settings> {
        let (accounts, reloads) = self.users.accounts()?;
        if !accounts.needs_password() && self.protected_mode == Switch::Yes {
            self.doors.refuse_strangers()?;
        }
        let max_clients = server::raise_descriptor_limit(self.max_clients as usize);
        let fsync = match self.fsync {
            FsyncFlag::Always => "always",
            FsyncFlag::Everysec => "everysec",
            FsyncFlag::No => "no",
        };
        let mut shown = vec![
            ("appendfsync", fsync.to_owned()),
            ("appendonly", if self.persist { "yes" } else { "no" }.to_owned()),
            ("client-output-buffer-limit", server::output_limits(self.unread().one)),
            ("databases", self.databases.to_string()),
            ("maxmemory-clients", self.max_memory_clients.to_string()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("proto-max-bulk-len", self.longest_value().to_string()),
            ("save", String::new()),
        ];
        shown.extend(self.doors.shown());
        let saves_at_once = self.persist && matches!(self.fsync, FsyncFlag::Always);
        let (limits, unread) = (self.limits(), self.unread());
        let scripts = scripts::Limits {
            key: limits.key,
            value: limits.value,
            busy_after: Duration::from_millis(self.busy_after),
        };
        let (events, changeable) = (self.events, Changeable::new(max_clients));
        Ok(Settings {
            changeable,
            accounts,
            login_time: self.users.login_time(),
            limits,
            scripts,
            unread,
            events,
            saves_at_once,
            nodes: None,
            reloads,
            shown,
        })
    }

    /// A sentence on what a power cut can take, or `None` if that is nothing.
    pub fn what_can_be_lost(&self) -> Option<&'static str> {
        match (self.persist, self.fsync) {
            (false, _) => Some("-persist=false: nothing is kept on disk, all is lost at the end"),
            (true, FsyncFlag::Everysec) => {
                Some("-fsync everysec: a power cut can lose what was written in the last second")
            }
            (true, FsyncFlag::No) => {
                Some("-fsync no: a power cut can lose everything since the start")
            }
            (true, FsyncFlag::Always) => None,
        }
    }
}

/// The server's flags and all tools.
fn full_command() -> Command {
    check::add_to(Config::command())
}

/// The classes of events, by their letters.
fn events(letters: &str) -> Result<Events, String> {
    Events::of(letters.as_bytes()).ok_or_else(|| "expected letters of g$lshzxetdnKEmA".to_owned())
}

/// `-port` becomes `--port`. The only flags of one letter are `-h` and `-V`; what follows `--` is no flag. An address of
/// etcd needs no `-wal` before it where one log is meant.
fn with_two_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut widened: Vec<OsString> = Vec::new();
    for arg in args {
        let before = widened.last().and_then(|arg| arg.to_str());
        let has_words = widened.get(1).is_some_and(|tool| HAVE_WORDS.iter().any(|it| tool == it));
        let prefix = match arg.as_encoded_bytes() {
            _ if widened.iter().any(|arg| arg == "--") => "",
            [b'-', letter, _, ..] if letter.is_ascii_alphabetic() => "-",
            bytes if is_etcd(bytes) && before != Some("--wal") && !has_words => "--wal=",
            _ => "",
        };
        widened.push([OsStr::new(prefix), &arg].into_iter().collect());
    }
    widened
}

/// Tools of which a word may look like the address of a log, and mean something else.
const HAVE_WORDS: [&str; 5] = ["import", "restore", "get", "set", "del"];

fn is_etcd(arg: &[u8]) -> bool {
    arg.starts_with(b"etcd://") || arg.starts_with(b"etcds://")
}

/// Prints help, or an error of the command line, and ends the process.
fn end_with(error: &clap::Error) -> ! {
    let text = with_one_dash(&error.render().to_string());
    match error.use_stderr() {
        true => eprint!("{text}"),
        false => print!("{text}"),
    }
    std::process::exit(error.exit_code())
}

/// `--port` is shown as `-port`, as everywhere else; the flags of other programs stay as they are.
fn with_one_dash(text: &str) -> String {
    let mut command = full_command();
    command.build();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let flags = commands.flat_map(Command::get_arguments).filter_map(Arg::get_long);
    flags
        .fold(text.to_owned(), |text, flag| text.replace(&format!("--{flag}"), &format!("-{flag}")))
}

fn number(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {least} to {most}")),
    }
}

/// A number of bytes as Redis's configuration has it: `k` is 1,000 and `kb` is 1,024.
fn amount(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit: u64 = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => 0,
    };
    let bytes = text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|_| unit > 0)
        .ok_or_else(|| "expected a number of bytes, like 1000000, 100mb or 2gb".to_owned())
}

/// The same, but not less than this.
fn amount_from(least: u64) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| match amount(text)? {
        bytes if bytes >= least => Ok(bytes),
        _ => Err(format!("expected {least} bytes or more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn config(args: &str) -> Result<Config, clap::Error> {
        let args = std::iter::once("post-gres-rs").chain(args.split_whitespace());
        Config::try_parse_from(with_two_dashes(args.map(OsString::from)))
    }

    #[test]
    fn one_dash_two_dashes_and_equals_mean_the_same() {
        for args in ["-port 17", "--port 17", "-port=17", "--port=17"] {
            assert_eq!(config(args).expect(args).doors.port(), Some(17));
        }
    }

    #[cfg(feature = "replicated")]
    #[test]
    fn the_longest_key_and_value_of_a_log_in_etcd_are_one_record() {
        let etcd = config("-maxkey 16777216 -wal etcd://host:2379/name").expect("flags").limits();
        assert_eq!((etcd.key + etcd.value) as u64, crate::replicated::LONGEST_RECORD);
        assert_eq!(config("-maxkey 16777216").expect("flags").limits().key, 16_777_216);
    }

    #[test]
    fn persist_is_a_switch_as_in_go() {
        for (args, persist) in
            [("", true), ("-persist", true), ("-persist=false", false), ("--persist false", false)]
        {
            assert_eq!(config(args).expect(args).persist, persist, "{args}");
        }
        assert!(config("-persist -port 1").expect("persist").persist);
    }

    #[test]
    fn an_amount_is_read_as_redis_reads_it() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("3b", 3), ("100MB", 100 << 20), ("2g", 2_000_000_000)]
        {
            assert_eq!(amount(text), Ok(bytes), "{text}");
        }
        for text in ["", "mb", "-1", "1.5gb", "1tb", "99999999999gb"] {
            assert!(amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn help_spells_flags_with_one_dash_and_leaves_those_of_other_programs() {
        let help = config("-help").expect_err("help").to_string() + " redis-cli --pipe";
        let shown = with_one_dash(&help);
        assert!(shown.contains(" -port <0-65535|off>"), "{shown}");
        let others: Vec<_> =
            shown.split_whitespace().filter(|word| word.starts_with("--")).collect();
        assert_eq!(others, ["--pipe"]);
    }

    #[test]
    fn a_bad_value_is_refused_with_flag_value_and_range() {
        let error = config("-shards 0").expect_err("no shards").to_string();
        for part in ["--shards", "'0'", "1 to 1024"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
