//! Damage: bytes that cannot be what was acknowledged. A start reports them and is refused (promise
//! 5).

use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes in the log that cannot be what was acknowledged.
#[derive(Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first record that is missing.
    pub lsn: u64,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    /// What is wrong with a batch whose payload is not made of records.
    pub const NOT_AS_WRITTEN: &str = "the records here are not as they were written";

    /// Damage at a place in a file.
    pub fn at(path: &Path, offset: u64, lsn: u64, what: impl Into<String>) -> Damage {
        Damage { path: path.to_owned(), offset, lsn, what: what.into() }
    }

    /// What is wrong and where, without advice on what to do.
    pub fn place(&self) -> String {
        let Damage { path, offset, lsn, what } = self;
        format!("{}: damaged at offset {offset}, LSN {lsn}: {what}", path.display())
    }

    /// Names this place as the origin of an error, unless the error names one itself: a replay that
    /// hands batches to other threads may report an earlier batch.
    pub fn in_batch(self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Damage>() { error } else { error.context(self) }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}. Nothing was changed. Restore the file from a backup, or move all files of the log \
             away to start without its data",
            self.place()
        )
    }
}

impl std::error::Error for Damage {}
