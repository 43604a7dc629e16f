//! `dump`: prints every record of a log, one a line, or as the commands that make it again.
//!
//! It changes nothing and takes no lock, so it may be used beside a running server; then it ends with what
//! had been written when it got there. On damage it prints everything before it, says so, and fails; with
//! `--skip-damage` it goes on with the next whole batch and names each gap, see [`super::salvage`]. It does
//! the same with a single file, such as one that a start or a repair has cut from a log.
//! It does not show when a record was written: the log holds no times.
//!
//! A line is `<LSN> <file> <offset of its batch> SET|DEL|FLUSHALL <key> <value> [expires <time>]`, keys and
//! values quoted as the text protocol quotes them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};

use super::inspect::Ending;
use super::json::{line, set_bytes};
use super::salvage::{self, Piece, Take};
use super::{Outcome, Source, file_name, names, open};
use crate::command::{Change, Key};
use crate::entry::Parts;
use crate::wal::read_only::ReadOnlyDisk;
use crate::wal::reader::Replayed;
use crate::{glob, quote, record};

/// What `dump --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs dump -key 'user:*' | less
          post-gres-rs dump -resp | redis-cli -p 4243 --pipe
          post-gres-rs dump -skip-damage -wal ./wal_files/wal_file
          post-gres-rs dump ./wal_files/wal_file.17.cut

Exit code 0: everything was printed. 1: everything but the gaps, which are named on stderr. 2: everything
up to the damage, or the log cannot be read.";

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
    let mut printer = Printer { dump, out, seen: BTreeSet::new(), failed: None };
    let outcome = match &dump.file {
        Some(file) => salvage(|take| salvage::read_file(&ReadOnlyDisk, file, take), &mut printer),
        None if dump.skip_damage => {
            let names = names(&dump.source)?;
            salvage(|take| salvage::read_log(&ReadOnlyDisk, &names, take), &mut printer)
        }
        None => whole(&mut printer),
    };
    match printer.failed {
        Some(error) => Err(error.into()),
        None => outcome,
    }
}

/// Prints a log up to its end, or its damage.
fn whole(printer: &mut Printer<'_>) -> anyhow::Result<Outcome> {
    let names = names(&printer.dump.source)?;
    let Some(log) = open(&ReadOnlyDisk, &names)? else {
        return Ok(Outcome::Well);
    };
    let inspection = log.walk(&ReadOnlyDisk, &mut |batch| printer.print(batch));
    printer.out.flush()?;
    let has_damage = inspection.damage().is_some();
    let tail = inspection.tail.with_context(|| match has_damage {
        true => "what can be read of the rest is printed with -skip-damage",
        false => "not all of the log was printed",
    });
    // A batch that a server is writing looks the same; in both cases no acknowledged record is missing.
    if let Ending::Torn(torn) = tail? {
        eprintln!(
            "post-gres-rs dump: {} bytes at offset {}, LSN {}, are not a whole batch and not shown",
            torn.end - torn.offset,
            torn.offset,
            torn.lsn
        );
    }
    Ok(Outcome::Well)
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
    /// See [`write_resp`].
    seen: BTreeSet<Key>,
    /// What went wrong with the output, which is no fault of the log.
    failed: Option<io::Error>,
}

impl Printer<'_> {
    fn print(&mut self, batch: &Replayed<'_>) -> anyhow::Result<ControlFlow<()>> {
        let Printer { dump, out, seen, failed } = self;
        let mut changes = Vec::new();
        record::read_batch(batch.frame.payload(), batch.records(), |change| changes.push(change))?;
        for (index, change) in changes.into_iter().enumerate() {
            // The keys of a snapshot are shown with its LSN.
            let lsn = match batch.is_snapshot {
                true => batch.segment.first_lsn.saturating_sub(1),
                false => batch.first_lsn() + index as u64,
            };
            if lsn > dump.to_lsn {
                return Ok(ControlFlow::Break(()));
            }
            if lsn < dump.from_lsn || !dump.shows(change) {
                continue;
            }
            let written = match (dump.resp, dump.source.json) {
                (true, _) => write_resp(dump, change, seen, *out),
                (_, true) => writeln!(out, "{}", line(&json(lsn, batch, change))),
                _ => write_line(lsn, batch, change, *out),
            };
            if let Err(error) = written {
                *failed = Some(error);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Dump {
    /// Whether a record is of the keys that were asked for. FLUSHALL is a record of every key.
    fn shows(&self, change: Change<'_>) -> bool {
        let Some(pattern) = &self.key else {
            return true;
        };
        match change {
            Change::Set(parts) => glob::matches(pattern.as_bytes(), parts.key),
            Change::Delete(key) => glob::matches(pattern.as_bytes(), key),
            Change::Clear => true,
        }
    }
}

fn write_line(
    lsn: u64,
    batch: &Replayed<'_>,
    change: Change<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut line = format!("{lsn} {} {} ", file_name(batch.path), batch.offset).into_bytes();
    match change {
        Change::Set(parts) => {
            line.extend_from_slice(b"SET ");
            quote::print(parts.key, &mut line);
            line.push(b' ');
            quote::print(parts.value, &mut line);
            if let Some(at) = parts.expiry {
                line.extend_from_slice(format!(" expires {}", utc(at)).as_bytes());
            }
        }
        Change::Delete(key) => {
            line.extend_from_slice(b"DEL ");
            quote::print(key, &mut line);
        }
        Change::Clear => line.extend_from_slice(b"FLUSHALL"),
    }
    line.push(b'\n');
    out.write_all(&line)
}

fn json(lsn: u64, batch: &Replayed<'_>, change: Change<'_>) -> Value {
    let mut object = json!({"lsn": lsn, "file": file_name(batch.path), "offset": batch.offset});
    match change {
        Change::Set(parts) => {
            object["op"] = "SET".into();
            set_bytes(&mut object, "key", parts.key);
            set_bytes(&mut object, "value", parts.value);
            if let Some(at) = parts.expiry {
                object["expiry_millis"] = at.into();
                object["expires"] = utc(at).into();
            }
        }
        Change::Delete(key) => {
            object["op"] = "DEL".into();
            set_bytes(&mut object, "key", key);
        }
        Change::Clear => object["op"] = "FLUSHALL".into(),
    }
    object
}

/// `seen` holds the keys that were written: if only some keys are asked for, FLUSHALL becomes a DEL of
/// those.
fn write_resp(
    dump: &Dump,
    change: Change<'_>,
    seen: &mut BTreeSet<Key>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match change {
        Change::Set(parts) => {
            if dump.key.is_some() {
                seen.insert(parts.key.into());
            }
            write_set(parts, out)
        }
        Change::Delete(key) => request(&[b"DEL", key], out),
        Change::Clear if dump.key.is_none() => request(&[b"FLUSHALL"], out),
        Change::Clear => {
            std::mem::take(seen).iter().try_for_each(|key| request(&[b"DEL", key], out))
        }
    }
}

fn write_set(parts: Parts<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (key, value) = (parts.key, parts.value);
    match parts.expiry {
        None => request(&[b"SET", key, value], out),
        // PXAT refuses a time before 1970; any past time means the same.
        Some(at) => {
            let at = at.max(1).to_string();
            request(&[b"SET", key, value, b"PXAT", at.as_bytes()], out)
        }
    }
}

fn request(words: &[&[u8]], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "*{}\r\n", words.len())?;
    for word in words {
        write!(out, "${}\r\n", word.len())?;
        out.write_all(word)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
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
