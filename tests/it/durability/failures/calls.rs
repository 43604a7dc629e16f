//! The real server, with every system call that it makes on its log going wrong in turn (as SQLite
//! tests its own), and killed before each one that changes anything.
//!
//! For each call, each way to go wrong and each occurrence: start, write, rotate, stop, and start again
//! without a fault. Whatever failed, nothing acknowledged is gone, nothing refused is seen, no start that
//! fails says that it listens, and no stop that fails says that it was an ordered one. A failure that
//! does not matter has no effect at all. Needs strace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use rustix::process::Signal;

use super::scenarios::{Before, OVER_A_SEGMENT, SCENARIOS, SHORT, Scenario};
use super::traced::{Fault, Trace, Traced, Way, why_not};
use super::work::{End, Journal};
use crate::common::{Client, Refusal, Rng, Server, command, eventually, seed};

use Way::{Error, Kill, Returns};

/// How many occurrences are tried one after the other; later ones follow in growing random steps, since a
/// segment is filled with zeros by up to 64 calls that are all alike.
const IN_SEQUENCE: usize = 5;

/// The machines that this runs on have two cores.
const AT_A_TIME: usize = 2;

/// One kind of fault, in one scenario.
#[derive(Clone, Copy)]
struct Job {
    scenario: usize,
    call: &'static str,
    way: Way,
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for (scenario, Scenario { calls, .. }) in SCENARIOS.iter().enumerate() {
        for &(call, ways) in *calls {
            jobs.extend(ways.iter().map(|&way| Job { scenario, call, way }));
        }
    }
    jobs
}

#[test]
fn a_failing_system_call_loses_no_acknowledged_write() {
    if let Some(why) = why_not() {
        return println!("skipped: {why}");
    }
    let mut rng = Rng::new(seed());
    let jobs = jobs();
    let mut tally = Tally::default();
    for _ in 0..10 {
        let job = jobs[rng.below(jobs.len())];
        let fault = Fault { call: job.call, way: job.way, at: 1 + rng.below(3) };
        tally.count(run(&SCENARIOS[job.scenario], fault, rng.next()));
    }
    println!("{tally}");
}

#[test]
#[ignore = "takes a minute; for CI"]
fn every_failing_system_call_loses_no_acknowledged_write() {
    if let Some(why) = why_not() {
        return println!("skipped: {why}");
    }
    let started = Instant::now();
    let seed = seed();
    let queue = Mutex::new(jobs());
    let kinds = queue.lock().expect("no panic").len();
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(job) = queue.lock().expect("no panic").pop() else {
                        return;
                    };
                    let found = sweep(job, seed);
                    // A call that is never made proves nothing; its name may be wrong.
                    let Job { scenario, call, way } = job;
                    let name = SCENARIOS[scenario].name;
                    assert!(found.reached() > 0, "{name}: {call} {way:?} was never reached");
                    tally.lock().expect("no panic").add(found);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no panic");
    let seconds = started.elapsed().as_secs_f64();
    println!("{kinds} kinds of fault; {tally}; seed {seed}, {seconds:.1} s");
}

/// Tries one occurrence after the other, until a run ends without reaching it.
fn sweep(job: Job, seed: u64) -> Tally {
    let mut rng = Rng::new(seed);
    let mut tally = Tally::default();
    let mut at = 1;
    loop {
        let fault = Fault { call: job.call, way: job.way, at };
        let outcome = run(&SCENARIOS[job.scenario], fault, rng.next());
        tally.count(outcome);
        if outcome == Outcome::NotReached {
            return tally;
        }
        let step = if at < IN_SEQUENCE { 1 } else { 1 + rng.below(at) };
        tally.left_out += step - 1;
        at += step;
    }
}

/// What a fault led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    NotReached,
    StartRefused,
    WritesClosed,
    StopFailed,
    NoEffect,
    Killed,
}

/// Runs a server into a fault, and then one without.
fn run(scenario: &Scenario, fault: Fault, seed: u64) -> Outcome {
    let shown = format!("{}: {fault:?}, seed {seed}", scenario.name);
    let _shown = ShownOnPanic(&shown);
    let place = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::new(seed);
    let dir = place.path().join("log");
    lay_out(scenario.before, &dir, &mut journal);

    let mut trace = Trace::new(&place.path().join("trace"), fault, &files(scenario, &dir));
    let mut plain = command(&dir, scenario.flags);
    let started = match scenario.traced {
        Traced::Main => Server::spawn(&mut trace.wrap(&plain, false)),
        Traced::All => Server::spawn(&mut trace.wrap(&plain, true)),
        Traced::Thread(_) | Traced::Committing => Server::spawn(&mut plain),
    };
    let outcome = match started {
        Err(refusal) => refused(&refusal, fault, place.path()),
        Ok(server) => {
            if let Traced::Thread(name) = scenario.traced {
                trace.attach(server.pid(), &[name]);
            }
            // A lone client commits on its own thread.
            let mut attach = || {
                if scenario.traced == Traced::Committing {
                    trace.attach(server.pid(), &["committer", "client-1", "client-2"]);
                }
            };
            // The mark of an idle log is a write of its own.
            let path = place.path().join("trace");
            let wait_for_mark = || {
                if scenario.traced == Traced::Committing && fault.call == "pwrite64" {
                    let text = || fs::read_to_string(&path).unwrap_or_default();
                    eventually("an idle log is marked", || text().contains("pwrite64("));
                }
            };
            let end = journal.write(&server, scenario.rounds, &mut attach, &wait_for_mark);
            ended(server, end, fault)
        }
    };
    let text = trace.finish();
    let reached = outcome == Outcome::Killed || text.contains("(INJECTED)");
    assert!(reached || outcome == Outcome::NoEffect, "{outcome:?} without a fault; trace:\n{text}");

    // The keys that a start shows are still there at the next one, and can be changed.
    for _ in 0..2 {
        let server = Server::start(&dir, &[]);
        journal.check(&server);
        assert_eq!(Client::connect(&server).ask("SET other value"), "+OK");
        server.kill9();
    }
    // The injected failure of a sync removes nothing from the disk, so no restart can show whether the
    // server heeded it: the server itself must have reported it.
    let swallowed = reached && fault.call == "fsync" && outcome == Outcome::NoEffect;
    let is_committer = scenario.traced == Traced::Committing;
    assert!(!(swallowed && is_committer), "a failed sync had no effect; trace:\n{text}");
    if reached { outcome } else { Outcome::NotReached }
}

/// The files whose calls count.
fn files(scenario: &Scenario, dir: &Path) -> Vec<PathBuf> {
    if !scenario.only.is_empty() {
        return scenario.only.iter().map(|name| dir.join(name)).collect();
    }
    let suffixes = [
        "",
        ".next",
        ".lock",
        ".durable",
        ".imported",
        ".importing",
        ".0000000001.log",
        ".0000000002.log",
    ];
    let mut files: Vec<PathBuf> =
        suffixes.iter().map(|suffix| dir.join(format!("wal_file{suffix}"))).collect();
    files.push(dir.to_owned());
    files.push(dir.parent().expect("a directory of ours").to_owned());
    files
}

fn lay_out(before: Before, dir: &Path, journal: &mut Journal) {
    fs::create_dir(dir).expect("a new directory");
    let rounds = match before {
        Before::Nothing => return,
        Before::Log => SHORT,
        Before::Interrupted => OVER_A_SEGMENT,
        Before::Foreign => {
            return journal.write_foreign(&dir.join("wal_file"));
        }
    };
    let server = Server::start(dir, &[]);
    assert_eq!(journal.write(&server, rounds, &mut || {}, &|| {}), End::Done);
    server.kill9();
    if before == Before::Interrupted {
        assert!(dir.join("wal_file.0000000001.log").exists(), "there was no rotation");
        let (active, next) = (dir.join("wal_file"), dir.join("wal_file.next"));
        let mut bytes = fs::read(&active).expect("a segment");
        let content = bytes.iter().rposition(|&byte| byte != 0).expect("a header") + 1;
        let torn = content.next_multiple_of(4096);
        bytes[torn..torn + 5000].fill(b'x');
        fs::write(&next, bytes).expect("a file");
        fs::remove_file(&active).expect("a file");
    }
}

/// A start that failed says what failed, where and why, and that it failed.
fn refused(refusal: &Refusal, fault: Fault, place: &Path) -> Outcome {
    let Refusal { code, stderr } = refusal;
    // Rust's standard library panics if it cannot close a directory that it has listed.
    if fault.call == "close" && stderr.contains("unexpected error during closedir") {
        assert_eq!(*code, Some(101), "{stderr}");
        return Outcome::StartRefused;
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    // The injected failure leaves the descriptor open, and the lock with it. (A close that the kernel fails
    // has closed it.)
    if fault.call == "close" && stderr.contains("the log is in use by another process") {
        assert_eq!(*code, Some(1), "{stderr}");
        return Outcome::StartRefused;
    }
    if fault.way == Kill {
        assert_eq!(*code, None, "{stderr}");
        return Outcome::Killed;
    }
    assert_eq!(*code, Some(1), "{stderr}");
    let error = stderr.lines().find(|line| line.contains("ERROR")).expect("an error");
    assert!(error.contains(&place.display().to_string()), "no path: {error}");
    assert!(error.contains("os error") || matches!(fault.way, Returns(_)), "no errno: {error}");
    Outcome::StartRefused
}

/// A stop that failed, or came after a failure, does not pass for an ordered one.
fn ended(server: Server, end: End, fault: Fault) -> Outcome {
    if end == End::Gone {
        assert_eq!(fault.way, Kill, "the server is gone; log:\n{}", server.log());
        let (status, _) = server.wait();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        return Outcome::Killed;
    }
    let (status, log) = server.terminate();
    assert!(!log.contains("panicked"), "{log}");
    if status.signal() == Some(Signal::KILL.as_raw()) {
        assert_eq!(fault.way, Kill);
        return Outcome::Killed;
    }
    let code = status.code().expect("an end of its own");
    match end {
        End::Refused(reason) => {
            assert_eq!(code, 1, "an ordered stop after {reason}; log:\n{log}");
            let words = match fault.way {
                Error("EIO") => "Input/output error",
                Error("ENOSPC") => "No space left",
                Error("EINTR") => "Interrupted system call",
                _ => "wal_file",
            };
            assert!(reason.contains(words), "{reason}");
            assert!(reason.contains("/log"), "no path: {reason}");
            assert!(log.contains("the log is closed for writing"), "{log}");
            Outcome::WritesClosed
        }
        _ if code == 0 => Outcome::NoEffect,
        _ => {
            assert!(code == 1 && log.contains("ERROR"), "exit code {code}; log:\n{log}");
            Outcome::StopFailed
        }
    }
}

/// How many runs ended how.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<Outcome, usize>,
    /// Occurrences that were not tried.
    left_out: usize,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn reached(&self) -> usize {
        let reached = self.outcomes.iter().filter(|(outcome, _)| **outcome != Outcome::NotReached);
        reached.map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: Tally) {
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.left_out += other.left_out;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let runs: usize = self.outcomes.values().sum();
        let (reached, left_out) = (self.reached(), self.left_out);
        write!(f, "{runs} runs, {reached} reached the fault: {:?}; ", self.outcomes)?;
        write!(f, "{left_out} occurrences of one kind left out at random; 0 writes lost")
    }
}

/// Says which run it was that failed.
struct ShownOnPanic<'a>(&'a str);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ---", self.0);
        }
    }
}
