//! A log that cannot be written any more: writes are refused with the reason and leave no trace,
//! reads go on, and what was acknowledged before is there after a restart.
//!
//! The failure is real: the size that a file of the server may have is limited while it runs. (The
//! other failures need a disk that obeys; see `disk.rs`.)

use rustix::process::{Resource, Rlimit, prlimit};

#[cfg(feature = "scripts")]
use crate::common::wire::{Value, reply, say};
use crate::common::{Client, Server, eventually};

#[test]
fn after_a_failed_write_all_writes_are_refused_and_reads_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&server)).collect();
    assert_eq!(clients[0].ask("SET a 1"), "+OK");
    assert_eq!(clients[0].ask("SET b 1"), "+OK");

    limit_file_size(&server, Some(0));
    for client in &mut clients {
        client.send("SET a 2\nGET a\nDEL b\nSET c 3\nGET c\nDEL never-was\n");
    }
    let mut refusals = Vec::new();
    for client in &mut clients {
        refusals.push(client.line());
        assert_eq!(client.line(), "+OK 1");
        refusals.extend([client.line(), client.line()]);
        assert_eq!(client.line(), "-GET could not find c in store");
        refusals.push(client.line());
        assert_eq!(client.ask("GET b"), "+OK 1");
    }
    let refusal = refusals[0].clone();
    assert!(refusal.starts_with("-ERR ") && refusal.contains("File too large"), "{refusal}");
    assert!(refusals.iter().all(|other| *other == refusal), "{refusals:?}");
    // The reserve may have met the limit before, and warned of it.
    let line = server.wait_for_log("the log is closed for writing");
    assert!(line.contains("ERROR") && line.contains("File too large"), "{line}");

    // It is never tried again: how much of the failed write is on disk is not known.
    limit_file_size(&server, None);
    assert_eq!(clients[0].ask("SET a 4"), refusal);
    assert_eq!(Client::connect(&server).ask("SET d 5"), refusal);
    assert_eq!(clients[0].ask("GET a"), "+OK 1");
    assert_told(&mut clients[0]);
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(1), "a log that could not be closed is no ordered stop");

    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("GET a"), "+OK 1");
    assert_eq!(client.ask("GET b"), "+OK 1");
    assert_eq!(client.ask("GET c"), "-GET could not find c in store");
    assert_eq!(client.ask("SET a 5"), "+OK");
}

/// Seen in review: the commands of a refused batch that change nothing are carried out again, without the batch's
/// changes. A script decides anew then, and this one writes what it had found written. It was answered as done, and
/// was neither logged nor applied. Now it is refused, like the write before it.
#[cfg(feature = "scripts")]
#[test]
fn a_script_that_finds_the_write_before_it_gone_is_refused_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    limit_file_size(&server, Some(0));
    let sets_unless_there = "EVAL \"if redis.call('get', 'b') then return 'found' end \
                             redis.call('set', 'b', 'mine') return 'set'\" 0";
    client.send(format!("SET b 1\n{sets_unless_there}\n{sets_unless_there}\nGET b\n"));
    let refusal = client.line();
    assert!(refusal.contains("File too large"), "{refusal}");
    let why = refusal.trim_start_matches("-ERR not confirmed, the log takes no more writes: ");
    for _ in 0..2 {
        let refusal = client.line();
        assert!(refusal.starts_with("-MISCONF ") && refusal.contains(why), "{refusal}");
    }
    assert_eq!(client.line(), "-GET could not find b in store");
    let reads = "EVAL \"return redis.call('get', 'a')\" 0";
    assert_eq!(client.ask(reads), "$1\r", "a script that reads goes on");
    assert_eq!(client.line(), "1\r");
}

/// A message of a script may tell of a write before it. Seen in review: a script that wrote nothing itself, behind a
/// write that failed, had its message heard.
#[cfg(feature = "scripts")]
#[test]
fn nobody_hears_a_script_that_comes_after_a_write_that_was_not_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let (mut client, mut hearer) = (Client::connect(&server), Client::connect(&server));
    let [kind, channel] = ["subscribe", "news"].map(|word| Value::Bulk(word.into()));
    let subscribed = Value::Array(vec![kind, channel, Value::Integer(1)]);
    assert_eq!(say(&mut hearer, "SUBSCRIBE news"), subscribed);
    limit_file_size(&server, Some(0));
    let tells = "EVAL \"return redis.call('publish', 'news', 'of b')\" 0";
    // The second time, without the write, it finds that it has something to tell.
    let tells_if_gone = "EVAL \"if redis.call('get', 'b') then return 1 end \
                         return redis.call('publish', 'news', 'of no b')\" 0";
    client.send(format!("SET b 1\n{tells}\n{tells_if_gone}\n"));
    for _ in 0..3 {
        let refusal = client.line();
        assert!(refusal.contains("File too large"), "{refusal}");
    }
    assert_eq!(say(&mut Client::connect(&server), "PUBLISH news end"), Value::Integer(1));
    let heard = ["message", "news", "end"].map(|word| Value::Bulk(word.into()));
    assert_eq!(reply(&mut hearer).expect("a message"), Value::Array(heard.into()));
}

/// Seen: only the compactor knew of a sync or seal that failed for it, so that INFO said `ok` on an idle
/// server, and BGREWRITEAOF `started`, for ever. Now the log keeps its failure, and INFO and commands ask it.
#[test]
fn a_failure_that_a_compaction_meets_on_an_idle_server_is_in_info_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    eventually("the next segment is there, and the log is marked as idle", || {
        let log = std::fs::read(dir.path().join("wal_file")).expect("a log");
        // The reserve comes after the next segment.
        let reserve = dir.path().join("wal_file.reserve").metadata();
        reserve.is_ok_and(|reserve| reserve.len() == 1 << 20)
            && log[8192..].iter().any(|&byte| byte != 0)
    });
    limit_file_size(&server, Some(0));
    assert_eq!(client.ask("BGREWRITEAOF"), "+Background append only file rewriting started\r");
    eventually("INFO tells of it", || client.info().contains("wal_status:err"));
    assert_told(&mut client);
    assert_eq!(client.ask("GET a"), "+OK 1");
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(1));
}

/// INFO shows the failure in all its rows, and BGREWRITEAOF is refused with the reason.
fn assert_told(client: &mut Client) {
    let info = client.info();
    let rows = ["aof_last_write_status:err", "aof_last_bgrewrite_status:err", "wal_status:err"];
    assert!(rows.iter().all(|row| info.contains(row)), "{info}");
    let reason = info.lines().find_map(|line| line.strip_prefix("wal_failure:")).expect("a row");
    assert!(reason.contains("File too large"), "{reason}");
    let refusal = format!("-ERR Can't execute an AOF background rewriting: {reason}\r");
    assert_eq!(client.ask("BGREWRITEAOF"), refusal);
}

/// SIGXFSZ comes with each write over the limit, and ends a process that does not handle it.
fn limit_file_size(server: &Server, current: Option<u64>) {
    let limit = Rlimit { current, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit).expect("our own child");
}
