//! The names of a log's files: all stand beside the one that the user named, with a suffix.

use std::path::{Path, PathBuf};

/// The names of a log's files, all in the directory of the one that the user named.
#[derive(Clone, Debug)]
pub struct Names {
    active: PathBuf,
}

impl Names {
    /// Names for the log at `path`.
    pub fn new(path: &Path) -> Names {
        Names { active: path.to_owned() }
    }

    /// The segment that is being written.
    pub fn active(&self) -> &Path {
        &self.active
    }

    /// The segment that is prepared to follow it.
    pub fn next(&self) -> PathBuf {
        self.beside("next")
    }

    /// The reserve: a file of zeros that is given up on a full disk.
    pub fn reserve(&self) -> PathBuf {
        self.beside("reserve")
    }

    /// The file whose lock says that a server is at work here.
    pub fn lock(&self) -> PathBuf {
        self.beside("lock")
    }

    /// Where the seed's log goes once it is imported.
    pub fn imported(&self) -> PathBuf {
        self.beside("imported")
    }

    /// Where the log that it is imported into is written.
    pub fn importing(&self) -> PathBuf {
        self.beside("importing")
    }

    /// Where a file of a backup is written, before it gets its name.
    pub fn copying(&self) -> PathBuf {
        self.beside("copying")
    }

    /// The directory in which the files of a restored log are checked before they get their names.
    pub fn restoring(&self) -> PathBuf {
        self.beside("restoring")
    }

    /// Whether a file belongs to a log with this name: the file itself, or one beside it.
    pub fn is_of_log(&self, path: &Path) -> bool {
        self.suffix_of(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    }

    /// Where the bytes of a torn batch go, named by the LSN it would have had, with a number if
    /// there is such a file already.
    pub fn torn(&self, lsn: u64, number: u32) -> PathBuf {
        match number {
            0 => self.beside(&format!("{lsn}.torn")),
            _ => self.beside(&format!("{lsn}.{number}.torn")),
        }
    }

    /// The note of how far the log is durable.
    pub fn durable(&self) -> PathBuf {
        self.beside("durable")
    }

    /// Whether only a log leaves such a file: bytes that were cut off it, or the note of how far it
    /// was durable.
    pub fn is_trace(&self, path: &Path) -> bool {
        let is_left = |name: &[u8]| {
            name == b".durable" || name.ends_with(b".torn") || name.ends_with(b".cut")
        };
        self.suffix_of(path).is_some_and(is_left)
    }

    /// Where a snapshot is written.
    pub fn snapshotting(&self) -> PathBuf {
        self.beside("snapshotting")
    }

    /// The snapshot of everything up to this LSN.
    pub fn snapshot(&self, lsn: u64) -> PathBuf {
        self.beside(&format!("{lsn}.snapshot"))
    }

    /// The LSN in the name of a snapshot of this log.
    pub fn snapshot_of(&self, path: &Path) -> Option<u64> {
        let lsn = self.number_in(path, b".snapshot")?;
        (self.snapshot(lsn).file_name() == path.file_name()).then_some(lsn)
    }

    /// A segment that is full.
    pub fn archived(&self, sequence: u64) -> PathBuf {
        self.beside(&format!("{sequence:010}.log"))
    }

    /// The sequence number in the name of a full segment of this log.
    pub fn sequence_of(&self, path: &Path) -> Option<u64> {
        let sequence = self.number_in(path, b".log")?;
        (self.archived(sequence).file_name() == path.file_name()).then_some(sequence)
    }

    fn number_in(&self, path: &Path, suffix: &[u8]) -> Option<u64> {
        let number = self.suffix_of(path)?.strip_prefix(b".")?.strip_suffix(suffix)?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// What follows the log's name in a file's name. Directories are not compared: one may be
    /// spelled in several ways.
    fn suffix_of<'a>(&self, path: &'a Path) -> Option<&'a [u8]> {
        let (name, active) = (path.file_name()?, self.active.file_name()?);
        name.as_encoded_bytes().strip_prefix(active.as_encoded_bytes())
    }

    /// The directory they are all in.
    pub fn directory(&self) -> &Path {
        match self.active.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.active.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

/// Whether a directory that was listed has a file of this name. Directories are not compared: one
/// may be spelled in several ways.
pub fn is_listed(listed: &[PathBuf], path: &Path) -> bool {
    listed.iter().any(|found| found.file_name() == path.file_name())
}

/// The first candidate that no file has: what an earlier cut has kept is never overwritten.
pub fn first_free(listed: &[PathBuf], mut candidates: impl Iterator<Item = PathBuf>) -> PathBuf {
    let free = candidates.find(|name| !is_listed(listed, name));
    free.expect("there are more names than files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_beside_the_log_and_are_told_from_those_of_another() {
        let names = Names::new(Path::new("wal_files/wal_file"));
        assert_eq!(names.archived(7), Path::new("wal_files/wal_file.0000000007.log"));
        assert_eq!(names.sequence_of(&names.archived(7)), Some(7));
        assert_eq!(names.sequence_of(Path::new("wal_files/wal_file.7.log")), None);
        assert_eq!(names.sequence_of(Path::new("wal_files/other.0000000007.log")), None);
        assert_eq!(names.sequence_of(&names.next()), None);
        assert_eq!(names.snapshot_of(&names.snapshot(42)), Some(42));
        assert_eq!(names.snapshot_of(Path::new("wal_files/wal_file.042.snapshot")), None);
        assert_eq!(names.snapshot_of(&names.snapshotting()), None);
        // A log in the working directory is listed with the directory's name before it.
        let names = Names::new(Path::new("log"));
        assert_eq!(names.directory(), Path::new("."));
        assert_eq!(names.sequence_of(Path::new("./log.0000000003.log")), Some(3));
    }
}
