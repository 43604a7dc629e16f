//! Reads that take long: only the client that asks for one waits for it, and they end when the server stops.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, Server, StopOnDrop};

/// Each KEYS is a tenth of a second of work, with the longest pattern that there may be.
const LONG_KEYS: usize = 60;
const LONG_KEY_BYTES: usize = 60_000;
const PATTERN_BYTES: usize = 1024;

/// Seen: KEYS after a write was carried out on the commit path, where all writers wait, and matched each key
/// with the pattern under a shard's lock. Now the client's own thread does it, once its writes are answered,
/// and matches without a lock.
#[test]
fn a_long_read_after_a_write_keeps_no_writer_waiting_and_is_answered_in_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-persist=false"]);
    let mut client = Client::connect(&server);
    fill_with_long_keys(&mut client);
    let reads = [
        request(["KEYS", &slow_pattern()]),
        request(["SCAN", "0", "COUNT", "1000000000", "MATCH", &slow_pattern()]),
        request(["RANDOMKEY"]),
    ];
    let mut pipeline = Vec::new();
    let rounds = 4;
    for round in 0..rounds {
        let number = round.to_string();
        pipeline.extend(request(["SET", "mine", &number]));
        pipeline.extend(request(["GET", "mine"]));
        reads.iter().for_each(|read| pipeline.extend(read));
        pipeline.extend(request(["GET", "mine"]));
    }
    client.send(pipeline);
    let done = AtomicBool::new(false);
    let mut writes = 0;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _done = StopOnDrop(&done);
            for round in 0..rounds {
                let number = Value::bulk(round.to_string());
                assert_eq!(reply(&mut client), Ok(Value::ok()));
                assert_eq!(reply(&mut client).as_ref(), Ok(&number));
                assert_eq!(reply(&mut client), Ok(Value::Array(Vec::new())));
                let scan = vec![Value::bulk("0"), Value::Array(Vec::new())];
                assert_eq!(reply(&mut client), Ok(Value::Array(scan)));
                assert!(matches!(reply(&mut client), Ok(Value::Bulk(_))));
                assert_eq!(reply(&mut client).as_ref(), Ok(&number));
            }
        });
        let mut writer = Client::connect(&server);
        while !done.load(Relaxed) {
            assert_eq!(ask(&mut writer, ["SET", "other", "1"]), Value::ok());
            writes += 1;
        }
        reader.join().expect("the replies are right");
    });
    // With the long reads on the commit path there would be one or two writes for each.
    assert!(writes > 20 * rounds, "{writes} writes beside {} long reads", 2 * rounds);
    server.stop();
}

#[test]
fn a_stop_ends_long_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-persist=false"]);
    let mut client = Client::connect(&server);
    fill_with_long_keys(&mut client);
    // Minutes of work.
    client.send(request(["KEYS", &slow_pattern()]).repeat(3000));
    assert_eq!(reply(&mut client), Ok(Value::Array(Vec::new())));
    server.stop();
}

#[test]
fn a_transaction_looks_through_a_limited_number_of_keys_or_is_refused_as_a_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-persist=false"]);
    let mut client = Client::connect(&server);
    let fill = |client: &mut Client, keys: std::ops::Range<u32>| {
        let set = |key: u32| request(["SET", &format!("key{key}"), ""]);
        let count = keys.len();
        client.send(keys.flat_map(set).collect::<Vec<u8>>());
        (0..count).for_each(|_| assert_eq!(reply(client), Ok(Value::ok())));
    };
    let transaction = |client: &mut Client, commands: &[&str]| {
        say(client, "MULTI");
        commands.iter().for_each(|command| drop(say(client, command)));
        say(client, "EXEC")
    };
    fill(&mut client, 0..5000);
    let Value::Array(replies) = transaction(&mut client, &["SET a 1", "KEYS *", "RANDOMKEY"])
    else {
        panic!("it is not refused");
    };
    assert!(matches!(&replies[1], Value::Array(keys) if keys.len() == 5001), "{replies:?}");
    // Each of these alone would do.
    let refused = Value::error(
        "EXECABORT Transaction discarded because of: ERR a transaction may look through no more than \
         10000 keys; use KEYS or SCAN outside of it",
    );
    let walks = ["SET a 2", "KEYS *", "KEYS *", "SCAN 0 COUNT 5000", "KEYS *", "KEYS *"];
    assert_eq!(transaction(&mut client, &walks), refused);
    fill(&mut client, 5000..30_000);
    assert_eq!(transaction(&mut client, &["SET a 2", "KEYS none"]), refused);
    assert_eq!(say(&mut client, "GET a"), Value::bulk("1"));
    assert_eq!(say(&mut client, "KEYS none"), Value::Array(Vec::new()));
    let Value::Array(_) = transaction(&mut client, &["SCAN 0 COUNT 1000000000"]) else {
        panic!("a SCAN is never refused");
    };

    // SCAN looks at no more at a time, and still comes to every key.
    let (mut cursor, mut seen) = ("0".to_owned(), BTreeSet::new());
    loop {
        let Value::Array(parts) =
            ask(&mut client, ["SCAN", &cursor, "MATCH", "key*", "COUNT", "1000000000"])
        else {
            panic!("SCAN answers an array");
        };
        let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        assert!(keys.len() < 5_000, "{} keys in one step", keys.len());
        seen.extend(keys.iter().map(|key| format!("{key:?}")));
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 30_000);
    server.stop();
}

#[test]
fn a_pattern_of_more_than_a_kibibyte_is_refused_wherever_there_is_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-persist=false"]);
    let mut client = Client::connect(&server);
    let (longest, longer) = ("x".repeat(PATTERN_BYTES), "x".repeat(PATTERN_BYTES + 1));
    for words in [&["KEYS"][..], &["SCAN", "0", "MATCH"], &["CONFIG", "GET", "save"]] {
        let with = |pattern| [words, &[pattern]].concat();
        let taken = ask(&mut client, with(&longest));
        assert!(!matches!(taken, Value::Error(_)), "{words:?}: {taken:?}");
        let refused = Value::error("ERR pattern is too long, the limit is 1024 bytes");
        assert_eq!(ask(&mut client, with(&longer)), refused, "{words:?}");
    }
    server.stop();
}

fn fill_with_long_keys(client: &mut Client) {
    for number in 0..LONG_KEYS {
        let key = format!("{}{number}", "a".repeat(LONG_KEY_BYTES));
        assert_eq!(ask(client, ["SET", &key, ""]), Value::ok());
    }
}

fn slow_pattern() -> String {
    format!("*{}b", "a".repeat(PATTERN_BYTES - 2))
}
