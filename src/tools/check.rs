//! `check`: reads a log through and says what a start would find.
//!
//! It changes nothing: files are open for reading only, nothing is synced, renamed, locked or created, so
//! that it also works on a read-only directory, and beside a running server. It says so then, and does not take
//! the batch that the server is writing for a torn one.
//! A start would cut what `check` calls torn, and would refuse what it calls damage (promise 5).

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::contents::{Contents, Kept};
use super::inspect::{Ending, Inspection, Segment, Visit};
use super::json::line;
use super::progress::Amount;
use super::{Outcome, Place, Source, etcd, file_name, open};
use crate::command::Patch;
use crate::entry::Parts;
use crate::wal::chain::Tail;
use crate::wal::damage::Damage;
use crate::wal::disk::Disk;
use crate::wal::names::Names;
use crate::wal::read_only::{ReadOnlyDisk, user};

/// What `check --help` ends with.
pub const HELP: &str = "\
Example: post-gres-rs check -wal ./wal_files/wal_file

Exit code 0: a start would serve all of it. 1: a start would cut a torn batch that nobody was told is
safe. 2: damaged, or it cannot be read.";

/// Flags of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    pub(super) source: Source,
}

/// Checks a log and prints what was found.
pub fn run(check: &Check, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let report = match check.source.place()? {
        Place::Files(names) => Report::beside_a_server(&names)?,
        Place::Etcd(address) => etcd::until_read(|| Report::of_etcd(&address))?,
    };
    match check.source.json {
        true => writeln!(out, "{}", line(&report.json()))?,
        false => report.print(out)?,
    }
    Ok(report.outcome())
}

/// What is in a log.
pub struct Report {
    /// Its path, or its address.
    log: String,
    inspection: Inspection,
    contents: Contents<Counted>,
    is_unfinished: bool,
    /// The process that has the log in use.
    user: Option<String>,
    /// Who leads, of a log in etcd: for people, and for scripts.
    leader: Option<(String, Value)>,
    /// The tool that reads what is damaged.
    reads_damage: &'static str,
}

/// The length of a value, and whether it expires.
struct Counted {
    length: u64,
    expires: bool,
}

impl Kept for Counted {
    fn of(parts: Parts<'_>) -> Counted {
        Counted { length: parts.value.len() as u64, expires: parts.expiry.is_some() }
    }

    fn length(&self) -> usize {
        self.length as usize
    }

    fn patch(&mut self, patch: Patch<'_>) {
        self.length = self.length.max(patch.length() as u64);
    }

    fn expire(&mut self, at: Option<i64>) {
        self.expires = at.is_some();
    }
}

impl Report {
    /// Reads a log through that a server may be using.
    fn beside_a_server(names: &Names) -> anyhow::Result<Report> {
        let before = user(names)?;
        let mut report = Report::of(&ReadOnlyDisk, names)?;
        // A server that started or stopped meanwhile may have been writing what was read last.
        report.user = user(names)?.or(before);
        if report.user.is_some() && matches!(report.inspection.tail, Ok(Ending::Torn(_))) {
            report.inspection.tail = Ok(Ending::Running);
        }
        Ok(report)
    }

    /// Reads a log through.
    pub fn of(disk: &dyn Disk, names: &Names) -> anyhow::Result<Report> {
        let shown = names.active().display().to_string();
        let Some(log) = open(disk, names)? else {
            let inspection =
                Inspection { snapshot: None, segments: Vec::new(), tail: Ok(Ending::Empty) };
            return Ok(Report::with(shown, inspection, Contents::default()));
        };
        let (amount, walk) = (log.amount(), |visit: &mut Visit<'_>| Ok(log.walk(disk, visit)));
        let mut report = Report::read(shown, amount, walk)?;
        report.is_unfinished = log.is_unfinished();
        Ok(report)
    }

    /// Reads a log in etcd through. Fails if a compaction was faster.
    pub fn of_etcd(address: &etcd::Address) -> anyhow::Result<Report> {
        let mut log = address.open()?;
        let (amount, leader) = (log.amount(), log.leader());
        let mut report = Report::read(address.text().to_owned(), amount, |visit| log.walk(visit))?;
        report.leader = leader;
        report.reads_damage = "dump -skip-damage";
        Ok(report)
    }

    fn read(
        log: String,
        amount: Amount,
        walk: impl FnOnce(&mut Visit<'_>) -> anyhow::Result<Inspection>,
    ) -> anyhow::Result<Report> {
        let (contents, inspection) = Contents::read(amount, walk)?;
        Ok(Report::with(log, inspection, contents))
    }

    fn with(log: String, inspection: Inspection, contents: Contents<Counted>) -> Report {
        Report {
            log,
            inspection,
            contents,
            is_unfinished: false,
            user: None,
            leader: None,
            reads_damage: "repair",
        }
    }

    /// The same, of a log that has been renamed since it was read.
    pub fn named(self, path: &Path) -> Report {
        Report { log: path.display().to_string(), ..self }
    }

    /// The exit code of `check`.
    pub fn outcome(&self) -> Outcome {
        match &self.inspection.tail {
            Ok(Ending::Torn(_)) => Outcome::ToDo,
            Ok(_) => Outcome::Well,
            Err(_) => Outcome::Bad,
        }
    }

    /// Prints the report for people.
    pub fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Report { inspection, contents, .. } = self;
        let widest = inspection.files().map(|segment| file_name(&segment.path).len()).max();
        let width = widest.unwrap_or(0).max("file".len());
        writeln!(
            out,
            "{:width$}  sequence   first LSN    last LSN     batches     records         bytes",
            "file"
        )?;
        for Segment { path, batches, records, bytes, covers, tail } in inspection.files() {
            let Tail { header, next_lsn, .. } = tail;
            let name = file_name(path);
            let [sequence, first, last] = match covers {
                // It replaces everything up to its LSN.
                Some(lsn) => ["snapshot".to_owned(), "1".to_owned(), lsn.to_string()],
                None => {
                    let last =
                        if *records == 0 { "-".to_owned() } else { (next_lsn - 1).to_string() };
                    [header.sequence.to_string(), header.first_lsn.to_string(), last]
                }
            };
            writeln!(
                out,
                "{name:width$} {sequence:>9} {first:>11} {last:>11} {batches:11} {records:11} {bytes:13}"
            )?;
        }
        writeln!(
            out,
            "keys         {}, {} of them with an expiry; {} bytes of keys, {} bytes of values",
            contents.all().count(),
            expiring(contents),
            key_bytes(contents),
            value_bytes(contents)
        )?;
        let databases = contents.databases();
        if databases.keys().any(|number| *number > 0) {
            let all = databases.iter().map(|(number, keys)| format!("db{number} has {keys}"));
            writeln!(out, "databases    {}", all.collect::<Vec<_>>().join(", "))?;
        }
        let (records, batches, bytes) = self.sums();
        writeln!(
            out,
            "records      {records} in {batches} batches, {bytes} bytes in {} files",
            inspection.files().count()
        )?;
        writeln!(out, "durable LSN  {}", inspection.last_lsn())?;
        if self.is_unfinished {
            writeln!(out, "rotation     interrupted by a crash; a start finishes it")?;
        }
        if let Some(user) = &self.user {
            writeln!(
                out,
                "in use       by process {user}; what it writes meanwhile is not counted"
            )?;
        }
        if let Some((leader, _)) = &self.leader {
            writeln!(out, "leader       {leader}")?;
        }
        writeln!(out, "tail         {}", self.tail())?;
        if self.damage().is_some() {
            let Report { log, reads_damage, .. } = self;
            writeln!(
                out,
                "\nTo see what can be kept of it: post-gres-rs {reads_damage} -wal {log}"
            )?;
        }
        Ok(())
    }

    /// The end of the log, in a sentence.
    fn tail(&self) -> String {
        match &self.inspection.tail {
            Ok(Ending::Empty) => "empty; nothing was ever written".to_owned(),
            Ok(Ending::Closed) => "closed in order".to_owned(),
            Ok(Ending::Idle) => "idle mark; not closed in order, all of it is durable".to_owned(),
            Ok(Ending::Open) => "open; not closed in order, ends with a whole batch".to_owned(),
            Ok(Ending::Running) => "a server is writing after it".to_owned(),
            Ok(Ending::Stopped) => "not read".to_owned(),
            Ok(Ending::Torn(torn)) => format!(
                "torn batch of {} bytes at offset {} of {}, LSN {}; nobody was told that it is safe, \
                 and a start cuts it",
                torn.end - torn.offset,
                torn.offset,
                self.last_file(),
                torn.lsn
            ),
            Err(error) => format!("{error:#}"),
        }
    }

    fn last_file(&self) -> String {
        self.inspection.segments.last().map_or_else(String::new, |segment| file_name(&segment.path))
    }

    /// Records, batches and bytes of all files.
    fn sums(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&Segment) -> u64| self.inspection.files().map(of).sum();
        (
            sum(|segment| segment.records),
            sum(|segment| segment.batches),
            sum(|segment| segment.bytes),
        )
    }

    /// The damage, if that is how the log ends, for scripts.
    fn damage(&self) -> Option<Value> {
        let file = |damage: &Damage| {
            json!({
                "file": file_name(&damage.path),
                "offset": damage.offset,
                "lsn": damage.lsn,
                "what": damage.what,
            })
        };
        let error = self.inspection.tail.as_ref().err()?;
        self.inspection.damage().map(file).or_else(|| etcd::damage_json(error))
    }

    /// The report for scripts.
    pub fn json(&self) -> Value {
        let Report { inspection, contents, .. } = self;
        let (records, batches, bytes) = self.sums();
        let state = match (&inspection.tail, self.damage()) {
            (Ok(Ending::Torn(_)), _) => "torn",
            (Ok(_), _) => "clean",
            (Err(_), Some(_)) => "damaged",
            (Err(_), None) => "unreadable",
        };
        let tail = match &inspection.tail {
            Ok(Ending::Empty) => "empty",
            Ok(Ending::Closed) => "closed",
            Ok(Ending::Idle) => "idle",
            Ok(Ending::Open) => "open",
            Ok(Ending::Torn(_)) => "torn",
            Ok(Ending::Running) => "running",
            Ok(Ending::Stopped) | Err(_) => "unknown",
        };
        let mut object = json!({
            "log": self.log,
            "state": state,
            "files": inspection.files().map(|segment| self.file_json(segment)).collect::<Vec<_>>(),
            "keys": contents.all().count(),
            "databases": contents.databases(),
            "expiring": expiring(contents),
            "key_bytes": key_bytes(contents),
            "value_bytes": value_bytes(contents),
            "records": records,
            "batches": batches,
            "bytes": bytes,
            "durable_lsn": inspection.last_lsn(),
            "unfinished_change_of_segment": self.is_unfinished,
            "tail": tail,
        });
        if let Some(user) = &self.user {
            object["in_use_by"] = json!(user);
        }
        if let Some((_, leader)) = &self.leader {
            object["leader"] = leader.clone();
        }
        match (&inspection.tail, self.damage()) {
            (Ok(Ending::Torn(torn)), _) => {
                object["torn"] = json!({
                    "file": self.last_file(),
                    "offset": torn.offset,
                    "bytes": torn.end - torn.offset,
                    "lsn": torn.lsn,
                });
            }
            (Err(_), Some(damage)) => object["damage"] = damage,
            (Err(error), None) => object["error"] = json!(format!("{error:#}")),
            (Ok(_), _) => {}
        }
        object
    }

    fn file_json(&self, segment: &Segment) -> Value {
        let covered = segment.covers;
        json!({
            "name": file_name(&segment.path),
            "snapshot": covered.is_some(),
            "sequence": segment.tail.header.sequence,
            "first_lsn": if covered.is_some() { 1 } else { segment.tail.header.first_lsn },
            "last_lsn": covered.unwrap_or(segment.tail.next_lsn - 1),
            "batches": segment.batches,
            "records": segment.records,
            "bytes": segment.bytes,
        })
    }
}

fn expiring(contents: &Contents<Counted>) -> usize {
    contents.all().filter(|(_, counted)| counted.expires).count()
}

fn key_bytes(contents: &Contents<Counted>) -> u64 {
    contents.all().map(|(key, _)| key.len() as u64).sum()
}

fn value_bytes(contents: &Contents<Counted>) -> u64 {
    contents.all().map(|(_, counted)| counted.length).sum()
}
