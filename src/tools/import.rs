//! Brings in a log of the seed's own program, once.
//!
//! A line is `<opLen><op><keyLen><key><valueLen><value>`, for DEL with or without the value field:
//! `3SET5hello5world`, `3DEL5hello0`, `3DEL5hello`. Keys and values are words, so they hold no white
//! space, and a line ends a record. But a key or value that begins with a digit runs into the
//! length before it, so some lines can be read in two ways. Such a line, or one that cannot be read
//! at all, stops the import with its number, and nothing is changed.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use crate::command::{FIRST, Mutation};
use crate::entry::Entry;
use crate::record::New;
use crate::wal::disk::{Access, Disk};
use crate::wal::files::{self, Files};
use crate::wal::names::{Names, is_listed};
use crate::wal::reader::Reader;
use crate::wal::{Options, Refused, Wal};

/// Records that go into one batch.
const BATCH_RECORDS: usize = 10_000;

/// The largest file that is imported, since it is read whole: the seed's program was for learning, and
/// 1 GiB is some thirty million of its records.
const LARGEST_BYTES: u64 = 1 << 30;

/// Puts a log with the same records in place of the seed's log at `options.path`, if there is one. The
/// caller holds the lock of the log.
pub fn run(disk: &Arc<dyn Disk>, options: &Options) -> anyhow::Result<()> {
    let names = Names::new(&options.path);
    if !matches!(files::find(&**disk, &names, options.has_served())?, Files::Foreign) {
        return Ok(());
    }
    let path = &options.path;
    let text = read(&**disk, &names)?;
    let mutations = parse(path, &text)?;
    replace(disk, options, &names, &mutations)?;
    log::info!(
        "{}: imported {} records of the seed's format; the file is kept as {0}.imported",
        path.display(),
        mutations.len()
    );
    Ok(())
}

/// The bytes of the file at the log's path.
fn read(disk: &dyn Disk, names: &Names) -> anyhow::Result<Vec<u8>> {
    let kept = names.imported();
    let found = disk.list(names.directory())?;
    ensure!(
        !is_listed(&found, &kept),
        "{}: is in the way; it was kept by an earlier import. Nothing was changed. Move it away",
        kept.display()
    );
    let file = disk.open(names.active(), Access::Direct)?;
    file.sync()?;
    let mut reader = Reader::new(&*file, 0)?;
    let len = reader.file_bytes();
    ensure!(
        len <= LARGEST_BYTES,
        "{}: {len} bytes are too many to import; the limit is {LARGEST_BYTES}",
        names.active().display()
    );
    Ok(reader.bytes(0, len as usize)?.to_vec())
}

/// A crash at any moment leaves either the seed's file, untouched, or the whole new log (promise 4).
fn replace(
    disk: &Arc<dyn Disk>,
    options: &Options,
    names: &Names,
    mutations: &[Mutation],
) -> anyhow::Result<()> {
    let making = names.importing();
    if let Err(error) = fill(disk, options, names, mutations) {
        // A refused start must not leave half a log. If the removal fails as well, `error` says enough.
        drop(disk.remove(&making));
        return Err(error);
    }
    // Only a whole log may get the name under which a start would finish the renames.
    let steps = [
        (making, names.next()),
        (names.active().to_owned(), names.imported()),
        (names.next(), names.active().to_owned()),
    ];
    for (from, to) in steps {
        disk.rename(&from, &to)?;
        disk.sync_directory(names.directory())?;
    }
    Ok(())
}

/// Writes the whole log under another name, durably.
fn fill(
    disk: &Arc<dyn Disk>,
    options: &Options,
    names: &Names,
    mutations: &[Mutation],
) -> anyhow::Result<()> {
    let mut wal = Wal::create(disk.clone(), names.clone(), options.clone(), &names.importing())?;
    for batch in mutations.chunks(BATCH_RECORDS) {
        for mutation in batch {
            wal.push(|frame| {
                New::In(FIRST, mutation).encode(|piece| frame.extend_from_slice(piece))
            });
        }
        wal.commit(true)?;
    }
    wal.sync().map_err(Refused::Closed)?;
    Ok(())
}

fn parse(path: &Path, text: &[u8]) -> anyhow::Result<Vec<Mutation>> {
    let mut lines = text.split(|&byte| byte == b'\n');
    if let Err(why) = lines.next().map_or(Ok(()), begins_as_one) {
        bail!(
            "{}: damaged at offset 0, LSN 1, or not a log of this program: there is no segment's header \
             there. Nor is it a log of the seed's program: in line 1, {why}. Nothing was changed. Restore the file \
             from a backup, or name another",
            path.display()
        );
    }
    let Some(text) = text.strip_suffix(b"\n") else {
        let lines = text.split(|&byte| byte == b'\n').count();
        bail!(
            "{}: line {lines} of the seed's log has no end. Nothing was changed. Move the file away, or mend \
             the line",
            path.display()
        );
    };
    let mut mutations = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let mutation = read_line(line).with_context(|| {
            format!(
                "{}: line {} of the seed's log cannot be imported. Nothing was changed. Move the \
                 file away, or mend the line",
                path.display(),
                index + 1
            )
        })?;
        mutations.push(mutation);
    }
    Ok(mutations)
}

/// Refuses a first line that the seed's program cannot have written: then it wrote none of the file.
fn begins_as_one(line: &[u8]) -> anyhow::Result<()> {
    let (op, fields) = line.split_at_checked(4).context("it is too short")?;
    ensure!(matches!(op, b"3SET" | b"3DEL"), "it begins with neither 3SET nor 3DEL");
    ensure!(prefixed_words(fields).next().is_some(), "no length fits it");
    Ok(())
}

/// The record in a line; an error unless there is exactly one way to read it.
fn read_line(line: &[u8]) -> anyhow::Result<Mutation> {
    let (op, fields) = line.split_at_checked(4).context("it is too short")?;
    let mut readings = Vec::new();
    for (key, rest) in prefixed_words(fields) {
        match op {
            b"3SET" => readings.extend(
                prefixed_words(rest)
                    .filter(|(_, rest)| rest.is_empty())
                    .map(|(value, _)| Mutation::Set(Entry::new(key, value))),
            ),
            b"3DEL" if rest.is_empty() || rest == b"0" => {
                readings.push(Mutation::Delete(key.into()));
            }
            b"3DEL" => {}
            _ => bail!("it begins with neither 3SET nor 3DEL"),
        }
    }
    match readings.len() {
        0 => bail!("no lengths fit it"),
        1 => Ok(readings.remove(0)),
        ways => bail!("it can be read in {ways} ways, because a key or value begins with a digit"),
    }
}

/// All ways to read `<length><word>` at the start of `bytes`, each with what follows.
fn prefixed_words(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=digits).filter_map(|count| {
        let (length, rest) = bytes.split_at(count);
        if length[0] == b'0' {
            return None;
        }
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        let (word, rest) = rest.split_at_checked(length)?;
        let is_word = !word.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0);
        is_word.then_some((word, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Mutation, String> {
        read_line(line.as_bytes()).map_err(|error| error.to_string())
    }

    fn set(key: &str, value: &str) -> Mutation {
        Mutation::Set(Entry::new(key.as_bytes(), value.as_bytes()))
    }

    #[test]
    fn lines_of_the_seeds_program_are_read() {
        assert_eq!(read("3SET5hello5world"), Ok(set("hello", "world")));
        assert_eq!(read("3SET1a11hello world"), Err("no lengths fit it".into()));
        assert_eq!(read("3SET11hello-world1x"), Ok(set("hello-world", "x")));
        assert_eq!(read("3SET1123"), Err("no lengths fit it".into()));
        assert_eq!(read("3SET1a223"), Ok(set("a", "23")));
        for del in ["3DEL5hello0", "3DEL5hello"] {
            assert_eq!(read(del), Ok(Mutation::Delete(b"hello"[..].into())));
        }
    }

    #[test]
    fn lines_that_can_be_read_in_two_ways_or_none_are_refused() {
        // Key `1` with a value of 15 bytes, or key `15aaaaaaaaa` with a value of 5.
        let two = read("3SET1115aaaaaaaaa5bbbbb").expect_err("ambiguous");
        assert!(two.contains("read in 2 ways"), "{two}");
        for bad in ["", "3GET1a", "3SET", "3SETx", "3DEL5hell", "\0\0\0\0\0\0", "3SET05hello1x"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
