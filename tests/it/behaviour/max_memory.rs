//! `-maxmemory`: over it, commands that would add data are refused as Redis refuses them, and everything
//! else goes on, also after a restart.

use crate::common::wire::{self, Value, ask};
use crate::common::{Client, Server};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

#[test]
fn a_full_store_adds_nothing_but_reads_deletes_and_takes_more_once_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", "1mb", "-fsync", "no"]);
    let mut client = Client::connect(&server);
    let value = "x".repeat(1000);
    let mut stored = 0;
    for length in [1000, 100, 10, 0] {
        while ask(&mut client, ["SET", &format!("key{stored}"), &value[..length]]) == Value::ok() {
            stored += 1;
            assert!(stored < 2000, "it takes more than it may");
        }
        assert!(stored > 900, "{stored} values of 1000 bytes are less than 1 MiB");
        if length == 1000 {
            // There is no room for one more, but one may be as long as it was, or shorter.
            for value in [&value[..], &value[..990]] {
                assert_eq!(ask(&mut client, ["SET", "key0", value]), Value::ok());
            }
            let part = ["SETRANGE", "key0", "980", "zzzzzzzzzz"];
            assert_eq!(ask(&mut client, part), Value::Integer(990));
        }
    }

    let full = |client: &mut Client| {
        for words in [
            &["SET", "longer", &value][..],
            &["MSET", "key0", "1", "longer", &value],
            &["MSETNX", "n", "1", "longer", &value],
            &["APPEND", "key1", &value],
            &["INCR", "n"],
            &["INCRBYFLOAT", "n", "1"],
            &["SETRANGE", "n", "5", "x"],
            &["COPY", "key0", "key0b"],
            &["GETSET", "n", "1"],
        ] {
            assert_eq!(ask(client, words), Value::error(OOM), "{words:?}");
        }
        assert_eq!(ask(client, ["EXISTS", "n", "longer", "key0b"]), Value::Integer(0));
        assert_eq!(client.ask("SET a b"), format!("-{OOM}"));
        // A transaction is refused as a whole.
        assert_eq!(ask(client, ["MULTI"]), Value::ok());
        assert_eq!(ask(client, ["DEL", "key1"]), Value::Simple("QUEUED".into()));
        assert_eq!(ask(client, ["MSET", "a", &value, "b", &value]), Value::Simple("QUEUED".into()));
        let refused = format!("EXECABORT Transaction discarded because of: {OOM}");
        assert_eq!(ask(client, ["EXEC"]), Value::error(&refused));
        assert_eq!(ask(client, ["GET", "key1"]), Value::bulk(&value));
        // A command that adds nothing is carried out.
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

    // Over the limit no command that can add is carried out, however little it would add.
    let server = Server::start(dir.path(), &["-maxmemory", "500kb", "-fsync", "no"]);
    let mut client = Client::connect(&server);
    assert_eq!(ask(&mut client, ["SET", "key0", "shorter"]), Value::error(OOM));
    assert_eq!(ask(&mut client, ["APPEND", "key0", "x"]), Value::error(OOM));
    server.stop();

    // The keys in the log are served, however low the limit is.
    let server = Server::start(dir.path(), &["-maxmemory", "500kb", "-fsync", "no"]);
    let mut client = Client::connect(&server);
    full(&mut client);
    for key in 0..stored * 3 / 4 {
        assert_eq!(ask(&mut client, ["DEL", &format!("key{key}")]), Value::Integer(1));
    }
    assert_eq!(ask(&mut client, ["SET", "a", "1"]), Value::ok());
    server.stop();
}

/// The requests are short, and all in one packet.
#[test]
fn a_pipeline_does_not_get_past_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", "5mb", "-fsync", "no"]);
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

    // An overwrite also counts what it removes.
    let mut client = Client::connect(&server);
    (0..4).for_each(|key| drop(ask(&mut client, ["DEL", &key.to_string()])));
    let set = wire::request(["SET", "a", &"y".repeat(1_000_000)]);
    client.send(set.repeat(20));
    for _ in 0..20 {
        assert_eq!(wire::reply(&mut client), Ok(Value::ok()));
    }
    server.stop();
}

/// Seen: a transaction, and a command of many keys, went past the limit by all that it added, including
/// values in between, because the limit was checked before a batch only. Now each change is counted first.
#[test]
fn no_command_and_no_transaction_adds_more_than_there_is_room_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", "1mb", "-fsync", "no"]);
    let mut client = Client::connect(&server);
    assert_eq!(ask(&mut client, ["SET", "a", "1"]), Value::ok());
    let long = "x".repeat(10_000);
    let refused = format!("EXECABORT Transaction discarded because of: {OOM}");
    let mut exec = |requests: Vec<Vec<u8>>| {
        let count = requests.len();
        client
            .send([wire::request(["MULTI"]), requests.concat(), wire::request(["EXEC"])].concat());
        for reply in (0..=count).map(|_| wire::reply(&mut client).expect("a reply")) {
            assert!(matches!(reply, Value::Simple(_)), "{reply:?}");
        }
        wire::reply(&mut client).expect("a reply")
    };
    let key = |number: usize| format!("key{number}");
    let many = (0..3000).map(|number| wire::request(["SET", &key(number), &long])).collect();
    assert_eq!(exec(many), Value::error(&refused));
    let set_range = |key: &str| wire::request(["SETRANGE", key, "2000000", "x"]);
    assert_eq!(exec(vec![set_range("k"); 100]), Value::error(&refused));
    // A value that exists only between two commands counts as well.
    let in_between = vec![set_range("k"), wire::request(["DEL", "k"])];
    assert_eq!(exec(in_between), Value::error(&refused));
    let mut chain = vec![wire::request(["SET", "0", &long])];
    chain.extend((0..200).map(|n| wire::request(["COPY", &n.to_string(), &(n + 1).to_string()])));
    assert_eq!(exec(chain), Value::error(&refused));
    let append = wire::request(["APPEND", "a", &long]);
    assert_eq!(exec(vec![append.clone(); 200]), Value::error(&refused));
    // Short keys count with their index.
    let short: Vec<String> = (0..60_000).map(|number| number.to_string()).collect();
    let short = ["MSET"].into_iter().chain(short.iter().flat_map(|key| [&**key, ""]));
    let short: Vec<&str> = short.collect();
    assert_eq!(exec(vec![wire::request(short)]), Value::error(&refused));

    // A transaction that fits only because it also removes something is done; each step is answered.
    let half = wire::request(["SETRANGE", "k", "500000", "x"]);
    let Value::Array(replies) = exec(vec![half; 100]) else { panic!("it fits") };
    assert_eq!(replies, vec![Value::Integer(500_001); 100]);
    let last = exec(vec![append; 40]);
    let Value::Array(replies) = last else { panic!("{last:?}") };
    assert_eq!(replies[39], Value::Integer(1 + 40 * 10_000));
    let moved = vec![wire::request(["FLUSHALL"]), wire::request(["SETRANGE", "b", "900000", "x"])];
    assert_eq!(exec(moved), Value::Array(vec![Value::ok(), Value::Integer(900_001)]));

    let mut client = Client::connect(&server);
    let values: Vec<&str> = std::iter::repeat_n(&*long, 2000).collect();
    let keys: Vec<String> = (0..2000).map(key).collect();
    let pairs = keys.iter().zip(values).flat_map(|(key, value)| [&**key, value]);
    let all: Vec<&str> = ["MSET"].into_iter().chain(pairs).collect();
    assert_eq!(ask(&mut client, all), Value::error(OOM));
    assert_eq!(ask(&mut client, ["SET", "c", &"x".repeat(2_000_000)]), Value::error(OOM));
    assert_eq!(ask(&mut client, ["SETRANGE", "c", "536870000", "x"]), Value::error(OOM));
    assert_eq!(ask(&mut client, ["DBSIZE"]), Value::Integer(1));
    assert!(client.counter("used_memory_dataset") < 1 << 20);
    // Nothing that was refused took memory: all of it is some 35 MB of requests, and 200 MB of values.
    assert!(server.peak_memory() < 150 << 20, "{} bytes", server.peak_memory());
    server.stop();
}

#[test]
fn a_short_transaction_makes_no_more_than_a_long_one_may_send() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-fsync", "no"]);
    let mut client = Client::connect(&server);
    assert_eq!(ask(&mut client, ["SETRANGE", "a", "99999999", "x"]), Value::Integer(100_000_000));
    let mut transact = |commands: &[String]| {
        let all = std::iter::once("MULTI").chain(commands.iter().map(String::as_str));
        let all =
            all.chain(["EXEC"]).flat_map(|line| wire::request(line.split(' ').collect::<Vec<_>>()));
        client.send(all.collect::<Vec<u8>>());
        let replies = (0..commands.len() + 2).map(|_| wire::reply(&mut client));
        let done = match replies.last().expect("a reply").expect("a reply") {
            Value::Array(replies) => replies.len(),
            Value::Error(text) if text.starts_with("EXECABORT") => 0,
            other => panic!("{}: {other:?}", commands[0]),
        };
        assert_eq!(ask(&mut client, ["DBSIZE"]), Value::Integer(1), "{}", commands[0]);
        assert_eq!(ask(&mut client, ["TTL", "a"]), Value::Integer(-1), "{}", commands[0]);
        done
    };
    assert_eq!(transact(&(0..100).map(|n| format!("COPY a {n}")).collect::<Vec<_>>()), 0);
    // A value that has changed in place is made for a command that reads it: then it counts.
    let made = vec!["COPY a b REPLACE".to_owned(); 10];
    let read = ["APPEND a x", "GETRANGE a 0 0", "DEL b"].map(str::to_owned);
    assert_eq!(transact(&[&made[..], &read].concat()), 0);
    assert_eq!(transact(&[&made[1..], &read].concat()), 12);
    // What is changed in place takes up no more than what is new.
    let in_place = ["APPEND a x", "EXPIRE a 1000", "PERSIST a", "SETBIT a 9 1"];
    let in_place: Vec<_> = in_place.map(str::to_owned).into_iter().cycle().take(1000).collect();
    assert_eq!(transact(&in_place), 1000);
    assert_eq!(ask(&mut client, ["STRLEN", "a"]), Value::Integer(100_000_251));
    // No value is held twice here.
    assert!(server.peak_memory() < 1700 << 20, "{} bytes", server.peak_memory());
    server.stop();
}
