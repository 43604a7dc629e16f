//! One server per log: the lock file beside it.
//!
//! The lock is the operating system's (`flock`): it ends with the process, however that ends, so
//! there is no stale lock to remove. The segment that is being written is locked as well, see
//! [`super::disk::DiskFile::try_lock`]: a log can be reached under several names, and a lock file can be
//! deleted.
//!
//! The file's content never decides which process has the log; it is for people, and for the next
//! start:
//!
//! | line | what it says |
//! |-----:|------|
//! | 1 | the process that holds the lock, or held it last |
//! | 2 | `no log yet`, until a log was there and durable |
//!
//! So a start that finds a lock file without the second line, and no log, knows that there was one.
//! The file stays after a start that succeeded. A refused start leaves the directory as it was.

use std::fs::{self, File, FileTimes, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;

use super::place::{check_directory, create_directory, directory_of};

/// The second line of a lock file whose log was never there.
const NO_LOG_YET: &str = "no log yet";

/// How often a lock is tried before it counts as held: a tool that asks which process holds it
/// holds it itself for an instant.
const ATTEMPTS: usize = 20;

/// How long to wait in between.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(5);

/// Held as long as the log is in use.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    state: Mutex<State>,
}

/// - `file` is locked.
/// - `before` is what to put back if the start is refused.
#[derive(Debug)]
struct State {
    file: File,
    before: Option<Before>,
    has_served: bool,
}

/// What was at the lock's path before.
#[derive(Debug)]
enum Before {
    Nothing,
    /// Nothing, and no directory: this start made it.
    NoDirectory(PathBuf),
    File(Vec<u8>, FileTimes),
}

/// What has become of the lock file since it was locked.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// It is as it was.
    Still,
    /// It was deleted or replaced, and is locked again.
    Again,
    /// Another process has locked the file that is there now: the file's inode, and the process
    /// that it names.
    ByAnother(u64, String),
}

impl Lock {
    /// Takes the lock at `path`. The directory has to be there, unless it may be made.
    pub fn acquire(path: &Path, may_make_directory: bool) -> anyhow::Result<Lock> {
        let directory = directory_of(path);
        let is_made = may_make_directory && !directory.exists();
        if is_made {
            create_directory(directory)?;
        }
        check_directory(directory)?;
        let opened = Lock::open(path).and_then(|opened| {
            opened.map_err(|(_, process)| {
                let shown = path.display();
                anyhow::anyhow!(
                    "{shown}: the log is in use by process {process}; stop it first, or name another log"
                )
            })
        });
        let (file, mut before) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                if is_made {
                    // This succeeds only if it is still empty.
                    drop(fs::remove_dir(directory));
                }
                return Err(error);
            }
        };
        let has_served = match &before {
            Before::File(content, _) => says_that_a_log_was_there(content),
            Before::Nothing | Before::NoDirectory(_) => false,
        };
        if is_made {
            before = Before::NoDirectory(directory.to_owned());
        }
        let state = State { file, before: Some(before), has_served };
        let lock = Lock { path: path.to_owned(), state: Mutex::new(state) };
        lock.sign(!has_served).with_context(|| format!("{}: cannot write", path.display()))?;
        Ok(lock)
    }

    /// Opens and locks the file at `path`, or makes one. If another process has locked it: the
    /// file's inode, and the process that it names.
    fn open(path: &Path) -> anyhow::Result<Result<(File, Before), (u64, String)>> {
        let shown = path.display();
        let cannot_open = || format!("{shown}: cannot open the lock file");
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let (mut file, is_new) = match options.clone().create_new(true).open(path) {
                Ok(file) => (file, true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    match options.open(path) {
                        Ok(file) => (file, false),
                        Err(error) if error.kind() == ErrorKind::NotFound => continue,
                        Err(error) => return Err(error).with_context(cannot_open),
                    }
                }
                Err(error) => return Err(error).with_context(cannot_open),
            };
            let is_locked = insist(|| try_lock(&file));
            if !is_locked.with_context(|| format!("{shown}: cannot lock"))? {
                let inode = file.metadata().with_context(cannot_open)?.ino();
                return Ok(Err((inode, owner(&mut file))));
            }
            // A refused start may have removed it since it was opened.
            if !is_at(&file, path).with_context(cannot_open)? {
                continue;
            }
            if is_new {
                return Ok(Ok((file, Before::Nothing)));
            }
            let mut content = Vec::new();
            let times = file
                .read_to_end(&mut content)
                .and_then(|_| file.metadata()?.modified())
                .map(|modified| FileTimes::new().set_modified(modified))
                .with_context(|| format!("{shown}: cannot read"))?;
            return Ok(Ok((file, Before::File(content, times))));
        }
    }

    /// Whether a server has had a log here before.
    pub fn has_served(&self) -> bool {
        self.state.lock().has_served
    }

    /// Notes that the log is there, and durable: from now on the file stays.
    pub fn keep(&self) -> anyhow::Result<()> {
        let signed = self.sign(false);
        signed.with_context(|| format!("{}: cannot write", self.path.display()))?;
        let mut state = self.state.lock();
        state.before = None;
        state.has_served = true;
        Ok(())
    }

    /// Checks that the file at the lock's path is still the one that is locked, and locks the one
    /// that is there if it is not.
    pub fn check(&self) -> anyhow::Result<Held> {
        let still = is_at(&self.state.lock().file, &self.path);
        if still.with_context(|| format!("{}: cannot look at it", self.path.display()))? {
            return Ok(Held::Still);
        }
        match Lock::open(&self.path)? {
            Ok((file, _)) => self.state.lock().file = file,
            Err((inode, process)) => return Ok(Held::ByAnother(inode, process)),
        }
        self.sign(false)?;
        Ok(Held::Again)
    }

    fn sign(&self, is_first: bool) -> io::Result<()> {
        let process = std::process::id();
        let text = match is_first {
            true => format!("{process}\n{NO_LOG_YET}\n"),
            false => format!("{process}\n"),
        };
        overwrite(&mut self.state.lock().file, text.as_bytes())
    }
}

impl Drop for Lock {
    /// Undoes what a refused start has changed, while the lock is still held.
    fn drop(&mut self) {
        let State { file, before, .. } = self.state.get_mut();
        let undone = match before.take() {
            None => Ok(()),
            Some(Before::Nothing) => remove(file, &self.path),
            Some(Before::NoDirectory(directory)) => {
                remove(file, &self.path).and_then(|()| fs::remove_dir(directory))
            }
            Some(Before::File(content, times)) => {
                overwrite(file, &content).and_then(|()| file.set_times(times))
            }
        };
        if let Err(error) = undone {
            log::warn!("{}: cannot be left as it was before: {error}", self.path.display());
        }
    }
}

/// Removes a lock file, if it is still the one that is held.
fn remove(file: &File, path: &Path) -> io::Result<()> {
    if is_at(file, path)? { fs::remove_file(path) } else { Ok(()) }
}

fn overwrite(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    // The bytes come first: if the file were cut to nothing before, a full disk might have no room
    // for them.
    file.rewind()?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((held.dev(), held.ino()) == (found.dev(), found.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first line of a lock file. Only for a message; whatever it says, the log is in use.
pub(super) fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.ok().and(text.lines().next()).unwrap_or("unknown").trim().to_owned()
}

/// Whether a lock file says that a log was there. Only a number alone says so: the file is not
/// synced, and after a power cut during a first start it may be empty, or zeros.
pub(super) fn says_that_a_log_was_there(content: &[u8]) -> bool {
    let number = content.trim_ascii();
    !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

/// A directory that is locked against others that lock it.
pub struct HeldDirectory(#[expect(dead_code, reason = "holds the lock")] File);

impl HeldDirectory {
    /// Locks it. `None` if another process has.
    pub fn of(directory: &Path) -> anyhow::Result<Option<HeldDirectory>> {
        let cannot = || format!("{}: cannot lock the directory", directory.display());
        let file = File::open(directory).with_context(cannot)?;
        let is_locked = try_lock(&file).with_context(cannot)?;
        Ok(is_locked.then_some(HeldDirectory(file)))
    }
}

/// Tries a lock until it is taken, or it is clear that another process keeps it.
pub fn insist(mut take: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    for _ in 1..ATTEMPTS {
        if take()? {
            return Ok(true);
        }
        thread::sleep(BETWEEN_ATTEMPTS);
    }
    take()
}

/// Locks a file until it is closed; false if another process holds the lock.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
