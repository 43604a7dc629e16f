//! A log is opened while a server rotates it: the tool gets one whole log.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::double::DoubleDisk;
use crate::double::clients::{ask, open, set};
use post_gres_rs::command::Reply;
use post_gres_rs::engine::{Engine, Fsync};
use post_gres_rs::tools::inspect::{Found, Log};
use post_gres_rs::wal::disk::{Access, Disk, DiskFile};
use post_gres_rs::wal::names::Names;

const ACTIVE: &str = "/log/wal_file";

/// A disk on which a server writes through a whole segment before the first files that are opened.
struct Racing<'a> {
    disk: DoubleDisk,
    engine: &'a Engine,
    changes_left: AtomicUsize,
}

fn segments(disk: &DoubleDisk) -> usize {
    disk.files().keys().filter(|path| path.to_string_lossy().ends_with(".log")).count()
}

fn write_through_a_segment(engine: &Engine, disk: &DoubleDisk) -> u64 {
    let (before, mut written) = (segments(disk), 0);
    while segments(disk) == before {
        assert_eq!(ask(engine, set("key", &"x".repeat(3000))), Reply::Ok);
        written += 1;
    }
    written
}

impl Disk for Racing<'_> {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let left = self.changes_left.load(Ordering::Relaxed);
        if left > 0 {
            self.changes_left.store(left - 1, Ordering::Relaxed);
            write_through_a_segment(self.engine, &self.disk);
        }
        self.disk.open(path, access)
    }

    fn create(&self, _: &Path, _: Access) -> io::Result<Box<dyn DiskFile>> {
        panic!("a inspection creates nothing")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("a inspection renames nothing")
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        panic!("a inspection removes nothing")
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(directory)
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.disk.free_bytes(directory)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        panic!("a inspection syncs nothing")
    }
}

#[test]
fn segments_that_change_while_they_are_opened_are_opened_again() {
    for changes in 1..4 {
        let disk = DoubleDisk::default();
        let engine = open(&disk, Fsync::Always).expect("a fresh log");
        let least = write_through_a_segment(&engine, &disk);
        let racing =
            Racing { disk: disk.clone(), engine: &engine, changes_left: AtomicUsize::new(changes) };
        let Found::Log(log) = Log::open(&racing, &Names::new(Path::new(ACTIVE))).expect("a log")
        else {
            panic!("no log");
        };
        // Later writes go to files that are not open.
        write_through_a_segment(&engine, &disk);
        let inspection = log.walk(&racing, &mut |_| Ok(ControlFlow::Continue(())));
        assert!(inspection.tail.is_ok(), "{:#?}", inspection.tail);
        assert!(inspection.last_lsn() >= least, "{} of {least}", inspection.last_lsn());
        assert!(inspection.segments.len() > changes, "{}", inspection.segments.len());
        assert_eq!(racing.changes_left.load(Ordering::Relaxed), 0);
    }
}
