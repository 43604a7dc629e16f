//! All tools on a log whose older segments a snapshot has replaced.

use std::fs;

use rustix::process::Signal;

use super::{flip, keys_of, new_dir, tear, tool};
use crate::common::{Client, Server};

/// LSN n sets key<n>; a snapshot covers the first 20 of 30.
fn compacted_log() -> tempfile::TempDir {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for key in 1..=30 {
        assert_eq!(client.ask(&format!("SET key{key} value{key}")), "+OK");
        if key == 20 {
            server.signal(Signal::USR1);
            server.wait_for_log("compacted the log");
        }
    }
    server.stop();
    dir
}

#[test]
fn check_dump_and_backup_see_what_a_snapshot_holds() {
    let dir = compacted_log();
    tool("check", dir.path(), &[]).expect(0, &["wal_file.20.snapshot", "keys         30,"]);
    let dumped =
        tool("dump", dir.path(), &[]).expect(0, &["20 wal_file.20.snapshot 4096 SET key1 "]);
    assert_eq!(dumped.out.lines().count(), 30);
    let later = tool("dump", dir.path(), &["-from-lsn", "21"]).expect(0, &["21 wal_file 4096 SET"]);
    assert_eq!(later.out.lines().count(), 10);

    let copy = new_dir();
    let to = copy.path().to_str().expect("a name in ASCII");
    tool("backup", dir.path(), &[to]).expect(0, &["wal_file.20.snapshot", "closed in order"]);
    assert_eq!(keys_of(copy.path(), "key", 30), (1..=30).collect::<Vec<_>>());
}

#[test]
fn a_backup_keeps_a_snapshot_of_nothing() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a b"), "+OK");
    assert_eq!(client.ask("DEL a"), "+OK");
    server.signal(Signal::USR1);
    server.wait_for_log("compacted the log");
    assert_eq!(client.ask("SET key1 value1"), "+OK");
    let copy = new_dir();
    let to = copy.path().to_str().expect("a name in ASCII");
    tool("backup", dir.path(), &[to]).expect(0, &["wal_file.2.snapshot"]);
    server.stop();
    assert_eq!(keys_of(copy.path(), "key", 1), [1]);
}

#[test]
fn repair_goes_back_as_far_as_the_snapshot_and_no_farther() {
    let dir = compacted_log();
    tool("repair", dir.path(), &["-to-lsn", "19", "-yes"])
        .expect(2, &["up to LSN 20 are in a snapshot"]);
    tool("repair", dir.path(), &["-to-lsn", "25", "-yes"]).expect(0, &["LSN 26 to 30"]);
    assert_eq!(keys_of(dir.path(), "key", 30), (1..=25).collect::<Vec<_>>());
    tool("repair", dir.path(), &["-to-lsn", "20", "-yes"]).expect(0, &["LSN 21 to 25"]);
    assert_eq!(keys_of(dir.path(), "key", 30), (1..=20).collect::<Vec<_>>());

    let dir = compacted_log();
    tear(dir.path());
    // The second segment was 4 MiB long when it was written.
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("wal_file"));
    file.and_then(|file| file.set_len(4 << 20)).expect("the log can grow");
    tool("check", dir.path(), &[]).expect(1, &["torn batch"]);
    tool("repair", dir.path(), &["-yes"]).expect(0, &["closed in order"]);
    assert_eq!(keys_of(dir.path(), "key", 30), (1..=30).collect::<Vec<_>>());
}

#[test]
fn a_damaged_snapshot_is_named_and_not_repaired() {
    let dir = compacted_log();
    let snapshot = dir.path().join("wal_file.20.snapshot");
    flip(&snapshot, 4096 + 100);
    let before = fs::read(&snapshot).expect("a snapshot");
    for name in ["check", "dump"] {
        tool(name, dir.path(), &[]).expect(2, &["wal_file.20.snapshot: damaged at offset 4096"]);
    }
    tool("repair", dir.path(), &["-yes"]).expect(2, &["repair cannot mend it"]);
    assert_eq!(fs::read(&snapshot).expect("a snapshot"), before);
}
