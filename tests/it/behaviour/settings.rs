//! What CONFIG SET changes for others, what SLOWLOG shows of a long command, and SHUTDOWN.

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, Server, eventually};

const DENIED: &str = "NOAUTH Authentication required.";

#[test]
fn a_password_that_is_set_holds_for_those_who_come_after_it_and_ends_with_the_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut before = Client::connect(&server);
    assert_eq!(say(&mut before, "CONFIG SET requirepass secret"), Value::ok());
    assert_eq!(say(&mut before, "SET k v"), Value::ok());
    let mut after = Client::connect(&server);
    assert_eq!(say(&mut after, "GET k"), Value::error(DENIED));
    assert!(matches!(say(&mut after, "AUTH wrong"), Value::Error(_)));
    assert_eq!(say(&mut after, "AUTH secret"), Value::ok());
    assert_eq!(say(&mut after, "GET k"), Value::bulk("v"));
    let shown = Value::Array(vec![Value::bulk("requirepass"), Value::bulk("(hidden)")]);
    assert_eq!(say(&mut after, "CONFIG GET requirepass"), shown);
    let list = "user default on sanitize-payload ~* &* +@all";
    assert_eq!(say(&mut after, "ACL LIST"), Value::Array(vec![Value::bulk(list)]));
    server.stop();

    let server = Server::start(dir.path(), &[]);
    assert_eq!(say(&mut Client::connect(&server), "GET k"), Value::bulk("v"));
    server.stop();
}

#[test]
fn a_client_that_asks_nothing_for_the_timeout_is_closed_and_one_that_asks_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut idle = Client::connect(&server);
    assert_eq!(say(&mut idle, "PING"), Value::Simple("PONG".into()));
    let mut busy = Client::connect(&server);
    assert_eq!(say(&mut busy, "CONFIG SET timeout 1"), Value::ok());
    eventually("the idle client is closed", || {
        let Value::Bulk(list) = say(&mut busy, "CLIENT LIST") else { panic!("a list") };
        list.iter().filter(|byte| **byte == b'\n').count() == 1
    });
    assert!(idle.rest().is_ok_and(|rest| rest.is_empty()));
    server.stop();
}

#[test]
fn more_clients_are_let_in_after_maxclients_is_raised() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxclients", "1"]);
    let mut first = Client::connect(&server);
    assert_eq!(
        say(&mut first, "CONFIG GET maxclients"),
        Value::Array(vec![Value::bulk("maxclients"), Value::bulk("1")])
    );
    let mut second = Client::connect(&server);
    assert_eq!(second.line().trim_end(), "-ERR max number of clients reached");
    assert_eq!(say(&mut first, "CONFIG SET maxclients 2"), Value::ok());
    assert_eq!(say(&mut Client::connect(&server), "PING"), Value::Simple("PONG".into()));
    server.stop();
}

/// It takes long for its table, not for its reply.
#[test]
fn a_long_command_is_in_the_slow_log_with_its_words_and_is_a_sample_of_latency() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "CONFIG SET latency-monitor-threshold 1"), Value::ok());
    assert_eq!(say(&mut client, "SETRANGE long 8000 x"), Value::Integer(8001));
    assert_eq!(say(&mut client, "LCS long long LEN"), Value::Integer(8001));
    let Value::Array(slow) = say(&mut client, "SLOWLOG GET 1") else { panic!("a list") };
    let [Value::Array(entry)] = &slow[..] else { panic!("{slow:?}") };
    let words = ["LCS", "long", "long", "LEN"].map(Value::bulk);
    assert_eq!(entry[3], Value::Array(words.to_vec()));
    let Value::Array(latest) = say(&mut client, "LATENCY LATEST") else { panic!("a list") };
    assert_eq!(latest.len(), 1);
    assert_eq!(say(&mut client, "LATENCY RESET"), Value::Integer(1));
    assert_eq!(say(&mut client, "LATENCY LATEST"), Value::Array(Vec::new()));

    // Trimmed as Redis trims: to 32 words of 128 bytes.
    assert_eq!(say(&mut client, "CONFIG SET slowlog-log-slower-than 0"), Value::ok());
    let mut words = vec![vec![b'k'; 200]; 40];
    words[0] = b"DEL".to_vec();
    ask(&mut client, words);
    let Value::Array(slow) = say(&mut client, "SLOWLOG GET 1") else { panic!("a list") };
    let [Value::Array(entry)] = &slow[..] else { panic!("{slow:?}") };
    let Value::Array(words) = &entry[3] else { panic!("{entry:?}") };
    assert_eq!(words.len(), 32);
    assert_eq!(words[1], Value::bulk(["k".repeat(128), "... (72 more bytes)".into()].concat()));
    assert_eq!(words[31], Value::bulk("... (9 more arguments)"));
    server.stop();
}

#[test]
fn passwords_are_in_no_slow_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "CONFIG SET slowlog-log-slower-than 0"), Value::ok());
    say(&mut client, "AUTH default hunter2");
    say(&mut client, "HELLO 2 AUTH default hunter2");
    say(&mut client, "CONFIG SET requirepass hunter2");
    say(&mut client, "CONFIG SET timeout 0 requirepass \"\"");
    client.send(request(["SLOWLOG", "GET", "-1"]));
    let shown = format!("{:?}", reply(&mut client).expect("a list"));
    assert!(shown.contains("requirepass") && shown.contains("redacted"), "{shown}");
    let secret = format!("{:?}", Value::bulk("hunter2"));
    assert!(!shown.contains(&secret), "{shown}");
    server.stop();
}

#[test]
fn save_is_answered_after_a_compaction_that_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-fsync", "everysec"]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "SET k v"), Value::ok());
    assert_eq!(client.counter("wal_compactions"), 0);
    client.send(request(["SAVE"]));
    assert_eq!(say(&mut Client::connect(&server), "SET other v"), Value::ok());
    assert_eq!(reply(&mut client), Ok(Value::ok()));
    assert_eq!(client.counter("wal_compactions"), 1);
    server.stop();
}

#[test]
fn shutdown_stops_in_order_and_is_not_answered_after_all_before_it_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-fsync", "no"]);
    let mut other = Client::connect(&server);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "MULTI"), Value::ok());
    let refused = Value::error("ERR Command not allowed inside a transaction");
    assert_eq!(say(&mut client, "SHUTDOWN"), refused);
    say(&mut client, "DISCARD");
    let requests = [request(["SET", "k", "v"]), request(["SHUTDOWN", "NOSAVE"]), request(["PING"])];
    client.send(requests.concat());
    assert_eq!(client.rest().expect("a reply"), b"+OK\r\n");
    assert!(other.rest().is_ok_and(|rest| rest.is_empty()));
    let (status, log) = server.wait();
    assert!(status.success() && log.contains("stopped"), "{log}");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(say(&mut Client::connect(&server), "GET k"), Value::bulk("v"));
    assert!(server.log().contains("closed in order"), "{}", server.log());
    server.stop();
}

#[test]
fn a_password_has_as_many_digits_as_its_bits_need_and_none_is_made_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for (bits, digits) in [("", 64), (" 1", 1), (" 4", 1), (" 5", 2), (" 12", 3), (" 4096", 1024)] {
        let Value::Bulk(password) = say(&mut client, &format!("ACL GENPASS{bits}")) else {
            panic!("no password")
        };
        assert_eq!(password.len(), digits, "{bits}");
        assert!(password.iter().all(u8::is_ascii_hexdigit), "{bits}");
    }
    let made: std::collections::BTreeSet<String> =
        (0..100).map(|_| format!("{:?}", say(&mut client, "ACL GENPASS 64"))).collect();
    assert_eq!(made.len(), 100);
}
