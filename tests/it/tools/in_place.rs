//! Changes of a part of a long value: what the log has of them, and that no tool makes a value out of one that nobody has
//! written, where records before it or after it are missing.

use std::path::Path;

use super::{active, flip, json, new_dir, tool};
use crate::common::wire::{self, Value, say};
use crate::common::{Client, Server};

/// Has a server carry out commands, each in a batch of its own, and stops it.
fn carry_out(dir: &Path, commands: &[&str]) {
    let server = Server::start(dir, &[]);
    let mut client = Client::connect(&server);
    for command in commands {
        if *command == "compact" {
            say(&mut client, "BGREWRITEAOF");
            server.wait_for_log("compacted the log");
            continue;
        }
        let reply = say(&mut client, &command.replace("LONG", &"x".repeat(60_000)));
        assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
    }
    server.stop();
}

/// What a server has that was given the commands of a dump: the value, its first bytes and its length, and its expiry.
fn made_of(dump: &str, key: &str) -> Option<(String, usize, Value)> {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    client.send([dump.as_bytes(), b"PING last\r\n"].concat());
    let replies = std::iter::from_fn(|| wire::reply(&mut client).ok());
    let mut replies = replies.take_while(|reply| *reply != Value::bulk("last"));
    assert!(!replies.any(|reply| matches!(reply, Value::Error(_))));
    assert_eq!(say(&mut client, "SELECT 0"), Value::ok());
    let value = wire::ask(&mut client, ["GET", key]);
    let expiry = wire::ask(&mut client, ["PEXPIRETIME", key]);
    server.stop();
    let Value::Bulk(value) = value else { return None };
    let start = String::from_utf8_lossy(&value[..value.len().min(8)]).into_owned();
    Some((start, value.len(), expiry))
}

const FAR: i64 = 4_107_542_400_000;

#[test]
fn a_change_of_a_long_value_takes_one_block_of_the_log_and_is_shown_as_what_it_is() {
    let dir = new_dir();
    let appends = ["APPEND long a"; 10];
    let others = [
        "SETRANGE long 7 abc",
        "SETRANGE long 60012 d",
        "SETBIT long 1 0",
        "BITFIELD long SET u8 #2 65 SET u8 #4 66",
        "PEXPIREAT long 4107542400000",
        "PERSIST long",
        "GETEX long PXAT 4107542400000",
        "SELECT 3",
        "SET short x",
        "APPEND short y",
        "EXPIREAT short 4107542400",
    ];
    carry_out(dir.path(), &[&["SET long LONG"], &appends[..], &others].concat());
    let said = tool("dump", dir.path(), &[]).expect(0, &[]);
    let lines: Vec<&str> = said.out.lines().skip(1).collect();
    // 60,000 bytes take fifteen blocks after the first one.
    let at = |n: usize| 4096 * (16 + n);
    for (n, line) in lines[..10].iter().enumerate() {
        assert_eq!(*line, format!("{} wal_file {} SETRANGE long {} a", n + 2, at(n), 60_000 + n));
    }
    let far = "expires 2100-03-01T00:00:00.000Z";
    let expected = [
        "SETRANGE long 7 abc".to_owned(),
        "SETRANGE long 60010 \"\\x00\\x00d\"".to_owned(),
        "SETRANGE long 0 8".to_owned(),
        "SETRANGE long 2 AxB".to_owned(),
        format!("PEXPIREAT long {far}"),
        "PERSIST long".to_owned(),
        format!("PEXPIREAT long {far}"),
        "db3 SET short x".to_owned(),
        "db3 SET short xy".to_owned(),
        format!("db3 SET short xy {far}"),
    ];
    for (n, (line, expected)) in lines[10..].iter().zip(&expected).enumerate() {
        assert_eq!(*line, format!("{} wal_file {} {expected}", n + 12, at(10 + n)));
    }
    assert_eq!(lines.len(), 20);
    let script = tool("dump", dir.path(), &["-json", "-from-lsn", "2", "-key", "long"]);
    let script =
        script.expect(0, &["\"op\":\"PERSIST\"", "\"at\":60009", "\"length_before\":60009"]);
    script.out.lines().for_each(json::assert_valid);
    tool("check", dir.path(), &[]).expect(0, &["keys         2, "]);
    let resp = tool("dump", dir.path(), &["-resp"]).expect(0, &[]);
    assert_eq!(resp.err, "");
    let expected = ("8xAxBxxa".to_owned(), 60_013, Value::Integer(FAR));
    assert_eq!(made_of(&resp.out, "long"), Some(expected));
}

#[test]
fn commands_that_are_carried_out_late_lose_no_key_to_an_expiry_that_was_lifted_in_time() {
    let dir = new_dir();
    let commands = [
        "SET lifted LONG",
        "PEXPIRE lifted 50000",
        "SETRANGE lifted 0 first",
        "PERSIST lifted",
        "SET later LONG PX 50000",
        "SETRANGE later 0 second",
        "PEXPIREAT later 4107542400000",
        "SET again LONG PX 50000",
        "DEL again",
        "SET again LONG",
        "SET gone LONG PX 50000",
        "SELECT 3",
        "SET gone LONG",
        "SET emptied LONG PX 50000",
        "FLUSHDB",
        "SET emptied LONG",
        "MOVE emptied 0",
    ];
    carry_out(dir.path(), &commands);
    let said = tool("dump", dir.path(), &["-resp"]).expect(0, &[]);
    // As if more than 50 seconds had gone by.
    let is_soon = |word: &&str| word.len() == 13 && word.starts_with('1');
    let soon: Vec<&str> = said.out.split("\r\n").filter(is_soon).collect();
    let past = "1000000000000";
    let late = soon.iter().fold(said.out.clone(), |out, at| out.replace(at, past));
    let made = |start: &str, at| Some((start.to_owned(), 60_000, Value::Integer(at)));
    assert_eq!(made_of(&late, "lifted"), made("firstxxx", -1));
    assert_eq!(made_of(&late, "later"), made("secondxx", FAR));
    assert_eq!(made_of(&late, "again"), made("xxxxxxxx", -1));
    assert_eq!(made_of(&late, "emptied"), made("xxxxxxxx", -1));
    assert_eq!(made_of(&late, "gone"), None);
}

/// Damages the batch that a line of `dump` shows.
fn damage(dir: &Path, lsn: usize) {
    let said = tool("dump", dir, &[]).expect(0, &[]);
    let line = said.out.lines().find(|line| line.starts_with(&format!("{lsn} ")));
    let offset = line.and_then(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
    flip(&active(dir), offset.expect("an offset") + 70);
}

#[test]
fn after_a_gap_a_change_in_place_is_left_out_until_its_whole_value_comes_again() {
    let dir = new_dir();
    let commands = [
        "SET long LONG",
        "SETRANGE long 0 first",
        // LSN 3, damaged: what comes after it was made for a value that is gone.
        "SET long LONG",
        "SETRANGE long 1 never",
        "PEXPIREAT long 4107542400000",
        "SET other LONG",
        "SETRANGE other 0 second",
        "PEXPIREAT other 4107542400000",
    ];
    carry_out(dir.path(), &commands);
    damage(dir.path(), 3);
    let said = tool("dump", dir.path(), &["-skip-damage", "-resp"]);
    let said = said.expect(1, &["LSN 3 to 3", "changes in place were left out", "there: long\n"]);
    let long = ("firstxxx".to_owned(), 60_000, Value::Integer(-1));
    assert_eq!(made_of(&said.out, "long"), Some(long));
    let other = ("secondxx".to_owned(), 60_000, Value::Integer(FAR));
    assert_eq!(made_of(&said.out, "other"), Some(other));
    // Each record is still shown.
    let said = tool("dump", dir.path(), &["-skip-damage"]).expect(1, &["SETRANGE long 1 never"]);
    assert_eq!(said.out.lines().count(), 7);

    // The same without damage, if the records before were not asked for.
    let dir = new_dir();
    carry_out(dir.path(), &commands);
    let said = tool("dump", dir.path(), &["-resp", "-from-lsn", "4"]);
    let said = said.expect(1, &["left out", "there: long\n"]);
    assert_eq!(made_of(&said.out, "long"), None);
    assert!(made_of(&said.out, "other").is_some());
    tool("dump", dir.path(), &["-resp", "-from-lsn", "6"]).expect(0, &[]);
}

#[test]
fn values_that_a_cut_may_leave_with_newer_bytes_among_older_ones_are_named() {
    let dir = new_dir();
    let commands = [
        "SET mixed LONG",
        "SET whole LONG",
        "SET same LONG",
        "compact",
        "SETRANGE mixed 0 later",
        "SETRANGE whole 0 later",
        "SET whole LONG",
        "SETRANGE whole 0 again",
        "EXPIRE same 1000",
        "SET last 1",
    ];
    carry_out(dir.path(), &commands);
    let whole = tool("dump", dir.path(), &["-resp"]).expect(0, &[]);
    assert_eq!(whole.err, "");
    let long = ("laterxxx".to_owned(), 60_000, Value::Integer(-1));
    assert_eq!(made_of(&whole.out, "mixed"), Some(long));
    // What a snapshot has may be later than the end of the log, if that is cut off: the damage may hide what it saw.
    let doubt = ["Doubt   values that the snapshot has", "after it: mixed. If"];
    tool("repair", dir.path(), &["-to-lsn", "8"]).expect(1, &doubt);
    tool("dump", dir.path(), &["-resp", "-to-lsn", "8"])
        .expect(0, &["that the snapshot has: mixed. If"]);
    damage(dir.path(), 9);
    tool("repair", dir.path(), &[]).expect(1, &doubt);
    let script = tool("repair", dir.path(), &["-json"]);
    script.expect(1, &["\"perhaps_mixed\":[{\"key\":\"mixed\"}]"]);
    tool("dump", dir.path(), &["-resp"]).expect(2, &["that the snapshot has: mixed. If"]);
    let said = tool("dump", dir.path(), &["-resp", "-skip-damage"]);
    let said = said.expect(1, &["left out", "there: mixed"]);
    let long = ("xxxxxxxx".to_owned(), 60_000, Value::Integer(-1));
    assert_eq!(made_of(&said.out, "mixed"), Some(long));
    tool("repair", dir.path(), &["-yes"]).expect(0, &doubt);
}
