//! check, dump, repair, backup and restore, and the small client, as a user runs them: the real program on real logs, which a real server
//! has written and, where it must, starts on again.

mod backup;
mod check;
mod dump;
mod golden;
mod in_place;
mod inspection;
pub(crate) mod json;
mod remote;
mod repair;
mod repair_crash;
mod restore;
mod snapshot;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::{Client, PROGRAM, Server, wire};

/// What a tool has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a tool on the log in `dir`.
pub(crate) fn tool(name: &str, dir: &Path, flags: &[&str]) -> Said {
    let path = dir.join("wal_file");
    run_tool(&[&[name, "-wal", path.to_str().expect("a name in ASCII")], flags].concat())
}

/// Runs a tool with these arguments.
pub(crate) fn run_tool(args: &[&str]) -> Said {
    let mut command = Command::new(PROGRAM);
    Said::of(&command.args(args).stdin(Stdio::null()).output().expect("the program can be run"))
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Compares the exit code, and parts of the output, with what is expected.
    pub(crate) fn expect(self, code: i32, parts: &[&str]) -> Said {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for part in parts {
            let said = self.out.contains(part) || self.err.contains(part);
            assert!(said, "{part:?} was not said: {self:#?}");
        }
        self
    }
}

pub(crate) fn new_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A log of one segment, closed in order: LSN n, at offset n * 4096, sets key<n> to value<n>.
pub(crate) fn small_log(keys: usize) -> tempfile::TempDir {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for key in 1..=keys {
        assert_eq!(client.ask(&format!("SET key{key} value{key}")), "+OK");
    }
    server.stop();
    dir
}

/// A log of several segments, closed in order: LSN n sets big<n>, whose value makes a batch take up a
/// third of the first segment.
pub(crate) fn large_log(keys: usize) -> tempfile::TempDir {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for key in 1..=keys {
        let value = big(key);
        let words = [b"SET".to_vec(), format!("big{key}").into_bytes(), value];
        assert_eq!(wire::ask(&mut client, words), wire::Value::ok());
    }
    server.stop();
    assert!(dir.path().join("wal_file.0000000002.log").exists(), "there are three segments");
    dir
}

pub(crate) fn big(key: usize) -> Vec<u8> {
    format!("{key};").repeat(200_000).into_bytes()
}

/// Sets one key after the other until it is stopped, and tells the last that was acknowledged. Every tenth value is
/// large, so that segments fill up; the others come quickly.
pub(crate) fn write_until(stop: &AtomicBool, server: &Server, acknowledged: &AtomicUsize) {
    let mut client = Client::connect(server);
    for key in 1.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let value = if key % 10 == 0 { big(key) } else { b"small".to_vec() };
        let words = [b"SET".to_vec(), format!("k{key}").into_bytes(), value];
        assert_eq!(wire::ask(&mut client, words), wire::Value::ok());
        acknowledged.store(key, Ordering::Release);
    }
}

/// Writes over a part of a file.
pub(crate) fn overwrite(path: &Path, bytes: &[u8], offset: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file");
    file.write_all_at(bytes, offset).expect("the file can be written");
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, offset: u64) {
    let byte = fs::read(path).expect("the file")[offset as usize];
    overwrite(path, &[byte ^ 1], offset);
}

/// Makes a closed log look as if its server was killed in the middle of a batch: bytes that are no frame
/// replace the mark, and zeros follow them.
pub(crate) fn tear(dir: &Path) -> u64 {
    let path = active(dir);
    let len = fs::metadata(&path).expect("the log").len();
    let offset = len - 4096;
    overwrite(&path, &[b'?'; 4096], offset);
    let file = OpenOptions::new().write(true).open(&path).expect("the log");
    file.set_len(len.next_multiple_of(1 << 20)).expect("the log can grow");
    offset
}

pub(crate) fn active(dir: &Path) -> PathBuf {
    dir.join("wal_file")
}

/// Every file with its bytes and the time it was changed.
pub(crate) fn state(dir: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let modified = entry.metadata().and_then(|data| data.modified()).expect("a time");
            (entry.path(), fs::read(entry.path()).expect("a file"), modified)
        })
        .collect();
    files.sort();
    files
}

/// Starts a server on the log and says which of the keys it has.
pub(crate) fn keys_of(dir: &Path, prefix: &str, count: usize) -> Vec<usize> {
    let server = Server::start(dir, &[]);
    let mut client = Client::connect(&server);
    let found = (1..=count)
        .filter(|key| {
            wire::say(&mut client, &format!("EXISTS {prefix}{key}")) == wire::Value::Integer(1)
        })
        .collect();
    server.stop();
    found
}

/// Cuts a file.
pub(crate) fn shorten(path: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file");
    file.set_len(len).expect("the file can be cut");
}
