//! repair: says what it would do, does it when told, and keeps what it cuts.

use std::fs;
use std::path::Path;

use super::{
    active, flip, json, keys_of, large_log, overwrite, shorten, small_log, state, tear, tool,
};
use crate::common::{Client, Server};
use post_gres_rs::wal::frame::VERSION;

/// Repairs, first without `-yes`, which changes nothing; afterwards the log is clean.
fn repair(dir: &Path, flags: &[&str], parts: &[&str]) {
    let before = state(dir);
    tool("repair", dir, flags).expect(1, parts).expect(1, &["Nothing was changed"]);
    let said = tool("repair", dir, &[flags, &["-json"]].concat()).expect(1, &["\"to do\""]);
    json::assert_valid(&said.out);
    assert!(state(dir) == before, "without -yes something was changed");
    let done = tool("repair", dir, &[flags, &["-yes"]].concat());
    let done = done.expect(0, &["Done", "closed in order"]);
    assert!(!done.out.contains("Nothing was changed"), "{done:?}");
    tool("check", dir, &[]).expect(0, &[]);
    if flags.is_empty() {
        tool("repair", dir, &[]).expect(0, &["Nothing to do"]);
    }
}

#[test]
fn a_whole_log_needs_no_repair() {
    let dir = small_log(3);
    let before = state(dir.path());
    tool("repair", dir.path(), &["-yes"]).expect(0, &["Nothing to do"]);
    tool("repair", dir.path(), &["-yes", "-to-lsn", "3"]).expect(0, &["Nothing to do"]);
    assert!(state(dir.path()) == before, "something was changed");
}

#[test]
fn a_torn_batch_is_cut_and_kept() {
    let dir = small_log(3);
    tear(dir.path());
    repair(dir.path(), &[], &["torn batch of 4096 bytes", "wal_file.4.cut", "Lose    nothing"]);
    assert!(fs::read(dir.path().join("wal_file.4.cut")).expect("kept") == [b'?'; 4096]);
    assert_eq!(keys_of(dir.path(), "key", 3), [1, 2, 3]);
}

#[test]
fn damage_and_everything_after_it_is_cut_and_kept() {
    let dir = small_log(5);
    let path = active(dir.path());
    flip(&path, 3 * 4096 + 70);
    let before = fs::read(&path).expect("the log");
    let parts = [
        "offset 12288, LSN 3",
        "up to LSN 2",
        "LSN 3 to 5, 3 records or more",
        "2 records in 2 batches of what is cut can be read",
    ];
    repair(dir.path(), &[], &parts);
    let kept = fs::read(dir.path().join("wal_file.3.cut")).expect("kept");
    assert!(kept == before[12288..], "the cut bytes are kept as they were");
    assert_eq!(keys_of(dir.path(), "key", 5), [1, 2]);
    // The log goes on from there, and a second repair does not take the first one's name.
    flip(&path, 2 * 4096 + 70);
    tool("repair", dir.path(), &["-yes"]).expect(0, &["LSN 1", "wal_file.2.cut"]);
    assert!(fs::read(dir.path().join("wal_file.3.cut")).expect("still kept") == kept);
    assert_eq!(keys_of(dir.path(), "key", 5), [1]);
}

#[test]
fn a_zeroed_sector_a_file_cut_short_and_a_wrong_header_are_repaired() {
    let dir = small_log(3);
    overwrite(&active(dir.path()), &[0; 512], 12288);
    repair(dir.path(), &[], &["offset 12288"]);
    assert_eq!(keys_of(dir.path(), "key", 3), [1, 2]);

    let dir = small_log(3);
    shorten(&active(dir.path()), 12288);
    repair(dir.path(), &[], &["offset 12288", "LSN 3 to 3, 1 records or more"]);
    assert_eq!(keys_of(dir.path(), "key", 3), [1, 2]);

    let dir = small_log(3);
    flip(&active(dir.path()), 100);
    let before = fs::read(active(dir.path())).expect("the log");
    let text = ["Keep    nothing", "Move    wal_file to wal_file.cut"];
    tool("repair", dir.path(), &["-yes"]).expect(0, &text);
    tool("check", dir.path(), &[]).expect(0, &["keys         0", "closed in order"]);
    assert!(fs::read(dir.path().join("wal_file.cut")).expect("kept") == before);
    assert!(keys_of(dir.path(), "key", 3).is_empty());
}

#[test]
fn later_segments_are_moved_away_and_the_damaged_one_becomes_the_last() {
    let dir = large_log(14);
    flip(&dir.path().join("wal_file.0000000002.log"), 4096 + 100_000);
    let second = fs::read(dir.path().join("wal_file.0000000002.log")).expect("a segment");
    let last = fs::read(active(dir.path())).expect("a segment");
    // No batch of the second segment is whole: it stays, empty, and is the last one.
    let parts = ["wal_file to wal_file.cut", "kept in wal_file.0000000002.log.3.cut", "or more"];
    repair(dir.path(), &[], &parts);
    let kept = |name: &str| fs::read(dir.path().join(name)).expect("kept");
    assert!(kept("wal_file.0000000002.log.3.cut") == second[4096..]);
    assert!(kept("wal_file.cut") == last);
    let found = keys_of(dir.path(), "big", 14);
    assert!(!found.is_empty() && found == (1..=found.len()).collect::<Vec<_>>(), "{found:?}");
}

#[test]
fn a_missing_segment_costs_only_the_records_after_it() {
    for (missing, least) in
        [("wal_file", 4), ("wal_file.0000000002.log", 2), ("wal_file.0000000001.log", 0)]
    {
        let dir = large_log(14);
        fs::remove_file(dir.path().join(missing)).expect("it is there");
        tool("repair", dir.path(), &["-yes"]).expect(0, &["missing"]);
        tool("check", dir.path(), &[]).expect(0, &[]);
        let found = keys_of(dir.path(), "big", 14);
        assert!(found.len() >= least, "{missing}: {found:?}");
        assert_eq!(found, (1..=found.len()).collect::<Vec<_>>(), "{missing}");
    }
}

/// Seen: no tool could read what a repair had cut; and a repair that took the log back was undone by the note
/// of how far the log had been durable.
#[test]
fn cut_records_are_dumped_and_the_log_goes_on_from_the_cut() {
    let dir = small_log(7);
    flip(&active(dir.path()), 3 * 4096 + 70);
    tool("repair", dir.path(), &["-yes"]).expect(0, &["Done"]);
    let cut = dir.path().join("wal_file.3.cut");
    let dump = |path: &Path| {
        let mut command = std::process::Command::new(crate::common::PROGRAM);
        let output = command.arg("dump").arg(path).output().expect("it can be run");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = dump(&cut);
    let lsns: Vec<&str> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!((code, &lsns[..]), (Some(1), &["4", "5", "6", "7"][..]), "{err}");
    assert!(err.contains("wal_file.3.cut: offset 0 to 4096"), "{err}");

    // A torn batch that a start has cut, with a whole one after it that was never acknowledged.
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET key3 again"), "+OK");
    server.stop();
    fs::remove_file(dir.path().join("wal_file.durable")).expect("it is there");
    let offset = tear(dir.path());
    keys_of(dir.path(), "key", 7);
    let torn = dir.path().join("wal_file.4.torn");
    assert!(torn.exists(), "{offset}");
    let (code, out, err) = dump(&torn);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("no epoch that is known here"), "{err}");
    // Any file of a log can be looked at alone.
    let (code, out, err) = dump(&active(dir.path()));
    assert_eq!((code, out.lines().count()), (Some(0), 3), "{err}");
}

#[test]
fn a_log_is_taken_back_to_any_record() {
    let whole = large_log(14);
    for lsn in 0..14 {
        let dir = super::new_dir();
        for (path, bytes, _) in state(whole.path()) {
            fs::write(dir.path().join(path.file_name().expect("a name")), bytes).expect("a copy");
        }
        let text = lsn.to_string();
        repair(dir.path(), &["-to-lsn", &text], &["Asked for", &format!("LSN {} to", lsn + 1)]);
        assert_eq!(keys_of(dir.path(), "big", 14), (1..=lsn).collect::<Vec<_>>());
    }
}

#[test]
fn other_files_than_a_damaged_log_are_not_repaired() {
    let dir = small_log(1);
    overwrite(&active(dir.path()), &(VERSION + 1).to_le_bytes(), 16);
    let before = state(dir.path());
    tool("repair", dir.path(), &["-yes"]).expect(2, &["newer program"]);
    let dir_of_foreign = super::new_dir();
    fs::write(active(dir_of_foreign.path()), b"3SET5hello5world\n").expect("a file");
    tool("repair", dir_of_foreign.path(), &["-yes"]).expect(2, &["not a log of this program"]);
    assert!(state(dir.path()) == before, "something was changed");
}
