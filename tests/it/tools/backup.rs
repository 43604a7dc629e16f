//! backup: a copy that starts, of a log at rest and of one that is being written.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{
    active, flip, json, keys_of, large_log, new_dir, small_log, state, tear, tool, write_until,
};
use crate::common::Server;

#[test]
fn a_copy_holds_what_the_log_holds_and_starts() {
    let dir = large_log(14);
    let before = state(dir.path());
    let copy = dir
        .path()
        .parent()
        .expect("a parent")
        .join(format!("{}-copy/deep", dir.path().file_name().expect("a name").to_string_lossy()));
    let to = copy.to_str().expect("a name in ASCII");
    tool("backup", dir.path(), &[to]).expect(0, &["14 in 14 batches", "closed in order"]);
    assert!(state(dir.path()) == before, "the log itself was changed");
    assert_eq!(keys_of(&copy, "big", 14), (1..=14).collect::<Vec<_>>());
    tool("backup", dir.path(), &[to]).expect(2, &["is not empty"]);
    fs::remove_dir_all(copy.parent().expect("a parent")).expect("own files");
    let said = tool("backup", dir.path(), &[to, "-json"]).expect(0, &["\"state\":\"clean\""]);
    json::assert_valid(&said.out);
    fs::remove_dir_all(copy.parent().expect("a parent")).expect("own files");
}

#[test]
fn a_torn_batch_is_not_copied_and_damage_is_refused() {
    let (dir, copy) = (small_log(3), new_dir());
    let to = copy.path().to_str().expect("a name in ASCII");
    tear(dir.path());
    tool("backup", dir.path(), &[to]).expect(0, &["3 in 3 batches"]);
    assert_eq!(keys_of(copy.path(), "key", 3), [1, 2, 3]);

    let copy = new_dir();
    let to = copy.path().to_str().expect("a name in ASCII");
    flip(&active(dir.path()), 8192 + 70);
    tool("backup", dir.path(), &[to]).expect(2, &["offset 8192, LSN 2", "no backup was made"]);
    assert!(!active(copy.path()).exists(), "half a copy has the log's name");
}

/// A writer that never stops, and a rotation in the middle: everything acknowledged before a backup began
/// is in it, and nothing is in it without everything before it.
#[test]
fn every_write_acknowledged_before_a_backup_began_is_in_it() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| write_until(&stop, &server, &acknowledged));
        // A compaction may have deleted the segments before the last one by now; then a snapshot is there.
        let has_rotated = || {
            let names = std::fs::read_dir(dir.path()).expect("a directory");
            names.map(|entry| entry.expect("an entry").path()).any(|path| {
                path.extension().is_some_and(|kind| kind == "log" || kind == "snapshot")
            })
        };
        while copies.len() < 8 || !has_rotated() {
            let copy = new_dir();
            let before = acknowledged.load(Ordering::Acquire);
            let said = tool("backup", dir.path(), &[copy.path().to_str().expect("ASCII")]);
            if said.code != Some(0) {
                stop.store(true, Ordering::Release);
                panic!("{said:#?}");
            }
            copies.push((before, copy));
        }
        stop.store(true, Ordering::Release);
    });
    server.kill9();
    let written = acknowledged.into_inner();
    for (before, copy) in copies {
        let found = keys_of(copy.path(), "k", written + 1);
        assert!(found.len() >= before, "{} of {before} keys are in the copy", found.len());
        assert_eq!(found, (1..=found.len()).collect::<Vec<_>>(), "there are no gaps");
    }
}
