//! `restore`: puts a backup where a server finds its log.
//!
//! It comes from a backup's directory, or from stdin as `backup -` has written it. The files are written into a
//! directory of their own beside the log's path, made durable, and read through as a start would; only then they get
//! their names, the log's own file last. So whatever cuts a restore short, a server never starts on a part of it: there is
//! nothing at the path, or, for a moment, older files without the newest, which a start refuses.
//!
//! It never writes over anything: where any file of a log is, it refuses.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::backup::{DEFAULT_NAME, copy_files, print};
use super::check::Report;
use super::stream::{SUMS_BEGIN, SUMS_NAME};
use super::{Outcome, file_name};
use crate::wal;
use crate::wal::block::{BLOCK_BYTES, BlockBuffer};
use crate::wal::disk::{Access, Disk, SystemDisk};
use crate::wal::lock::Lock;
use crate::wal::names::Names;
use crate::wal::place;
use crate::wal::read_only::ReadOnlyDisk;

/// What `restore --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs restore /backups/monday
          post-gres-rs restore /backups/monday -wal /var/lib/post-gres-rs/wal_file
          ssh HOST post-gres-rs backup - | post-gres-rs restore -

Exit code 0: the log is there, durable, and was read back. 2: refused, or failed; the message says what is left if
anything is, and no server starts on a part of a log.";

/// The most bytes of sums: those of some hundred thousand files.
const MOST_SUMS: u64 = 8 << 20;

/// Bytes that are read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Flags of `restore`.
#[derive(Clone, Debug, clap::Args)]
pub struct Restore {
    /// The backup: its directory, or its log's own file; or -, for what `backup -` has written, from stdin
    #[arg(value_name = "BACKUP|-")]
    from: PathBuf,

    /// Path of the log that is made; there must be none. Its directory must exist, unless it is the default
    #[arg(long, value_name = "PATH")]
    wal: Option<PathBuf>,

    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// Restores a log, and prints what is in it.
pub fn run(restore: &Restore, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let path = place::resolve(restore.wal.as_deref().unwrap_or(Path::new(wal::DEFAULT_PATH)))?;
    let names = Names::new(&path);
    // What a server would say of the same path.
    let lock = Lock::acquire(&names.lock(), restore.wal.is_none())?;
    ensure!(!lock.has_served(), in_the_way(&names, &names.lock()));
    let staged = Names::new(&names.restoring().join(file_name(names.active())));
    remove_staged(&staged)?;
    refuse_what_is_there(&names)?;
    let report = fill(&restore.from, &staged).and_then(|()| {
        let report = Report::of(&ReadOnlyDisk, &staged)?;
        if report.outcome() != Outcome::Well {
            report.print(out)?;
            bail!("the backup is not whole; see above");
        }
        Ok(report)
    });
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let shown = names.active().display().to_string();
            let left = remove_staged(&staged).err();
            left.iter().for_each(|left| log::warn!("{left:#}"));
            return Err(error.context(format!("{shown}: nothing was restored")));
        }
    };
    put_in_place(&staged, &names)?;
    let head = format!("{}: restored, and read back", names.active().display());
    print(&report.named(names.active()), &head, restore.json, out)?;
    Ok(Outcome::Well)
}

fn in_the_way(names: &Names, found: &Path) -> String {
    format!(
        "{}: a log is or was here: {} is in the way. Nothing was changed. Move all its files away first, or name \
         another path with -wal",
        names.active().display(),
        found.display()
    )
}

fn refuse_what_is_there(names: &Names) -> anyhow::Result<()> {
    let found = SystemDisk.list(names.directory())?;
    let lock = names.lock();
    let mut of_log = found.iter().filter(|path| names.is_of_log(path));
    match of_log.find(|path| path.file_name() != lock.file_name()) {
        Some(path) => bail!(in_the_way(names, path)),
        None => Ok(()),
    }
}

/// Removes what was staged, now or by an earlier restore that was cut short.
fn remove_staged(staged: &Names) -> anyhow::Result<()> {
    if !staged.directory().is_dir() {
        return Ok(());
    }
    for path in SystemDisk.list(staged.directory())? {
        SystemDisk.remove(&path)?;
    }
    place::remove_directory(staged.directory())
}

fn fill(from: &Path, staged: &Names) -> anyhow::Result<()> {
    if from == Path::new("-") {
        place::create_directory(staged.directory())?;
        return unpack(&mut io::stdin().lock(), staged);
    }
    let source = match from.is_dir() {
        true => log_in(from)?,
        false => place::resolve(from)?,
    };
    copy_files(&Names::new(&source), staged, staged.directory())
}

/// The log's own file in a backup's directory: the name that all others begin with.
fn log_in(directory: &Path) -> anyhow::Result<PathBuf> {
    let mut found = SystemDisk.list(directory)?;
    found.sort_unstable();
    let shown = directory.display();
    let named = found.iter().find(|path| file_name(path) == DEFAULT_NAME).or(found.first());
    let own = named.with_context(|| format!("{shown}: there is no backup in this directory"))?;
    let names = Names::new(own);
    ensure!(
        found.iter().all(|path| names.is_of_log(path)),
        "{shown}: there is more than one log here; name the backup's own file, such as {shown}/{DEFAULT_NAME}"
    );
    Ok(own.clone())
}

/// Writes the files of a stream, and compares them with its sums.
fn unpack(stream: &mut dyn Read, staged: &Names) -> anyhow::Result<()> {
    const CUT_SHORT: &str = "the stream ends too early, or is not what `backup -` writes";
    let source = Names::new(Path::new(DEFAULT_NAME));
    let mut archive = tar::Archive::new(stream);
    let mut unpacked = HashMap::new();
    let mut sums = None;
    for entry in archive.entries().context(CUT_SHORT)?.raw(true) {
        let mut entry = entry.context(CUT_SHORT)?;
        ensure!(sums.is_none(), "there is something after the sums; {CUT_SHORT}");
        ensure!(entry.header().entry_type().is_file(), "it holds more than files; {CUT_SHORT}");
        let path = entry.path().context(CUT_SHORT)?.into_owned();
        let name =
            plain_name(&path).with_context(|| format!("{path:?} is no name of a backup's file"))?;
        if name == SUMS_NAME {
            let mut text = String::new();
            (&mut entry).take(MOST_SUMS).read_to_string(&mut text).context(CUT_SHORT)?;
            ensure!(text.len() as u64 == entry.size(), CUT_SHORT);
            sums = Some(text);
            continue;
        }
        ensure!(source.is_of_log(&path), "{name} is no name of a backup's file");
        ensure!(!unpacked.contains_key(&name), "{name} is there twice");
        let end = name.strip_prefix(DEFAULT_NAME).unwrap_or_default();
        let bytes = entry.size();
        let sum = write(&mut entry, bytes, &renamed(staged, end))
            .with_context(|| format!("{name}: cannot be unpacked"))?;
        unpacked.insert(name, (sum, bytes));
    }
    let sums = sums.with_context(|| format!("its sums are missing: {CUT_SHORT}"))?;
    compare(&sums, unpacked)?;
    // The blocks of zeros, and whatever fills the last record; a pipe is read to its end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).context(CUT_SHORT)?;
    SystemDisk.sync_directory(staged.directory())?;
    Ok(())
}

/// A name without any directory.
fn plain_name(path: &Path) -> Option<String> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => name.to_str().map(str::to_owned),
        _ => None,
    }
}

/// The file of a log that ends with this.
fn renamed(names: &Names, end: &str) -> PathBuf {
    let mut path = names.active().as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// Writes a file durably; its sum.
fn write(from: &mut dyn Read, bytes: u64, path: &Path) -> anyhow::Result<u32> {
    ensure!(bytes.is_multiple_of(BLOCK_BYTES as u64), "its length is not that of a log's file");
    let file = SystemDisk.create(path, Access::Buffered)?;
    let (mut written, mut sum) = (0, 0);
    let mut buffer = BlockBuffer::default();
    while written < bytes {
        let count = (bytes - written).min(PIECE_BYTES as u64) as usize;
        buffer.resize(count);
        from.read_exact(&mut buffer.as_mut_bytes()[..count])
            .context("the stream ends too early")?;
        sum = crc32c::crc32c_append(sum, &buffer.as_bytes()[..count]);
        file.write_at(buffer.padded(), written)?;
        written += count as u64;
    }
    file.sync()?;
    Ok(sum)
}

/// Refuses what differs from the sums, in either direction.
fn compare(sums: &str, mut unpacked: HashMap<String, (u32, u64)>) -> anyhow::Result<()> {
    let lines = sums.strip_prefix(SUMS_BEGIN).and_then(|rest| rest.strip_prefix('\n'));
    let lines = lines.context("its sums are of another version of this program")?;
    for line in lines.lines() {
        let mut words = line.splitn(3, ' ');
        let sum = words.next().and_then(|sum| u32::from_str_radix(sum, 16).ok());
        let bytes = words.next().and_then(|bytes| bytes.parse().ok());
        let (Some(sum), Some(bytes), Some(name)) = (sum, bytes, words.next()) else {
            bail!("its sums are damaged");
        };
        match unpacked.remove(name) {
            Some(found) => ensure!(found == (sum, bytes), "{name} is not as it was written"),
            None => bail!("{name} is missing"),
        }
    }
    match unpacked.keys().next() {
        Some(name) => bail!("{name} is not among its sums"),
        None => Ok(()),
    }
}

/// Gives the files their names, the log's own last: a server that finds older ones alone refuses to start.
fn put_in_place(staged: &Names, names: &Names) -> anyhow::Result<()> {
    let own = file_name(staged.active());
    let mut files = SystemDisk.list(staged.directory())?;
    files.sort_unstable_by_key(|path| file_name(path) == own);
    for (place, path) in files.iter().enumerate() {
        SystemDisk
            .rename(path, &names.directory().join(file_name(path)))
            .and_then(|()| SystemDisk.sync_directory(names.directory()))
            .with_context(|| half_way(staged, names, [place, files.len()]))?;
    }
    // The log is there, and durable.
    if let Err(error) = place::remove_directory(staged.directory()) {
        log::warn!("{error:#}");
    }
    Ok(())
}

fn half_way(staged: &Names, names: &Names, [done, all]: [usize; 2]) -> String {
    format!(
        "{}: not restored: only {done} of the log's {all} files were put in place, and the others are in {}. Remove \
         them all, and restore again",
        names.active().display(),
        staged.directory().display()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_restore_that_fails_half_way_says_where_its_files_are_and_the_logs_own_is_not_in_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let names = Names::new(&dir.path().join("wal_file"));
        let staged = Names::new(&names.restoring().join("wal_file"));
        fs::create_dir(staged.directory()).expect("a directory");
        fs::write(staged.active(), "own").expect("a file");
        fs::write(staged.durable(), "known").expect("a file");
        // No file can take the place of a directory.
        fs::create_dir(names.active()).expect("a directory");
        let error = format!("{:#}", put_in_place(&staged, &names).expect_err("it is in the way"));
        for part in ["only 1 of the log's 2 files", "wal_file.restoring", "restore again"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(names.durable().exists() && staged.active().exists());
        fs::remove_dir(names.active()).expect("it is empty");
        put_in_place(&staged, &names).expect("nothing is in the way");
        assert!(names.active().exists() && !staged.directory().exists());
    }
}
