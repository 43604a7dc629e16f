//! Backups side by side in one directory, of which the latest are kept: `post-gres-rs-20261128T021500Z`, by the time of
//! each.
//!
//! Only what has such a name and holds nothing but the files of a log is ever removed, and only after a newer one is
//! complete, durable and read back. One that is being made ends with `.partial`; what an earlier run has left of one
//! goes. A lock on the directory keeps two runs apart.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jiff::Timestamp;

use super::{Outcome, file_name};
use crate::wal::disk::{Disk, SystemDisk};
use crate::wal::guard::witness;
use crate::wal::lock::HeldDirectory;
use crate::wal::names::Names;
use crate::wal::place;
use crate::wal::read_only::ReadOnlyDisk;

/// What every name begins with.
const PREFIX: &str = "post-gres-rs-";

/// What follows it, for [`Timestamp::strftime`].
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// What the name of an incomplete one ends with.
const PARTIAL: &str = ".partial";

/// The directory of them all.
pub struct Kept {
    directory: PathBuf,
    /// The name of the log in each.
    name: OsString,
    /// The log that is copied, if that is known. Another one's backups may be in the same directory.
    store: Option<u128>,
    _held: HeldDirectory,
}

impl Kept {
    /// Makes the directory if it is missing, and keeps other runs out of it.
    pub fn open(directory: &Path, name: &OsStr, store: Option<u128>) -> anyhow::Result<Kept> {
        place::create_directory(directory)?;
        let held = HeldDirectory::of(directory)?.with_context(|| {
            format!("{}: another backup is being made here; try later", directory.display())
        })?;
        let (directory, name) = (directory.to_owned(), name.to_owned());
        Ok(Kept { directory, name, store, _held: held })
    }

    /// Where the next one is made. Removes what an earlier run has left unfinished.
    pub fn begin(&self) -> anyhow::Result<PathBuf> {
        for path in SystemDisk.list(&self.directory)? {
            if file_name(&path).strip_suffix(PARTIAL).is_some_and(is_own) {
                self.remove(&path)?;
            }
        }
        let mut time = Timestamp::now();
        loop {
            let name = format!("{PREFIX}{}", time.strftime(TIME));
            let path = self.directory.join(&name);
            if !SystemDisk.list(&self.directory)?.contains(&path) {
                return Ok(self.directory.join(name + PARTIAL));
            }
            // Two in the same second.
            time += jiff::SignedDuration::from_secs(1);
        }
    }

    /// Gives a complete one its name and removes the oldest; removes one that failed.
    pub fn end(
        &self,
        partial: &Path,
        done: anyhow::Result<Outcome>,
        keep: u64,
    ) -> anyhow::Result<Outcome> {
        let outcome = match done {
            Ok(outcome) => outcome,
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
        Ok(outcome)
    }

    fn prune(&self, newest: &Path, keep: u64) -> anyhow::Result<()> {
        let mut older = SystemDisk.list(&self.directory)?;
        // Not this one, even if the clock was set back since the others were made.
        older.retain(|path| is_own(&file_name(path)) && path != newest);
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

    /// Removes a backup of this log, the file first without which no server starts on it.
    fn remove(&self, backup: &Path) -> anyhow::Result<()> {
        let shown = backup.display();
        let names = Names::new(&backup.join(&self.name));
        let mut files = SystemDisk.list(backup).with_context(|| format!("{shown}: cannot look"))?;
        ensure!(
            files.iter().all(|path| names.is_of_log(path)),
            "{shown}: not removed, because other files are in it than those of a backup of this log"
        );
        let store = witness::read(&ReadOnlyDisk, &names).ok().flatten().map(|known| known.store_id);
        ensure!(
            store.is_none() || self.store.is_none() || store == self.store,
            "{shown}: not removed, because it is the backup of another log"
        );
        files.sort_unstable();
        for path in &files {
            SystemDisk.remove(path)?;
        }
        place::remove_directory(backup)
    }
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
