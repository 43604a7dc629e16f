//! A power cut at any call of a repair: a start then finds the log as it was, or as the repair leaves it, or
//! refuses; and a second repair completes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::double::clients::{ask, open, set, value};
use crate::double::{DoubleDisk, Fault};
use post_gres_rs::command::Reply;
use post_gres_rs::engine::Fsync;
use post_gres_rs::tools::repair::Plan;
use post_gres_rs::wal::names::Names;

const BATCHES: usize = 12;
const ACTIVE: &str = "/log/wal_file";

type Files = HashMap<PathBuf, Vec<u8>>;

/// A log of several segments; its batch n sets key<n>, whose value shows where it stands.
fn log() -> Files {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    for batch in 0..BATCHES {
        let text = format!("value {batch} {}", "x".repeat(batch % 3 * 5000));
        assert_eq!(ask(&engine, set(&format!("key{batch}"), &text)), Reply::Ok);
    }
    assert!(engine.close());
    disk.files()
}

/// How many keys a start finds, which are the first ones; an error if it refuses.
fn start(disk: &DoubleDisk) -> Result<usize, String> {
    let engine = open(disk, Fsync::Always).map_err(|error| format!("{error:#}"))?;
    let there: Vec<bool> =
        (0..BATCHES).map(|batch| value(&engine, &format!("key{batch}")).is_some()).collect();
    let count = there.iter().take_while(|there| **there).count();
    assert!(!there[count..].contains(&true), "keys are missing in the middle: {there:?}");
    Ok(count)
}

/// Cuts the power at every call in turn; what was not synced survives, or not, by turns.
fn check_every_cut(files: &Files, to_lsn: Option<u64>, kept: usize) {
    let names = Names::new(Path::new(ACTIVE));
    for at in 1.. {
        let mut failed = false;
        for survivors in 0..4_u32 {
            let disk = DoubleDisk::with_files(files);
            let plan = Plan::of(&disk, &names, to_lsn).expect("readable").expect("to do");
            disk.fail_at(at, Fault::PowerCut);
            let done = plan.cut_back.carry_out(&disk, &names);
            failed |= disk.has_failed();
            assert_eq!(done.is_err(), disk.has_failed(), "call {at}");
            let mut asked = 0;
            let found = disk.after_power_cut(&mut || {
                asked += 1;
                survivors & (1 << (asked % 2)) != 0
            });
            match start(&DoubleDisk::with_files(&found.files())) {
                Ok(count) => assert!([kept, BATCHES].contains(&count), "call {at}: {count} keys"),
                Err(error) => assert!(error.contains("Nothing was changed"), "call {at}: {error}"),
            }
            if let Some(again) = Plan::of(&found, &names, to_lsn).expect("readable") {
                again.cut_back.carry_out(&found, &names).expect("a second repair");
            }
            assert_eq!(start(&found), Ok(kept), "call {at}, survivors {survivors}");
            let mut cut = found
                .files()
                .into_iter()
                .filter(|(path, _)| path.to_string_lossy().ends_with("cut"));
            let last = format!("value {}", BATCHES - 1).into_bytes();
            let is_kept = |bytes: Vec<u8>| bytes.windows(last.len()).any(|part| part == last);
            assert!(cut.any(|(_, bytes)| is_kept(bytes)), "call {at}: bytes are gone");
        }
        if !failed {
            return;
        }
    }
}

#[test]
fn a_repair_that_is_cut_short_anywhere_can_be_done_again() {
    let mut files = log();
    for lsn in [1, 5, 11] {
        check_every_cut(&files, Some(lsn as u64), lsn);
    }
    let first = files.get_mut(Path::new("/log/wal_file.0000000001.log")).expect("a segment");
    first[4096 + 70] ^= 1;
    check_every_cut(&files, None, 0);
    // Without its header nothing of it can be kept, and an empty log replaces it.
    let first = files.get_mut(Path::new("/log/wal_file.0000000001.log")).expect("a segment");
    first[100] ^= 1;
    check_every_cut(&files, None, 0);
}
