//! A backup as one stream: a tar archive of the copy's files, and last of all their sums.
//!
//! ```text
//! wal_file.<lsn>.snapshot, wal_file.<sequence>.log, …, wal_file, wal_file.durable   as in a backup's directory
//! wal_file.sums                                                   "post-gres-rs backup 1", then a line for each file:
//!                                                                 CRC-32C in 8 hexadecimal digits, bytes, name
//! ```
//!
//! What tar unpacks is a backup's directory. A stream that was cut short has no sums, and a tar archive ends
//! with two blocks of zeros; `restore` takes nothing that lacks one of them or differs from its sums.
//!
//! An entry says how long it is before it begins. So the log is walked twice, over the same open files, by
//! [`super::copying`] each time: first the files of the copy are counted, then they are written, up to where the first
//! walk ended. Nothing is kept on this machine's disk.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use parking_lot::Mutex;

use crate::wal::block::{Block, bytes_of};
use crate::wal::disk::{Access, Disk, DiskFile};

/// The first line of the sums.
pub const SUMS_BEGIN: &str = "post-gres-rs backup 1";

/// The last entry's name.
pub const SUMS_NAME: &str = "wal_file.sums";

/// A unit of tar.
const UNIT: usize = 512;

/// A file of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its name in the end.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// CRC-32C of them.
    pub sum: u32,
}

/// A disk without files: each that is written to it, from its beginning to its end, is counted, and sent if there is
/// somewhere to send it.
pub struct Outflow(Arc<Mutex<State>>);

struct State {
    files: Vec<Counted>,
    target: Option<Target>,
}

/// Where to send the files, and what was counted before.
type Target = (Box<dyn Write + Send>, Vec<Counted>);

/// A file that is being written, and its number.
struct Written(Arc<Mutex<State>>, usize);

impl Outflow {
    /// Counts only.
    pub fn counting() -> Outflow {
        Outflow(Arc::new(Mutex::new(State { files: Vec::new(), target: None })))
    }

    /// Sends files that are as they were counted before.
    pub fn sending(out: Box<dyn Write + Send>, counted: Vec<Counted>) -> Outflow {
        Outflow(Arc::new(Mutex::new(State { files: Vec::new(), target: Some((out, counted)) })))
    }

    /// What was written, in order.
    pub fn files(&self) -> Vec<Counted> {
        self.0.lock().files.clone()
    }

    /// Sends the sums and the end of the archive.
    pub fn finish(self) -> anyhow::Result<()> {
        let mut state = self.0.lock();
        let State { files, target } = &mut *state;
        let (out, counted) = target.as_mut().context("there is nowhere to send it")?;
        let is_same = |(a, b): (&Counted, &Counted)| a.path == b.path && a.bytes == b.bytes;
        ensure!(
            files.len() == counted.len() && files.iter().zip(&*counted).all(is_same),
            "the log is not as it was when it was counted"
        );
        let mut sums = format!("{SUMS_BEGIN}\n");
        for Counted { path, bytes, sum } in files {
            sums.push_str(&format!("{sum:08x} {bytes} {}\n", path.display()));
        }
        out.write_all(header(Path::new(SUMS_NAME), sums.len() as u64)?.as_bytes())?;
        out.write_all(sums.as_bytes())?;
        let fill = sums.len().next_multiple_of(UNIT) - sums.len();
        out.write_all(&[0; UNIT][..fill])?;
        out.write_all(&[0; 2 * UNIT])?;
        out.flush()?;
        Ok(())
    }
}

fn header(path: &Path, bytes: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

impl Disk for Outflow {
    fn open(&self, _: &Path, _: Access) -> io::Result<Box<dyn DiskFile>> {
        Err(ErrorKind::NotFound.into())
    }

    fn create(&self, path: &Path, _: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        let number = state.files.len();
        state.files.push(Counted { path: path.to_owned(), bytes: 0, sum: 0 });
        if let Some((out, counted)) = &mut state.target {
            let Some(Counted { path, bytes, .. }) = counted.get(number) else {
                return Err(io::Error::other("the log has more files than were counted"));
            };
            out.write_all(header(path, *bytes)?.as_bytes())?;
        }
        Ok(Box::new(Written(self.0.clone(), number)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        match state.files.iter_mut().rev().find(|file| file.path == from) {
            Some(file) => file.path = to.to_owned(),
            None => return Err(ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for Written {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().files[self.1].bytes)
    }

    fn read_at(&self, _: &mut [Block], _: u64) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn write_at(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let State { files, target } = &mut *state;
        assert_eq!(self.1 + 1, files.len(), "only the latest file is written");
        let file = &mut files[self.1];
        assert_eq!(offset, file.bytes, "a stream goes on where it ended");
        let bytes = bytes_of(blocks);
        file.bytes += bytes.len() as u64;
        file.sum = crc32c::crc32c_append(file.sum, bytes);
        match target {
            Some((_, counted)) if file.bytes > counted[self.1].bytes => {
                Err(io::Error::other("a file is longer than it was counted"))
            }
            Some((out, _)) => out.write_all(bytes),
            None => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_synced_at(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        self.write_at(blocks, offset)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}
