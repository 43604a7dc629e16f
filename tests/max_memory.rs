//! `-maxmemory`: over it, what would add something is refused as Redis refuses it, and everything
//! else goes on, also after a restart.

mod common;
#[path = "common/wire.rs"]
mod wire;

use common::{Client, Server};
use wire::{Value, ask};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

#[test]
fn a_full_store_adds_nothing_but_reads_deletes_and_takes_more_once_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", "1mb"]);
    let mut client = Client::connect(&server);
    let value = "x".repeat(1000);
    let mut stored = 0;
    loop {
        match ask(&mut client, ["SET", &format!("key{stored}"), &value]) {
            Value::Error(error) => {
                assert_eq!(error, OOM);
                break;
            }
            reply => assert_eq!(reply, Value::ok()),
        }
        stored += 1;
        assert!(stored < 2000, "it takes more than it may");
    }
    assert!(stored > 900, "{stored} values of 1000 bytes are less than 1 MiB");

    let full = |client: &mut Client| {
        for words in [
            &["SET", "key0", "shorter"][..],
            &["MSET", "a", "1"],
            &["APPEND", "key0", "x"],
            &["INCR", "n"],
            &["INCRBYFLOAT", "n", "1"],
            &["SETRANGE", "n", "5", "x"],
            &["COPY", "key0", "key0b"],
            &["GETSET", "n", "1"],
        ] {
            assert_eq!(ask(client, words), Value::error(OOM), "{words:?}");
        }
        assert_eq!(client.ask("SET a b"), format!("-{OOM}"));
        // A transaction is refused as a whole.
        assert_eq!(ask(client, ["MULTI"]), Value::ok());
        assert_eq!(ask(client, ["DEL", "key1"]), Value::Simple("QUEUED".into()));
        assert_eq!(ask(client, ["SET", "a", "1"]), Value::Simple("QUEUED".into()));
        let refused = format!("EXECABORT Transaction discarded because of: {OOM}");
        assert_eq!(ask(client, ["EXEC"]), Value::error(&refused));
        assert_eq!(ask(client, ["GET", "key1"]), Value::bulk(&value));
        // What adds nothing is carried out.
        assert_eq!(ask(client, ["EXPIRE", "key1", "1000"]), Value::Integer(1));
        assert_eq!(ask(client, ["RENAME", "key1", "key1"]), Value::ok());
        assert_eq!(ask(client, ["DBSIZE"]), Value::Integer(stored));
    };
    full(&mut client);
    // No longer key either.
    let long = "k".repeat(1000);
    let last = format!("key{}", stored - 1);
    assert_eq!(ask(&mut client, ["RENAME", &last, &long]), Value::error(OOM));
    assert_eq!(ask(&mut client, ["RENAME", &last, "z"]), Value::ok());
    server.stop();

    // What is in the log is served, whatever the limit.
    let server = Server::start(dir.path(), &["-maxmemory", "500kb"]);
    let mut client = Client::connect(&server);
    full(&mut client);
    for key in 0..stored * 3 / 4 {
        assert_eq!(ask(&mut client, ["DEL", &format!("key{key}")]), Value::Integer(1));
    }
    assert_eq!(ask(&mut client, ["SET", "a", "1"]), Value::ok());
    server.stop();
}

/// Requests that are short themselves, all in one packet.
#[test]
fn a_pipeline_does_not_get_past_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", "5mb"]);
    let mut client = Client::connect(&server);
    ask(&mut client, ["SET", "a", &"x".repeat(1_000_000)]);
    let mut copies = Vec::new();
    (0..100).for_each(|to| copies.extend(wire::request(["COPY", "a", &to.to_string()])));
    client.send(copies);
    let replies: Vec<Value> =
        (0..100).map(|_| wire::reply(&mut client).expect("a reply")).collect();
    let copied = replies.iter().filter(|reply| **reply == Value::Integer(1)).count();
    assert!((3..=6).contains(&copied), "{copied} megabytes are in 5 MiB");
    assert!(replies[copied..].iter().all(|reply| *reply == Value::error(OOM)));

    // Overwriting counts what goes.
    let mut client = Client::connect(&server);
    (0..4).for_each(|key| drop(ask(&mut client, ["DEL", &key.to_string()])));
    let set = wire::request(["SET", "a", &"y".repeat(1_000_000)]);
    client.send(set.repeat(20));
    for _ in 0..20 {
        assert_eq!(wire::reply(&mut client), Ok(Value::ok()));
    }
    server.stop();
}
