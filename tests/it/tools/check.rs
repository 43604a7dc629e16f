//! check: what it says of each kind of log, and that it changes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use post_gres_rs::command::{FIRST, Mutation};
use post_gres_rs::entry::Entry;
use post_gres_rs::record::New;
use post_gres_rs::wal::disk::SystemDisk;
use post_gres_rs::wal::frame::VERSION;
use post_gres_rs::wal::reader::Replayed;
use post_gres_rs::wal::{self, Wal};

use super::{
    Said, active, big, flip, json, large_log, new_dir, overwrite, shorten, small_log, state, tear,
    tool, wire,
};
use crate::common::{Client, PROGRAM, Server, StopOnDrop};

/// Checks twice, for people and for scripts, that nothing changes, and that both say the same.
fn check(dir: &std::path::Path, code: i32, parts: &[&str], fields: &[&str]) -> Said {
    let before = state(dir);
    let said = tool("check", dir, &[]).expect(code, parts);
    let script = tool("check", dir, &["-json"]).expect(code, fields);
    assert_eq!(script.out.lines().count(), 1, "{script:?}");
    json::assert_valid(&script.out);
    assert!(state(dir) == before, "check has changed something");
    said
}

#[test]
fn a_healthy_log_is_clean_whatever_its_last_server_left() {
    let dir = small_log(3);
    let parts = ["wal_file", "3 in 3 batches", "durable LSN  3", "closed in order"];
    check(dir.path(), 0, &parts, &["\"state\":\"clean\"", "\"keys\":3", "\"tail\":\"closed\""]);
    let dir = large_log(14);
    let parts = ["wal_file.0000000001.log", "wal_file.0000000002.log", "14 in 14 batches"];
    check(dir.path(), 0, &parts, &["\"sequence\":3", "\"last_lsn\":14"]);

    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 12345"), "+OK");
    assert_eq!(client.ask("DEL a"), "+OK");
    server.kill9();
    check(dir.path(), 0, &["durable LSN  16", "not closed in order"], &["\"keys\":14"]);
}

#[test]
fn a_read_only_directory_is_checked_as_well() {
    let dir = small_log(3);
    for entry in fs::read_dir(dir.path()).expect("a directory") {
        let path = entry.expect("an entry").path();
        fs::set_permissions(path, Permissions::from_mode(0o444)).expect("own files");
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).expect("own directory");
    check(dir.path(), 0, &["closed in order"], &["clean"]);
    fs::remove_file(dir.path().join("wal_file.lock")).ok();
    check(dir.path(), 0, &["closed in order"], &["clean"]);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("own directory");
}

#[test]
fn a_torn_batch_is_told_from_damage() {
    let dir = small_log(3);
    let offset = tear(dir.path());
    assert_eq!(offset, 16384);
    let parts = ["torn batch of 4096 bytes at offset 16384 of wal_file, LSN 4", "3 in 3 batches"];
    let fields = ["\"torn\":{\"file\":\"wal_file\",\"offset\":16384,\"bytes\":4096,\"lsn\":4}"];
    check(dir.path(), 1, &parts, &fields);
}

#[test]
fn damage_is_named_with_file_offset_and_lsn_and_what_comes_before_is_counted() {
    type Damage<'a> = (&'a str, &'a dyn Fn(&std::path::Path), &'a [&'a str]);
    let damages: [Damage<'_>; 4] = [
        ("flipped", &|path| flip(path, 8192 + 70), &["offset 8192", "LSN 2", "1 in 1 batches"]),
        ("zeroed", &|path| overwrite(path, &[0; 512], 12288), &["offset 12288", "LSN 3"]),
        ("shorter", &|path| shorten(path, 12288), &["offset 12288", "LSN 3"]),
        ("header", &|path| flip(path, 100), &["offset 0", "header"]),
    ];
    for (what, damage, parts) in damages {
        let dir = small_log(3);
        damage(&active(dir.path()));
        let said = check(dir.path(), 2, parts, &["\"state\":\"damaged\"", "\"damage\":{"]);
        assert!(said.out.contains("wal_file: damaged at"), "{what}: {said:?}");
        assert!(said.out.contains("repair -wal"), "{what}: {said:?}");
    }
    for missing in ["wal_file.0000000001.log", "wal_file.0000000002.log", "wal_file"] {
        let dir = large_log(14);
        fs::remove_file(dir.path().join(missing)).expect("it is there");
        check(dir.path(), 2, &["missing"], &["\"state\":\"damaged\""]);
    }
}

#[test]
fn a_file_of_another_program_a_newer_version_or_none_at_all_cannot_be_read() {
    let dir = new_dir();
    check(dir.path(), 2, &["there is no log"], &["\"error\":"]);
    fs::write(active(dir.path()), b"3SET5hello5world\n").expect("a file");
    check(dir.path(), 2, &["not a log of this program"], &["\"error\":"]);
    let dir = small_log(1);
    overwrite(&active(dir.path()), &(VERSION + 1).to_le_bytes(), 16);
    let newer = format!("version {}", VERSION + 1);
    check(dir.path(), 2, &[&newer, "offset 16", "newer program"], &["\"unreadable\""]);
}

#[test]
fn an_empty_log_is_clean() {
    let dir = new_dir();
    fs::write(active(dir.path()), b"").expect("a file");
    check(dir.path(), 0, &["nothing was ever written"], &["\"tail\":\"empty\"", "\"clean\""]);
    Server::start(dir.path(), &[]).stop();
    check(dir.path(), 0, &["keys         0", "closed in order"], &["\"clean\""]);
}

#[test]
fn an_interrupted_rotation_is_clean_and_left_to_a_start() {
    let dir = large_log(14);
    fs::rename(active(dir.path()), dir.path().join("wal_file.next")).expect("rename");
    let parts = ["interrupted by a crash", "14 in 14 batches"];
    check(dir.path(), 0, &parts, &["\"unfinished_change_of_segment\":true"]);
}

#[test]
fn a_log_in_use_is_not_repaired_and_left_alone() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let process = format!("in use by process {}", server.pid().as_raw_nonzero());
    tool("repair", dir.path(), &["-to-lsn", "0", "-yes"]).expect(2, &[&process]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    server.stop();
}

/// Seen: check refused a log that a server was using, so that a copy was needed to look at it. Now a log that
/// changes is distinguished from a damaged one.
#[test]
fn a_log_in_use_is_checked_while_it_is_rotated_and_compacted() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let process = format!("by process {}", server.pid().as_raw_nonzero());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut client = Client::connect(&server);
            for key in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let value = if key % 10 == 0 { big(key) } else { b"small".to_vec() };
                let words = [b"SET".to_vec(), format!("k{}", key % 50).into_bytes(), value];
                assert_eq!(wire::ask(&mut client, words), wire::Value::ok());
                if key % 200 == 0 {
                    wire::say(&mut client, "BGREWRITEAOF");
                }
            }
        });
        for _ in 0..20 {
            tool("check", dir.path(), &[]).expect(0, &["in use", &process]);
        }
        let said = tool("check", dir.path(), &["-json"]).expect(0, &["\"in_use_by\":\""]);
        json::assert_valid(&said.out);
    });
    server.stop();

    // Damage is damage beside a server, too.
    let dir = large_log(14);
    let server = Server::start(dir.path(), &[]);
    flip(&dir.path().join("wal_file.0000000001.log"), 4096 + 70);
    tool("check", dir.path(), &[]).expect(2, &["offset 4096, LSN 1", "in use"]);
    server.kill9();
}

/// Seen: each tool and each start held every segment of a log open, and more than 1,000 were too many.
#[test]
fn a_log_of_more_segments_than_a_process_may_open_is_checked_and_started() {
    const SEGMENTS: usize = 1100;
    const SEGMENT_BYTES: u64 = 8 << 10;
    let dir = new_dir();
    let options = wal::Options {
        path: active(dir.path()),
        sync: wal::SyncPolicy::Later,
        first_segment_bytes: SEGMENT_BYTES,
        largest_segment_bytes: SEGMENT_BYTES,
        lock: None,
    };
    let nothing = &mut |_: Replayed<'_>| Ok(());
    let opened = Wal::open(Arc::new(SystemDisk), options, nothing).expect("a fresh log");
    let mut log = opened.0;
    for key in 0..SEGMENTS {
        let set = Mutation::Set(Entry::new(format!("key{key}").as_bytes(), b"value"));
        log.push(|frame| New::In(FIRST, &set).encode(|piece| frame.extend_from_slice(piece)));
        log.commit(true).expect("a batch");
    }
    log.close().expect("an ordered stop");
    assert!(dir.path().join(format!("wal_file.{:010}.log", SEGMENTS - 1)).exists());

    let limited = |args: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\"", PROGRAM]).args(args);
        command.arg("-wal").arg(active(dir.path()));
        command
    };
    for (tool, flags) in [("check", &[][..]), ("dump", &[]), ("dump", &["-skip-damage"])] {
        let output = limited(&[&[tool], flags].concat()).output().expect("it can be run");
        assert!(output.status.success(), "{tool} {flags:?}: {output:?}");
    }
    let server = Server::spawn(&mut limited(&["-port", "0"])).expect("it starts");
    let keys = Client::connect(&server).ask(&format!("GET key{}", SEGMENTS - 1));
    assert_eq!(keys, "+OK value");
    server.stop();
}

#[test]
fn each_tool_has_help_with_an_example_and_its_exit_codes() {
    for name in ["check", "dump", "repair", "backup"] {
        let output = std::process::Command::new(PROGRAM).args([name, "-help"]).output();
        let output = output.expect("the program can be run");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{name}");
        for part in ["Example", "Exit code 0", "-wal", "-json"] {
            assert!(text.contains(part), "{name} does not tell of {part}:\n{text}");
        }
    }
}
