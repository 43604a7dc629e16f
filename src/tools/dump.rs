//! `dump`: prints every record of a log, one a line, or as the commands that make it again.
//!
//! It changes nothing and takes no lock, so it may be used beside a running server; then it ends with what
//! had been written when it got there. On damage it prints everything before it, says so, and fails; with
//! `--skip-damage` it goes on with the next whole batch and names each gap, see [`super::salvage`]. It does
//! the same with a single file, such as one that a start or a repair has cut from a log.
//! It does not show when a record was written: the log holds no times.
//!
//! A line is `<LSN> <file> <offset of its batch> [db<number>] SET|DEL|FLUSHDB|FLUSHALL|SWAPDB <key> <value>
//! [expires <time>]`, or of a change in place `SETRANGE <key> <offset> <bytes>`, `PEXPIREAT <key> expires <time>` or
//! `PERSIST <key>`; keys and values quoted as the text protocol quotes them. The number is that of the
//! database at this place of the log; for database 0 it is not shown. The file of a batch in etcd is its key, its
//! offset 0.
//!
//! With `--resp` a change in place is left out if the value that it was made for may not be there, because something
//! before it is missing, or was not asked for; its key is named on stderr. So no value comes out that nobody has written.
//! Expiries are printed last, see `as_commands`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::as_commands::{Op, Resp, Which};
use super::bases::{Bases, Origin, named};
use super::inspect::{Ending, Inspection};
use super::json::{line, set_bytes};
use super::salvage::{self, Piece, Take};
use super::{Outcome, Place, Source, etcd, file_name, open};
use crate::command::{Change, Key, Logged, Order};
use crate::wal::names::Names;
use crate::wal::read_only::ReadOnlyDisk;
use crate::wal::reader::Replayed;
use crate::{glob, quote, record};

/// What `dump --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs dump -key 'user:*' | less
          post-gres-rs dump -resp | redis-cli -p 4243 --pipe
          post-gres-rs dump -skip-damage -wal ./wal_files/wal_file
          post-gres-rs dump ./wal_files/wal_file.17.cut

Exit code 0: everything was printed. 1: everything but the gaps, and the changes that need what is missing there: both
are named on stderr. 2: everything up to the damage, or the log cannot be read.";

/// Flags of `dump`.
#[derive(Clone, Debug, clap::Args)]
pub struct Dump {
    #[command(flatten)]
    pub(super) source: Source,

    /// Only records of this key, or of keys that fit a pattern, as in KEYS
    #[arg(long, value_name = "KEY|GLOB")]
    key: Option<String>,

    /// Only records from this LSN on
    #[arg(long, default_value_t = 0, value_name = "LSN")]
    from_lsn: u64,

    /// Only records up to this LSN
    #[arg(long, default_value_t = u64::MAX, value_name = "LSN", hide_default_value = true)]
    to_lsn: u64,

    /// Go on after damage with the next batch that is whole; what is missing is named on stderr
    #[arg(long)]
    skip_damage: bool,

    /// Print one file, such as a .cut or .torn one, instead of a log, and name what is missing in it
    #[arg(value_name = "FILE", conflicts_with = "wal")]
    file: Option<PathBuf>,

    /// Print the commands that make the keys again, in the Redis protocol
    #[arg(long, conflicts_with = "json")]
    resp: bool,
}

/// Dumps a log, or one file of it.
pub fn run(dump: &Dump, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut printer = Printer::new(dump, out);
    printer.lacks_something = dump.file.is_some() || dump.skip_damage;
    let outcome = match (&dump.file, dump.source.place()?) {
        (Some(file), _) => {
            salvage(|take| salvage::read_file(&ReadOnlyDisk, file, take), &mut printer)
        }
        (None, Place::Files(names)) if dump.skip_damage => {
            salvage(|take| salvage::read_log(&ReadOnlyDisk, &names, take), &mut printer)
        }
        (None, Place::Files(names)) => whole(&names, &mut printer),
        (None, Place::Etcd(address)) => of_etcd(&address, &mut printer),
    };
    printer.end();
    match printer.failed.take() {
        Some(error) => Err(error.into()),
        None => printer.tell_of_changes_in_place(outcome),
    }
}

/// Prints a log up to its end, or its damage.
fn whole(names: &Names, printer: &mut Printer<'_>) -> anyhow::Result<Outcome> {
    let Some(log) = open(&ReadOnlyDisk, names)? else {
        return Ok(Outcome::Well);
    };
    let inspection = log.walk(&ReadOnlyDisk, &mut |batch| printer.print(batch));
    let has_damage = inspection.damage().is_some();
    // A batch that a server is writing looks the same; in both cases no acknowledged record is missing.
    if let Ending::Torn(torn) = ending(inspection, has_damage, printer)? {
        eprintln!(
            "post-gres-rs dump: {} bytes at offset {}, LSN {}, are not a whole batch and not shown",
            torn.end - torn.offset,
            torn.offset,
            torn.lsn
        );
    }
    Ok(Outcome::Well)
}

/// Prints a log in etcd. If a compaction is faster, it begins again, unless something was printed by then.
fn of_etcd(address: &etcd::Address, printer: &mut Printer<'_>) -> anyhow::Result<Outcome> {
    printer.place = |path| path.to_string_lossy().into_owned();
    etcd::until_read(|| match once_of_etcd(&mut address.open()?, printer) {
        Err(error) if etcd::is_overtaken(&error) && printer.has_printed => {
            anyhow::bail!("not all of the log was printed: {error}, or dump a backup")
        }
        done => done,
    })
}

fn once_of_etcd(log: &mut etcd::Log, printer: &mut Printer<'_>) -> anyhow::Result<Outcome> {
    printer.order = Order::default();
    if printer.dump.skip_damage {
        return salvage(|take| log.salvage(take), printer);
    }
    let inspection = log.walk(&mut |batch| printer.print(batch))?;
    let has_damage = inspection.tail.as_ref().is_err_and(|it| etcd::damage_json(it).is_some());
    ending(inspection, has_damage, printer).map(|_| Outcome::Well)
}

/// How a log ends that was printed.
fn ending(
    inspection: Inspection,
    has_damage: bool,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Ending> {
    printer.out.flush()?;
    inspection.tail.with_context(|| match has_damage {
        true => "what can be read of the rest is printed with -skip-damage",
        false => "not all of the log was printed",
    })
}

/// Prints what can be read, and names each gap on stderr.
fn salvage(
    read: impl FnOnce(&mut Take<'_>) -> anyhow::Result<()>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Well;
    read(&mut |piece| match piece {
        Piece::Batch(batch) => printer.print(batch),
        Piece::Gap(gap) => {
            outcome = Outcome::ToDo;
            printer.bases.forget();
            // What was read before the gap is shown before it.
            printer.out.flush()?;
            eprintln!("post-gres-rs dump: {gap}");
            Ok(ControlFlow::Continue(()))
        }
    })?;
    printer.out.flush()?;
    Ok(outcome)
}

/// Prints the records that were asked for.
struct Printer<'a> {
    dump: &'a Dump,
    out: &'a mut dyn Write,
    /// See [`Resp`].
    resp: Resp,
    /// Which database has which number at the place that was read last.
    order: Order,
    /// The name of a file, as it is shown.
    place: fn(&Path) -> String,
    has_printed: bool,
    /// The values that changes in place may be made of; only for commands.
    bases: Bases,
    /// Whether something may be missing that was in the log: then what a snapshot has is no such value, because the log
    /// may end too early for it.
    lacks_something: bool,
    /// The keys whose changes in place were left out.
    left_out: BTreeSet<Key>,
    /// What went wrong with the output, which is no fault of the log.
    failed: Option<io::Error>,
}

impl<'a> Printer<'a> {
    fn new(dump: &'a Dump, out: &'a mut dyn Write) -> Printer<'a> {
        let (resp, order) = (Resp::default(), Order::default());
        Printer {
            dump,
            out,
            resp,
            order,
            place: file_name,
            has_printed: false,
            bases: Bases::default(),
            lacks_something: false,
            left_out: BTreeSet::new(),
            failed: None,
        }
    }

    /// Whether a record may be printed as a command: one of a change in place only on the value that it was made for.
    fn has_base(&mut self, lsn: u64, logged: &Logged<'_>, origin: Origin) -> bool {
        // A record that is not printed is missing.
        self.lacks_something |= lsn < self.dump.from_lsn;
        if self.lacks_something && (lsn < self.dump.from_lsn || origin == Origin::Snapshot) {
            return true;
        }
        self.bases.follow(logged, origin)
    }

    /// Prints the commands after the last record.
    fn end(&mut self) {
        if self.dump.resp && self.failed.is_none() {
            let written = self.resp.end(&self.order, self.out);
            self.failed = written.and_then(|()| self.out.flush()).err();
        }
    }

    /// Names the changes in place that were left out, and the values that may be mixed.
    fn tell_of_changes_in_place(self, outcome: anyhow::Result<Outcome>) -> anyhow::Result<Outcome> {
        let ends_early = outcome.is_err() || self.dump.to_lsn < u64::MAX;
        let mixed = self.bases.perhaps_mixed();
        if ends_early && !mixed.is_empty() {
            eprintln!(
                "post-gres-rs dump: the log changes values in place that the snapshot has: {}. If that was still being \
                 written when the last record was that was printed, newer bytes may be among older ones there",
                named(mixed.into_iter())
            );
        }
        if self.left_out.is_empty() || !self.lacks_something {
            return outcome;
        }
        eprintln!(
            "post-gres-rs dump: changes in place were left out, because the value that they were made for may not be \
             there: {}",
            named(self.left_out.iter())
        );
        outcome.map(|_| Outcome::ToDo)
    }

    fn print(&mut self, batch: &Replayed<'_>) -> anyhow::Result<ControlFlow<()>> {
        let mut all = Vec::new();
        record::read_batch(batch.frame.payload(), batch.records(), |logged| all.push(logged))?;
        let file = (self.place)(batch.path);
        let which = if self.dump.key.is_none() { Which::All } else { Which::Some };
        for (index, logged) in all.into_iter().enumerate() {
            // The keys of a snapshot are shown with its LSN.
            let lsn = match batch.is_snapshot {
                true => batch.segment.first_lsn.saturating_sub(1),
                false => batch.first_lsn() + index as u64,
            };
            if lsn > self.dump.to_lsn {
                return Ok(ControlFlow::Break(()));
            }
            let origin = if batch.is_snapshot { Origin::Snapshot } else { Origin::Log };
            let has_base = !self.dump.resp || self.has_base(lsn, &logged, origin);
            let op = Op::of(logged, &mut self.order);
            if lsn < self.dump.from_lsn || !self.dump.shows(&op) {
                continue;
            }
            if !has_base {
                self.left_out.extend(op.key().map(Key::from));
                continue;
            }
            self.has_printed = true;
            let written = match (self.dump.resp, self.dump.source.json) {
                (true, _) => self.resp.write(which, &op, &self.order, self.out),
                (_, true) => writeln!(self.out, "{}", line(&json(lsn, &file, batch.offset, &op))),
                _ => write_line(lsn, &file, batch.offset, &op, self.out),
            };
            if let Err(error) = written {
                self.failed = Some(error);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Dump {
    /// Whether a record is of the keys that were asked for. FLUSHALL and the like are records of every key.
    fn shows(&self, op: &Op<'_>) -> bool {
        match (&self.key, op.key()) {
            (Some(pattern), Some(key)) => glob::matches(pattern.as_bytes(), key),
            _ => true,
        }
    }
}

fn write_line(
    lsn: u64,
    file: &str,
    offset: u64,
    op: &Op<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut line = format!("{lsn} {file} {offset} ").into_bytes();
    if let Op::In(number @ 1.., ..) = op {
        line.extend_from_slice(format!("db{number} ").as_bytes());
    }
    match op {
        Op::In(_, _, Change::Set(parts)) => {
            line.extend_from_slice(b"SET ");
            quote::print(parts.key, &mut line);
            line.push(b' ');
            quote::print(parts.value, &mut line);
            if let Some(at) = parts.expiry {
                line.extend_from_slice(format!(" expires {}", utc(at)).as_bytes());
            }
        }
        Op::In(_, _, Change::Delete(key)) => {
            line.extend_from_slice(b"DEL ");
            quote::print(key, &mut line);
        }
        Op::In(_, _, Change::Clear) => line.extend_from_slice(b"FLUSHDB"),
        Op::In(_, _, Change::Patch(patch)) => {
            line.extend_from_slice(b"SETRANGE ");
            quote::print(patch.key, &mut line);
            line.extend_from_slice(format!(" {} ", patch.offset).as_bytes());
            quote::print(patch.bytes, &mut line);
        }
        Op::In(_, _, Change::Expire(key, at)) => {
            line.extend_from_slice(if at.is_some() { b"PEXPIREAT " } else { b"PERSIST " });
            quote::print(key, &mut line);
            if let Some(at) = at {
                line.extend_from_slice(format!(" expires {}", utc(*at)).as_bytes());
            }
        }
        Op::FlushAll => line.extend_from_slice(b"FLUSHALL"),
        Op::Swap(pairs) => {
            let pairs = pairs.iter().map(|(one, other)| format!("SWAPDB {one} {other}"));
            line.extend_from_slice(pairs.collect::<Vec<_>>().join(" ").as_bytes());
        }
    }
    line.push(b'\n');
    out.write_all(&line)
}

fn json(lsn: u64, file: &str, offset: u64, op: &Op<'_>) -> Value {
    let mut object = json!({"lsn": lsn, "file": file, "offset": offset});
    if let Op::In(number, ..) = op {
        object["db"] = (*number).into();
    }
    match op {
        Op::In(_, _, Change::Set(parts)) => {
            object["op"] = "SET".into();
            set_bytes(&mut object, "key", parts.key);
            set_bytes(&mut object, "value", parts.value);
            if let Some(at) = parts.expiry {
                object["expiry_millis"] = at.into();
                object["expires"] = utc(at).into();
            }
        }
        Op::In(_, _, Change::Delete(key)) => {
            object["op"] = "DEL".into();
            set_bytes(&mut object, "key", key);
        }
        Op::In(_, _, Change::Clear) => object["op"] = "FLUSHDB".into(),
        Op::In(_, _, Change::Patch(patch)) => {
            object["op"] = "SETRANGE".into();
            set_bytes(&mut object, "key", patch.key);
            object["at"] = patch.offset.into();
            set_bytes(&mut object, "value", patch.bytes);
            object["length_before"] = patch.before.into();
        }
        Op::In(_, _, Change::Expire(key, at)) => {
            object["op"] = if at.is_some() { "PEXPIREAT" } else { "PERSIST" }.into();
            set_bytes(&mut object, "key", key);
            if let Some(at) = *at {
                object["expiry_millis"] = at.into();
                object["expires"] = utc(at).into();
            }
        }
        Op::FlushAll => object["op"] = "FLUSHALL".into(),
        Op::Swap(pairs) => {
            object["op"] = "SWAPDB".into();
            object["swapped"] = pairs.iter().map(|&(one, other)| vec![one, other]).collect();
        }
    }
    object
}

/// Milliseconds of Unix time as a date and time in UTC; as a plain number if they are out of range.
fn utc(millis: i64) -> String {
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("at {millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_795_000_000_123, "2026-11-18T11:06:40.123Z"),
        ] {
            assert_eq!(utc(millis), expected);
        }
        assert_eq!(utc(i64::MAX), "at 9223372036854775807 ms");
    }
}
