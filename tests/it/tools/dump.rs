//! dump: each record as a line, as JSON, and as commands that make the same keys again.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{
    active, flip, json, large_log, new_dir, overwrite, shorten, small_log, state, tear, tool,
};
use crate::common::wire::{self, Value, say};
use crate::common::{Client, PROGRAM, Server};

/// A log with every kind of record and keys of any bytes.
fn log_of_all_kinds() -> tempfile::TempDir {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let every_byte: Vec<u8> = (0..=255).collect();
    assert_eq!(say(&mut client, "SET gone 1"), Value::ok());
    assert_eq!(say(&mut client, "FLUSHALL"), Value::ok());
    assert_eq!(wire::ask(&mut client, [b"SET", &every_byte[..], b"two words\n"]), Value::ok());
    assert_eq!(say(&mut client, "SET later 1 PXAT 4107542400000"), Value::ok());
    assert_eq!(say(&mut client, "SET plain value"), Value::ok());
    assert_eq!(say(&mut client, "SET deleted value"), Value::ok());
    assert_eq!(say(&mut client, "DEL deleted"), Value::Integer(1));
    assert_eq!(wire::ask(&mut client, [&b"SET"[..], b"", b""]), Value::ok());
    server.stop();
    dir
}

#[test]
fn every_record_is_one_line_with_its_place() {
    let dir = log_of_all_kinds();
    let before = state(dir.path());
    let said = tool("dump", dir.path(), &[]).expect(0, &[]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], "1 wal_file 4096 SET gone 1");
    assert_eq!(lines[1], "2 wal_file 8192 FLUSHALL");
    assert!(lines[2].starts_with("3 wal_file 12288 SET \"\\x00\\x01"), "{}", lines[2]);
    assert!(lines[2].ends_with(" \"two words\\n\""), "{}", lines[2]);
    assert_eq!(lines[3], "4 wal_file 16384 SET later 1 expires 2100-03-01T00:00:00.000Z");
    assert_eq!(lines[6], "7 wal_file 28672 DEL deleted");
    assert_eq!(lines[7], "8 wal_file 32768 SET \"\" \"\"");
    assert_eq!(lines.len(), 8);

    let script = tool("dump", dir.path(), &["-json"]).expect(0, &["\"op\":\"FLUSHALL\""]);
    assert_eq!(script.out.lines().count(), 8);
    script.out.lines().for_each(json::assert_valid);
    assert!(script.out.contains("\"key_hex\":\"000102"), "{}", script.out);
    assert!(state(dir.path()) == before, "dump has changed something");
}

/// A log with a SWAPDB, and records of the databases before and after it.
fn log_of_databases() -> tempfile::TempDir {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for words in ["SELECT 3", "SET a 1", "SET stays 1", "SELECT 0", "SET b 2", "SELECT 3"] {
        assert_eq!(say(&mut client, words), Value::ok());
    }
    assert_eq!(say(&mut client, "MOVE a 0"), Value::Integer(1));
    for words in ["SWAPDB 0 3", "SET c 3", "SELECT 7", "SET gone 4", "FLUSHDB", "SET d 5"] {
        assert_eq!(say(&mut client, words), Value::ok());
    }
    server.stop();
    dir
}

#[test]
fn a_record_of_another_database_says_of_which_and_a_swap_which_two() {
    let dir = log_of_databases();
    let said = tool("dump", dir.path(), &[]).expect(0, &[]);
    let expected = [
        "1 wal_file 4096 db3 SET a 1",
        "2 wal_file 8192 db3 SET stays 1",
        "3 wal_file 12288 SET b 2",
        "4 wal_file 16384 SET a 1",
        "5 wal_file 16384 db3 DEL a",
        "6 wal_file 20480 SWAPDB 0 3",
        "7 wal_file 24576 db3 SET c 3",
        "8 wal_file 28672 db7 SET gone 4",
        "9 wal_file 32768 db7 FLUSHDB",
        "10 wal_file 36864 db7 SET d 5",
    ];
    assert_eq!(said.out.lines().collect::<Vec<_>>(), expected);
    let script = tool("dump", dir.path(), &["-json"]).expect(0, &["\"swapped\":[[0,3]]"]);
    script.out.lines().for_each(json::assert_valid);
    assert!(script.out.lines().next().is_some_and(|line| line.contains("\"db\":3")));
    let all = "databases    db0 has 1, db3 has 3, db7 has 1";
    tool("check", dir.path(), &[]).expect(0, &[all, "keys         5, "]);
    let script = tool("check", dir.path(), &["-json"]);
    script.expect(0, &["\"databases\":{\"0\":1,\"3\":3,\"7\":1}"]);
}

#[test]
fn a_dump_as_commands_makes_the_same_databases_in_another_server() {
    let dir = log_of_databases();
    let databases = |server: &Server| {
        let mut client = Client::connect(server);
        let get = |number| {
            say(&mut client, &format!("SELECT {number}"));
            say(&mut client, "MGET a b c d gone stays")
        };
        (0..16).map(get).collect::<Vec<_>>()
    };
    // As the log is, and after a compaction, whose snapshot begins with the order.
    for compacts in [false, true] {
        if compacts {
            let server = Server::start(dir.path(), &[]);
            let mut client = Client::connect(&server);
            say(&mut client, "BGREWRITEAOF");
            server.wait_for_log("compacted the log");
            say(&mut client, "SWAPDB 7 3");
            server.stop();
        }
        let dump = ["dump", "-resp", "-wal"];
        let dump = Command::new(PROGRAM).args(dump).arg(active(dir.path())).output();
        let dump = dump.expect("the program can be run");
        assert!(dump.status.success());
        let second_dir = new_dir();
        let second = Server::start(second_dir.path(), &[]);
        let mut client = Client::connect(&second);
        client.send([&dump.stdout[..], b"PING last\r\n"].concat());
        let replies = std::iter::from_fn(|| wire::reply(&mut client).ok());
        let is_last = |reply: &Value| *reply == Value::bulk("last");
        let mut replies = replies.take_while(|reply| !is_last(reply));
        assert!(!replies.any(|reply| matches!(reply, Value::Error(_))));
        let first = Server::start(dir.path(), &[]);
        let expected = databases(&first);
        assert_ne!(expected[3], expected[0]);
        assert_eq!(databases(&second), expected);
        first.stop();
    }
    // Of some keys: what FLUSHDB has removed is removed one by one.
    let said = tool("dump", log_of_databases().path(), &["-resp", "-key", "gone"]);
    let said = said.expect(0, &[]).out.replace("\r\n", " ");
    assert!(said.ends_with("$6 SELECT $1 7 *3 $3 SET $4 gone $1 4 *2 $3 DEL $4 gone "), "{said}");
}

#[test]
fn records_are_chosen_by_key_and_lsn() {
    let dir = log_of_all_kinds();
    let lsns = |flags: &[&str]| -> Vec<String> {
        let said = tool("dump", dir.path(), flags).expect(0, &[]);
        said.out.lines().map(|line| line.split(' ').next().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(lsns(&["-key", "deleted"]), ["2", "6", "7"]);
    assert_eq!(lsns(&["-key=[lp]*", "-from-lsn", "3"]), ["4", "5"]);
    assert_eq!(lsns(&["-from-lsn", "3", "-to-lsn", "5"]), ["3", "4", "5"]);
    // If only some keys are dumped, FLUSHALL must not remove all keys of the server that reads.
    let said = tool("dump", dir.path(), &["-resp", "-key", "gone"]).expect(0, &[]);
    let set = "*3\r\n$3\r\nSET\r\n$4\r\ngone\r\n$1\r\n1\r\n";
    assert_eq!(said.out, format!("{set}*2\r\n$3\r\nDEL\r\n$4\r\ngone\r\n"));
}

#[test]
fn a_dump_as_commands_makes_the_same_keys_in_another_server() {
    let dir = log_of_all_kinds();
    let output = Command::new(PROGRAM)
        .args(["dump", "-resp", "-wal"])
        .arg(active(dir.path()))
        .output()
        .expect("the program can be run");
    assert!(output.status.success());
    let keys = |server: &Server| {
        let mut client = Client::connect(server);
        let Value::Array(mut keys) = say(&mut client, "KEYS *") else { panic!("no array") };
        keys.sort();
        let mut all = Vec::new();
        for key in keys {
            let Value::Bulk(key) = key else { panic!("no key") };
            let value = wire::ask(&mut client, [b"GET", &key[..]]);
            let expiry = wire::ask(&mut client, [b"PEXPIRETIME", &key[..]]);
            all.push((key, value, expiry));
        }
        all
    };
    let second_dir = new_dir();
    let second = Server::start(second_dir.path(), &[]);
    let mut client = Client::connect(&second);
    client.send(&output.stdout);
    let replies: Vec<Value> = (0..8).map(|_| wire::reply(&mut client).expect("a reply")).collect();
    assert!(!replies.iter().any(|reply| matches!(reply, Value::Error(_))), "{replies:?}");
    let first = Server::start(dir.path(), &[]);
    assert_eq!(keys(&first).len(), 4);
    assert_eq!(keys(&first), keys(&second));
}

#[test]
fn all_before_the_damage_is_dumped_and_then_it_fails() {
    let dir = small_log(4);
    flip(&active(dir.path()), 3 * 4096 + 70);
    let said = tool("dump", dir.path(), &[]).expect(2, &["offset 12288, LSN 3"]);
    assert_eq!(said.out, "1 wal_file 4096 SET key1 value1\n2 wal_file 8192 SET key2 value2\n");
    let dir = small_log(2);
    tear(dir.path());
    let said = tool("dump", dir.path(), &[]).expect(0, &["not a whole batch"]);
    assert_eq!(said.out.lines().count(), 2);
}

fn lsns(out: &str) -> Vec<u64> {
    let first = |line: &str| line.split(' ').next().and_then(|lsn| lsn.parse().ok());
    out.lines().map(|line| first(line).expect("an LSN")).collect()
}

/// Seen: one flipped byte in batch 3 of 7 kept batches 3 to 7 from every tool.
#[test]
fn whole_records_after_damage_are_dumped_and_each_gap_is_named() {
    type Damage<'a> = (&'a dyn Fn(&std::path::Path), &'a [u64], &'a [&'a str]);
    let damages: [Damage<'_>; 6] = [
        (&|path| flip(path, 3 * 4096 + 70), &[1, 2, 4, 5, 6, 7], &["12288 to 16384, LSN 3 to 3"]),
        (&|path| flip(path, 3 * 4096 + 20), &[1, 2, 4, 5, 6, 7], &["12288 to 16384, LSN 3 to 3"]),
        (
            &|path| overwrite(path, &[0; 9000], 2 * 4096),
            &[1, 5, 6, 7],
            &["8192 to 20480, LSN 2 to 4"],
        ),
        (
            &|path| [2, 5].map(|block| flip(path, block * 4096 + 70)).into_iter().collect(),
            &[1, 3, 4, 6, 7],
            &["8192 to 12288, LSN 2 to 2", "20480 to 24576, LSN 5 to 5"],
        ),
        (&|path| flip(path, 3), &[1, 2, 3, 4, 5, 6, 7], &["offset 0 to 4096", "header is wrong"]),
        (&|path| shorten(path, 5 * 4096 + 40), &[1, 2, 3, 4], &["20480", "LSN 5 to 7"]),
    ];
    for (damage, whole, gaps) in damages {
        let dir = small_log(7);
        damage(&active(dir.path()));
        let before = state(dir.path());
        tool("dump", dir.path(), &[]).expect(2, &["-skip-damage"]);
        let said = tool("dump", dir.path(), &["-skip-damage"]).expect(1, gaps);
        assert_eq!(lsns(&said.out), whole, "{said:?}");
        assert!(said.err.contains("wal_file: offset"), "{said:?}");
        assert!(state(dir.path()) == before, "dump has changed something");
    }
    let said = tool("dump", small_log(7).path(), &["-skip-damage"]).expect(0, &[]);
    assert_eq!((lsns(&said.out).len(), said.err.as_str()), (7, ""));
}

#[test]
fn a_segment_that_is_missing_or_has_no_header_costs_only_what_was_in_it() {
    let dir = large_log(14);
    let whole = lsns(&tool("dump", dir.path(), &["-skip-damage"]).expect(0, &[]).out);
    let second = dir.path().join("wal_file.0000000002.log");
    let alone = Command::new(PROGRAM).arg("dump").arg(&second).output().expect("it can be run");
    let inside = lsns(&String::from_utf8(alone.stdout).expect("text"));
    assert!(whole.len() == 14 && !inside.is_empty(), "{inside:?}");
    // Its epoch is in the header of the next segment, too.
    overwrite(&second, &[0; 4096], 0);
    let said = tool("dump", dir.path(), &["-skip-damage"]).expect(1, &["0000000002.log: offset 0"]);
    assert_eq!(lsns(&said.out), whole);
    std::fs::remove_file(&second).expect("it is there");
    let gap = format!("LSN {} to {}", inside[0], inside[inside.len() - 1]);
    let said = tool("dump", dir.path(), &["-skip-damage"]).expect(1, &[&gap]);
    assert_eq!(lsns(&said.out).len(), whole.len() - inside.len());
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let dir = large_log(14);
    let mut command = Command::new(PROGRAM);
    command.args(["dump", "-wal"]).arg(active(dir.path()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_until(b' ', &mut Vec::new()).expect("a line begins");
    drop(out);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_log_of_a_running_server_is_dumped_as_well() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    tool("dump", dir.path(), &[]).expect(0, &["1 wal_file 4096 SET a 1"]);
    server.stop();
}
