//! Servers from outside: started in a directory, asked until they answer, stopped by SIGTERM.
//!
//! A server never outlives its [`Server`] value. Its output goes to a file in its
//! directory; if the load program fails, the end of that file is shown.

use std::fs::{self, File};
use std::iter;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Options;
use crate::clients;
use crate::limits::MOST_CLIENTS;
use crate::protocol::{Protocol, Requests, expect_success};

/// How often a server is asked whether it is up, or gone: the resolution of `--restart`.
const ASK_AGAIN: Duration = Duration::from_millis(1);
/// How often INFO is asked for: it costs the server a tenth of a millisecond.
const ASK_INFO_AGAIN: Duration = Duration::from_millis(5);
/// How long a start, a stop or a compaction may take. Redis needs 1 to 1.6 s for a million records.
const PATIENCE: Duration = Duration::from_secs(300);
/// The unit of processor times in /proc, USER_HZ: 100 on every machine this program may meet.
const TICKS_PER_SECOND: f64 = 100.0;
/// What a server prints, in its directory.
pub const OUTPUT_FILE: &str = "output_of_the_server.txt";
/// How much of a failed server's output is shown: about a screen.
const LAST_WORDS_BYTES: usize = 2000;

/// A terabyte, the most that the flag takes, keeps any log that fits here from being compacted.
const NEVER_SO_LONG: &str = "1099511627776";

/// How one of the compared servers is started, and which requests it gets.
pub struct Program<'a> {
    pub name: String,
    pub is_ours: bool,
    pub requests: Requests,
    /// The command line, before {ours}, {port} and {dir} are replaced.
    words: Vec<String>,
    options: &'a Options,
}

impl<'a> Program<'a> {
    /// From `[NAME=]COMMAND LINE`; without a name it is called after its first word. Quotes only serve
    /// to make an empty word, as in `--save ""`.
    pub fn new(text: &str, options: &'a Options) -> Result<Program<'a>> {
        let mut words = text.split_whitespace().map(|word| word.trim_matches('"').to_string());
        let first = words.next().context("an empty command line")?;
        let (name, binary) = match first.split_once('=') {
            Some(name_and_binary) => name_and_binary,
            None => (first.rsplit('/').next().unwrap_or(&first), &first[..]),
        };
        let is_ours = binary == "{ours}";
        let protocol = if is_ours { options.protocol } else { Protocol::Resp };
        let mut program = Program {
            name: name.to_string(),
            is_ours,
            requests: Requests::new(protocol, options.value_bytes, options.expire),
            words: iter::once(binary.to_string()).chain(words).collect(),
            options,
        };
        if is_ours {
            program.add_flag("-maxclients", &MOST_CLIENTS.to_string());
        }
        Ok(program)
    }

    /// From now on it compacts its log only when it is asked to. A peer must know Redis's flags.
    pub fn compact_only_on_demand(&mut self) {
        match self.is_ours {
            true => self.add_flag("-compact-least", NEVER_SO_LONG),
            false => self.add_flag("--auto-aof-rewrite-percentage", "0"),
        }
    }

    /// Adds a flag, unless the command line has it already.
    fn add_flag(&mut self, flag: &str, value: &str) {
        let name = |word: &str| word.trim_start_matches('-').to_string();
        if !self.words.iter().any(|word| word.starts_with('-') && name(word) == name(flag)) {
            self.words.extend([flag.to_string(), value.to_string()]);
        }
    }

    /// An empty directory for its files, removed when it is dropped.
    pub fn new_home(&self) -> Result<TempDir> {
        let home = tempfile::Builder::new()
            .prefix(&format!("{}-", self.name))
            .tempdir_in(&self.options.dir);
        home.context("cannot make a directory below --dir")
    }

    /// Starts the program on a free port with its files in `home`, and waits until it answers.
    pub fn start(&self, home: &TempDir) -> Result<Server<'_>> {
        self.start_slowed(home, None)
    }

    /// The same with each sync slowed by so much, in place of `--slow-us`.
    pub fn start_slowed(&self, home: &TempDir, slowed: Option<Duration>) -> Result<Server<'_>> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let output_path = home.path().join(OUTPUT_FILE);
        let output = File::options().create(true).append(true).open(&output_path)?;
        let mut words = self.words.iter().map(|word| {
            word.replace("{ours}", env!("CARGO_BIN_EXE_post-gres-rs"))
                .replace("{port}", &port.to_string())
                .replace("{dir}", &home.path().to_string_lossy())
        });
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        if let Some(library) = &self.options.preload {
            command.env("LD_PRELOAD", library);
        }
        let micros = slowed.map(|time| time.as_micros() as u64).or(self.options.slow_us);
        if let Some(micros) = micros {
            command.env("SLOWSYNC_US", micros.to_string());
        }

        let started = Instant::now();
        let process = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let mut server = Server {
            program: self,
            port,
            ready_after: Duration::ZERO,
            process,
            stopped: false,
            output_path,
        };
        server.wait_until_ready()?;
        server.ready_after = started.elapsed();
        Ok(server)
    }
}

/// A running server.
pub struct Server<'a> {
    pub program: &'a Program<'a>,
    pub port: u16,
    /// From exec to the first answer.
    pub ready_after: Duration,
    process: Child,
    stopped: bool,
    output_path: PathBuf,
}

/// What ours counts about its log since it started.
pub struct LogCounters {
    pub records: u64,
    pub syncs: u64,
}

impl Server<'_> {
    fn wait_until_ready(&mut self) -> Result<()> {
        let name = &self.program.name;
        let patience_ends = Instant::now() + PATIENCE;
        while !self.is_ready() {
            if let Some(status) = self.process.try_wait()? {
                bail!("{name} ended before it served: {status}");
            }
            ensure!(Instant::now() < patience_ends, "{name} does not answer");
            thread::sleep(ASK_AGAIN);
        }
        Ok(())
    }

    /// Redis answers while it loads, too, but only to say so.
    fn is_ready(&self) -> bool {
        let reply = self.ask(&self.program.requests.ping);
        reply.is_ok_and(|reply| !reply.starts_with(b"-LOADING"))
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let name = &self.program.name;
        let patience_ends = Instant::now() + PATIENCE;
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < patience_ends, "{name} does not stop");
            thread::sleep(ASK_AGAIN);
        };
        ensure!(status.success(), "{name} was asked to stop and ended with {status}");
        self.stopped = true;
        Ok(())
    }

    /// One question on a connection of its own; the answer is the whole reply as it came.
    pub fn ask(&self, request: &[u8]) -> Result<Vec<u8>> {
        clients::ask(&mut clients::connect(self.port)?, request)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Processor time of all its threads so far, in user and in kernel mode.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The program's name is in parentheses and may hold anything. After it, utime and stime
        // are the twelfth and thirteenth field.
        let (_, fields) = stat.rsplit_once(") ").context("no name in /proc/PID/stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
    }

    /// Its memory that is in RAM, VmRSS.
    pub fn resident_kib(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that its resident memory ever was, VmHWM.
    pub fn peak_kib(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let number = number_after(&status, field);
        number.with_context(|| format!("no {field} in /proc/PID/status"))
    }

    /// Has the log compacted, and returns how long that took, to within [`ASK_INFO_AGAIN`].
    pub fn compact(&self) -> Result<Duration> {
        self.wait_for_compactions()?;
        let mut connection = clients::connect(self.port)?;
        let done_before = compactions_done(&info(&mut connection)?);
        let started = Instant::now();
        let reply = clients::ask(&mut connection, &Protocol::Text.encode(&["BGREWRITEAOF"]))?;
        expect_success(&reply).context("BGREWRITEAOF")?;
        // Ours may not have begun when it answers, and then nothing runs yet; but it counts.
        while done_before.is_some() && compactions_done(&info(&mut connection)?) == done_before {
            let name = &self.program.name;
            ensure!(started.elapsed() < PATIENCE, "{name} does not end its compaction");
            thread::sleep(ASK_INFO_AGAIN);
        }
        self.wait_for_compactions()?;
        let took = started.elapsed();
        let succeeded = info(&mut connection)?.contains("aof_last_bgrewrite_status:ok");
        ensure!(succeeded, "{}'s compaction failed", self.program.name);
        Ok(took)
    }

    /// Waits until no compaction is running or about to.
    pub fn wait_for_compactions(&self) -> Result<()> {
        let mut connection = clients::connect(self.port)?;
        let patience_ends = Instant::now() + PATIENCE;
        while number_after(&info(&mut connection)?, "aof_rewrite_in_progress:") == Some(1)
            || number_after(&info(&mut connection)?, "aof_rewrite_scheduled:") == Some(1)
        {
            let name = &self.program.name;
            ensure!(Instant::now() < patience_ends, "{name} does not end its compaction");
            thread::sleep(ASK_INFO_AGAIN);
        }
        Ok(())
    }

    /// What ours counts; `None` for a peer, and for a server that does not say.
    pub fn log_counters(&self) -> Result<Option<LogCounters>> {
        if !self.program.is_ours {
            return Ok(None);
        }
        let info = info(&mut clients::connect(self.port)?)?;
        let counters = number_after(&info, "wal_records:").zip(number_after(&info, "wal_syncs:"));
        Ok(counters.map(|(records, syncs)| LogCounters { records, syncs }))
    }
}

/// On the way out after an error: says how the server fared, and kills it.
impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        let state = match self.process.try_wait() {
            Ok(Some(status)) => format!("had ended, {status}"),
            _ => "was still running".to_string(),
        };
        let output = fs::read(&self.output_path).unwrap_or_default();
        let end = String::from_utf8_lossy(&output[output.len().saturating_sub(LAST_WORDS_BYTES)..]);
        let name = &self.program.name;
        eprintln!("{name} {state}; the end of its output:\n{end}");

        // Both fail only if the process is gone already, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The text of INFO. All servers understand this line, in either protocol.
fn info(connection: &mut TcpStream) -> Result<String> {
    let reply = clients::ask(connection, &Protocol::Text.encode(&["INFO"]))?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// How many compactions ours has ended, well or badly. Redis counts those that it began.
fn compactions_done(info: &str) -> Option<u64> {
    let count = |name| number_after(info, name);
    count("wal_compactions:")
        .zip(count("wal_compactions_failed:"))
        .map(|(done, failed)| done + failed)
}

/// The number on the line that begins with `name`.
pub fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
