//! Backups side by side in one directory, of which the latest are kept: `post-gres-rs-20261128T021500Z`, by the time of
//! each.
//!
//! A backup is removed only if it has such a name and holds nothing but the files of this log, and only after a newer
//! one is complete, durable and read back. Backups of other logs in the same directory are neither counted nor
//! removed. One that is being made ends with `.partial`; those that an earlier run has left unfinished are removed. A
//! lock on the directory keeps two runs apart.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::file_name;
use crate::wal::disk::{Disk, SystemDisk};
use crate::wal::guard::witness;
use crate::wal::lock::HeldDirectory;
use crate::wal::names::Names;
use crate::wal::place;
use crate::wal::read_only::ReadOnlyDisk;

/// What every name begins with.
const PREFIX: &str = "post-gres-rs-";

/// The time after it, for [`Timestamp::strftime`].
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// What the name of an incomplete one ends with.
const PARTIAL: &str = ".partial";

/// The directory of them all.
pub struct Kept {
    directory: PathBuf,
    /// The name of the log in each.
    name: OsString,
    _held: HeldDirectory,
}

impl Kept {
    /// Makes the directory if it is missing, and keeps other runs out of it.
    pub fn open(directory: &Path, name: &OsStr) -> anyhow::Result<Kept> {
        place::create_directory(directory)?;
        let held = HeldDirectory::of(directory)?.with_context(|| {
            format!("{}: another backup is being made here; try later", directory.display())
        })?;
        Ok(Kept { directory: directory.to_owned(), name: name.to_owned(), _held: held })
    }

    /// The directory of the next one, which sorts after all that are there. Removes those that an earlier run has left
    /// unfinished.
    pub fn begin(&self) -> anyhow::Result<PathBuf> {
        for path in SystemDisk.list(&self.directory)? {
            if file_name(&path).strip_suffix(PARTIAL).is_some_and(is_own)
                // Another log's, or someone's files: no reason to do without a backup of this one.
                && let Err(error) = self.remove(&path)
            {
                log::warn!("{error:#}");
            }
        }
        let there = SystemDisk.list(&self.directory)?;
        let is_there = |name: &str| there.iter().any(|path| file_name(path) == name);
        let latest = there.iter().filter_map(|path| time_of(&file_name(path))).max();
        let second = SignedDuration::from_secs(1);
        // Two in the same second, or the clock was set back: the oldest has to stay the first by name.
        let mut time = match latest {
            Some(latest) => Timestamp::now().max(latest.checked_add(second)?),
            None => Timestamp::now(),
        };
        loop {
            let name = format!("{PREFIX}{}{PARTIAL}", time.strftime(TIME));
            if !is_there(&name) {
                return Ok(self.directory.join(name));
            }
            time = time.checked_add(second)?;
        }
    }

    /// Gives a complete one its name, removes the oldest, and returns the complete one's directory; removes one that
    /// failed.
    pub fn end<T>(
        &self,
        partial: &Path,
        done: anyhow::Result<T>,
        keep: u64,
    ) -> anyhow::Result<(T, PathBuf)> {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                let left = self.remove(partial).err();
                left.iter().for_each(|left| log::warn!("{left:#}"));
                return Err(error);
            }
        };
        let name = file_name(partial);
        let name = name.strip_suffix(PARTIAL).context("it was begun with that end")?;
        let newest = self.directory.join(name);
        SystemDisk.rename(partial, &newest)?;
        SystemDisk.sync_directory(&self.directory)?;
        // Stderr, since stdout may be JSON for a script.
        eprintln!("post-gres-rs backup: {}", newest.display());
        self.prune(&newest, keep)?;
        Ok((done, newest))
    }

    fn prune(&self, newest: &Path, keep: u64) -> anyhow::Result<()> {
        let store = self.store_of(newest);
        let mut older = SystemDisk.list(&self.directory)?;
        older.retain(|path| {
            is_own(&file_name(path)) && path != newest && self.is_of_store(path, store)
        });
        older.sort_unstable();
        let spare = (older.len() as u64 + 1).saturating_sub(keep);
        for path in older.into_iter().take(spare as usize) {
            match self.remove(&path) {
                Ok(()) => eprintln!("post-gres-rs backup: {}: removed", path.display()),
                Err(error) => log::warn!("{error:#}"),
            }
        }
        Ok(())
    }

    /// The log that this is a backup of, as far as that is known.
    fn store_of(&self, backup: &Path) -> Option<u128> {
        let names = Names::new(&backup.join(&self.name));
        witness::read(&ReadOnlyDisk, &names).ok().flatten().map(|known| known.store_id)
    }

    /// Whether this is a backup of that log: another one's count for nothing here. One of which a removal has left
    /// only a part may not say which log it was of.
    fn is_of_store(&self, backup: &Path, store: Option<u128>) -> bool {
        let names = Names::new(&backup.join(&self.name));
        let Ok(files) = SystemDisk.list(backup) else { return false };
        let has_its_names = files.is_empty() || files.iter().any(|path| names.is_of_log(path));
        let known = self.store_of(backup);
        has_its_names && (known.is_none() || known == store)
    }

    /// Removes a backup, the file first without which no server starts on it.
    fn remove(&self, backup: &Path) -> anyhow::Result<()> {
        let shown = backup.display();
        let names = Names::new(&backup.join(&self.name));
        let mut files = SystemDisk.list(backup).with_context(|| format!("{shown}: cannot look"))?;
        ensure!(
            files.iter().all(|path| names.is_of_log(path)),
            "{shown}: not removed, because other files are in it than those of a backup of this log"
        );
        files.sort_unstable();
        for path in &files {
            SystemDisk.remove(path)?;
        }
        place::remove_directory(backup)
    }
}

/// The time in a name given here, if there is such a time.
fn time_of(name: &str) -> Option<Timestamp> {
    let time = name.strip_prefix(PREFIX).filter(|_| is_own(name))?;
    let time = DateTime::strptime(TIME, time).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

/// Whether a name is one of those given here.
fn is_own(name: &str) -> bool {
    let time = name.strip_prefix(PREFIX).unwrap_or_default();
    let has_form = time.len() == "20261128T021500Z".len();
    has_form
        && time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}
