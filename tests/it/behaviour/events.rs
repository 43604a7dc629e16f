//! Keyspace events: which are told of which command, in which order, and only once they are true.

use crate::common::wire::{Value, reply, say};
use crate::common::{Client, Server};

/// A client that hears every event as the name of the event and the key.
fn listener(server: &Server) -> Client {
    let mut client = Client::connect(server);
    say(&mut client, "PSUBSCRIBE __keyevent@*__:*");
    client
}

/// The next event: its name, its key, and the number of the database unless that is 0.
fn heard(listener: &mut Client) -> String {
    let Ok(Value::Array(words)) = reply(listener) else { panic!("no event") };
    match &words[..] {
        [_, _, Value::Bulk(channel), Value::Bulk(key)] => {
            let channel = String::from_utf8_lossy(channel).into_owned();
            let place = channel.strip_prefix("__keyevent@").expect("of an event");
            let (database, name) = place.split_once("__:").expect("a database");
            let key = String::from_utf8_lossy(key);
            if database == "0" {
                format!("{name} {key}")
            } else {
                format!("{name} {key} {database}")
            }
        }
        other => panic!("not an event: {other:?}"),
    }
}

#[test]
fn each_command_tells_of_what_it_does_to_a_key_by_redis_s_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-notify-keyspace-events", "EAn"]);
    let (mut client, mut listener) = (Client::connect(&server), listener(&server));
    for (command, events) in [
        ("SET a 1", &["new a", "set a"][..]),
        ("SET a 2", &["set a"]),
        ("SET a 3 EX 100", &["set a", "expire a"]),
        ("SET a 4 KEEPTTL", &["set a"]),
        ("SETEX a 100 5", &["set a", "expire a"]),
        ("GETSET a 5", &["set a"]),
        ("SETNX a 6", &[]),
        ("MSET a 7 b 7", &["set a", "new b", "set b"]),
        ("INCR a", &["incrby a"]),
        ("DECRBY a 2", &["incrby a"]),
        ("INCRBYFLOAT a 1", &["incrbyfloat a"]),
        ("APPEND a x", &["append a"]),
        ("SETRANGE a 1 y", &["setrange a"]),
        ("EXPIRE a 100", &["expire a"]),
        ("EXPIRE a 100 NX", &[]),
        ("PERSIST a", &["persist a"]),
        ("PERSIST a", &[]),
        ("GETEX a EX 100", &["expire a"]),
        ("GETEX a PERSIST", &["persist a"]),
        ("GETEX a", &[]),
        ("RENAME a c", &["rename_from a", "new c", "rename_to c"]),
        ("COPY c d", &["new d", "copy_to d"]),
        ("GETDEL d", &["del d"]),
        ("DEL c nothing", &["del c"]),
        ("EXPIREAT b 1", &["del b"]),
        ("GET b", &[]),
        ("SETBIT bits 3 1", &["new bits", "setbit bits"]),
        ("SETBIT bits 3 1", &[]),
        ("BITFIELD bits SET u8 0 7 INCRBY u8 8 1", &["setbit bits"]),
        ("BITFIELD bits GET u8 0", &[]),
        ("BITFIELD bits SET u8 0 7", &[]),
        ("BITFIELD bits GET u8 0 OVERFLOW FAIL INCRBY u8 0 300 INCRBY u8 8 0", &[]),
        ("BITFIELD bits OVERFLOW FAIL SET u8 800 300", &[]),
        ("BITFIELD bits SET u8 0 7 SET u8 0 8", &["setbit bits"]),
        ("BITOP NOT turned bits", &["new turned", "set turned"]),
        ("BITOP NOT turned nothing", &["del turned"]),
        ("BITOP NOT turned nothing", &[]),
        ("SET a x", &["new a", "set a"]),
        ("SET a y IFEQ z", &[]),
        ("SET a y IFEQ x", &["set a"]),
        ("DELEX a IFEQ z", &[]),
        ("DELEX a IFEQ y", &["del a"]),
        ("SET a x", &["new a", "set a"]),
        ("DELIFEQ a z", &[]),
        ("DELIFEQ a x", &["del a"]),
        ("MSETEX 2 m 1 n 2", &["new m", "set m", "new n", "set n"]),
        ("MSETEX 1 m 1 EX 100", &["set m", "expire m"]),
        ("MSETEX 1 m 1 NX", &[]),
        (
            "EVAL return(redis.call('RESTORE','r',0,redis.call('DUMP','m'))) 0",
            &["new r", "restore r"],
        ),
        (
            "EVAL return(redis.call('RESTORE','r',1,redis.call('DUMP','m'),'REPLACE','ABSTTL')) 0",
            &["del r"],
        ),
        ("LCS m n", &[]),
        ("COPY m m DB 1", &["new m 1", "copy_to m 1"]),
        ("COPY n m DB 1 REPLACE", &["copy_to m 1"]),
        ("MOVE m 1", &[]),
        ("MOVE n 1", &["move_from n", "new n 1", "move_to n 1"]),
        ("SWAPDB 0 1", &[]),
        ("UNLINK n m", &["del n", "del m"]),
        ("FLUSHALL", &[]),
    ] {
        // A payload of DUMP is no word without spaces, so a script hands it on.
        if command.starts_with("EVAL") && !cfg!(feature = "scripts") {
            continue;
        }
        let answered = say(&mut client, command);
        assert!(!matches!(answered, Value::Error(_)), "{command}: {answered:?}");
        for event in events {
            assert_eq!(heard(&mut listener), *event, "{command}");
        }
        // Nothing else comes of it: the next event is of this.
        say(&mut client, "SET fence 1");
        let fence = heard(&mut listener);
        match fence.as_str() {
            "new fence" => assert_eq!(heard(&mut listener), "set fence"),
            other => assert_eq!(other, "set fence", "{command}"),
        }
    }
}

#[test]
fn a_key_that_expires_is_told_of_once_whoever_finds_it_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-notify-keyspace-events", "Ex"]);
    let (mut client, mut listener) = (Client::connect(&server), listener(&server));
    for number in 0..20 {
        // Some are found by the expirer, some by the next SET.
        say(&mut client, &format!("SET k{number} 1 PX 1"));
        if number % 2 == 0 {
            while say(&mut client, &format!("GET k{number}")) != Value::NullBulk {}
            say(&mut client, &format!("SET k{number} 2"));
        }
    }
    let mut all: Vec<String> = (0..20).map(|_| heard(&mut listener)).collect();
    all.sort();
    let mut expected: Vec<String> = (0..20).map(|number| format!("expired k{number}")).collect();
    expected.sort();
    assert_eq!(all, expected);
    say(&mut client, "SET last 1 PX 1");
    assert_eq!(heard(&mut listener), "expired last");
}

#[test]
fn both_channels_are_told_and_a_transaction_that_fails_tells_of_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-notify-keyspace-events", "KE$"]);
    let (mut client, mut listener) = (Client::connect(&server), Client::connect(&server));
    say(&mut listener, "PSUBSCRIBE __key*");
    for command in ["WATCH w", "MULTI", "SET never 1"] {
        say(&mut client, command);
    }
    say(&mut Client::connect(&server), "SET w 1");
    assert_eq!(say(&mut client, "EXEC"), Value::NullArray);
    let told = |channel: &str, message: &str| {
        Value::Array(vec![
            Value::bulk("pmessage"),
            Value::bulk("__key*"),
            Value::bulk(channel),
            Value::bulk(message),
        ])
    };
    for _ in 0..2 {
        assert_eq!(reply(&mut listener), Ok(told("__keyspace@0__:w", "set")));
        assert_eq!(reply(&mut listener), Ok(told("__keyevent@0__:set", "w")));
        say(&mut client, "DEL w");
        say(&mut client, "SET w 2");
    }
    assert_eq!(
        say(&mut client, "CONFIG GET notify-keyspace-events"),
        Value::Array(vec![Value::bulk("notify-keyspace-events"), Value::bulk("$KE")])
    );
}

#[test]
fn a_read_that_finds_nothing_is_told_of_if_someone_asks_for_that() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-notify-keyspace-events", "Em$"]);
    let (mut client, mut listener) = (Client::connect(&server), listener(&server));
    for (command, events) in [
        ("SET a 1", &["set a"][..]),
        ("GET a", &[]),
        ("GET b", &["keymiss b"]),
        ("MGET a b c", &["keymiss b", "keymiss c"]),
        ("EXISTS b a", &["keymiss b"]),
        ("STRLEN b", &["keymiss b"]),
        ("BITPOS b 0", &["keymiss b"]),
        ("DIGEST b", &["keymiss b"]),
        ("DUMP b", &["keymiss b"]),
        ("TTL b", &["keymiss b"]),
        ("TYPE b", &["keymiss b"]),
        ("OBJECT ENCODING b", &[]),
        ("COPY b c", &["keymiss b"]),
        ("GETDEL b", &["keymiss b"]),
        ("GETEX b", &["keymiss b"]),
        ("BITOP OR d b a", &["keymiss b", "set d"]),
        ("BITFIELD b GET u8 0", &["keymiss b"]),
        ("LCS b a", &["keymiss b"]),
        ("GETSET b 1", &["keymiss b", "set b"]),
        ("DEL b", &[]),
        ("SET b 1 XX GET", &["keymiss b"]),
        ("SELECT 3", &[]),
        ("GET a", &["keymiss a 3"]),
        ("MULTI", &[]),
        ("GET a", &[]),
        ("SET a 2", &[]),
        ("GET a", &[]),
        ("EXEC", &["keymiss a 3", "set a 3"]),
        ("CONFIG SET notify-keyspace-events AE", &[]),
        ("GET b", &[]),
        ("SET a 3", &["set a 3"]),
    ] {
        say(&mut client, command);
        let told: Vec<_> = events.iter().map(|_| heard(&mut listener)).collect();
        assert_eq!(told, events, "{command}");
    }
}
