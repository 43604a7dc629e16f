//! RESP that no script can say: requests cut anywhere, passwords, clients that are listed and killed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::wire::{Value, ask, reply, request, say, spaced};
use crate::common::{Client, Server, eventually, run_to_exit};

#[test]
fn a_request_cut_anywhere_gets_the_reply_of_the_whole_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "MSET k value n 5"), Value::ok());
    let text = |words: &str| words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let requests: Vec<Vec<Vec<u8>>> = vec![
        text("PING"),
        text("PING message"),
        text("ECHO x"),
        text("GET k"),
        text("GET missing"),
        text("MGET k missing n"),
        text("SET k value EX 100"),
        vec![b"SET".to_vec(), b"k".to_vec(), b"\r\n*1\r\n$4\r\nPING\r\n".to_vec()],
        vec![b"SET".to_vec(), b"k".to_vec(), Vec::new()],
        text("EXISTS k k"),
        text("DEL missing"),
        text("GETRANGE n 0 -1"),
        text("INCRBY n 0"),
        text("INCRBY n x"),
        text("TYPE k"),
        text("SCAN 0 COUNT 1000 MATCH none"),
        text("CONFIG GET save"),
        text("NONSENSE a b"),
        text("GET"),
    ];
    for words in requests {
        let whole = request(&words);
        let expected = ask(&mut client, &words);
        for cut in 1..whole.len() {
            // The reply to the PING says that the server has read the first part.
            client.send([&spaced("PING")[..], &whole[..cut]].concat());
            assert_eq!(reply(&mut client), Ok(Value::Simple("PONG".into())));
            client.send(&whole[cut..]);
            let received = reply(&mut client);
            assert_eq!(received, Ok(expected.clone()), "{} cut at {cut}", whole.escape_ascii());
        }
    }
}

#[test]
fn a_pipeline_a_byte_at_a_time_gets_every_reply() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let pipeline = [spaced("SET k v"), b"PING\r\n".to_vec(), spaced("GET k"), b"\r\n".to_vec()];
    for byte in pipeline.concat() {
        client.send([byte]);
    }
    for expected in [Value::ok(), Value::Simple("PONG".into()), Value::bulk("v")] {
        assert_eq!(reply(&mut client), Ok(expected));
    }
}

#[test]
fn counts_of_nothing_ask_for_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    client.send("*0\r\n*-1\r\n*-10\r\n\r\n\n*1\r\n$4\r\nPING\r\n\r\n");
    assert_eq!(reply(&mut client), Ok(Value::Simple("PONG".into())));
    assert!(!client.has_reply());
}

#[test]
fn a_protocol_error_is_reported_and_nothing_after_it_is_carried_out() {
    let digits = "1".repeat(70_000);
    let letters = "x".repeat(70_000);
    for (bad, expected) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*3000000000\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        (&format!("*{digits}"), "too big mbulk count string"),
        ("*1\r\nfoo\r\n", "expected '$', got 'f'"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
        ("*1\r\n\r\n", "expected '$', got ' '"),
        ("*1\r\n\0\r\n", "expected '$', got ' '"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$-10\r\n", "invalid bulk length"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*1\r\n$2000000000000\r\n", "invalid bulk length"),
        (&format!("*1\r\n${digits}"), "too big bulk count string"),
        (&letters, "too big inline request"),
        ("SET k \"v\r\n", "unbalanced quotes in request"),
        ("PING 'a\r\n", "unbalanced quotes in request"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &["-persist=false"]);
        let mut client = Client::connect(&server);
        let after = spaced("SET after 1");
        // If the error is a line without an end, nothing may follow it.
        let after = if bad.ends_with('\n') { &after[..] } else { b"" };
        client.send([&spaced("SET before 1")[..], bad.as_bytes(), after].concat());
        assert_eq!(reply(&mut client), Ok(Value::ok()), "{bad:.40}");
        let rest = client.rest().expect("an end");
        let rest = String::from_utf8_lossy(&rest);
        let line = rest.strip_suffix('\n').unwrap_or(&rest);
        let line = line.strip_suffix('\r').unwrap_or(line);
        assert_eq!(line, format!("-ERR Protocol error: {expected}"), "{bad:.40}");
        let mut other = Client::connect(&server);
        let left = say(&mut other, "MGET before after");
        assert_eq!(left, Value::Array(vec![Value::bulk("1"), Value::NullBulk]), "{bad:.40}");
    }
}

#[test]
fn commands_pipelined_after_quit_are_not_carried_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let many = spaced("SET after 1").repeat(20_000);
    for after in [&b""[..], &spaced("SET after 1"), b"SET after 1\n", &many] {
        for quit in [&spaced("QUIT")[..], b"QUIT\r\n"] {
            let mut client = Client::connect(&server);
            // The server may close the connection before it has read all of this.
            let _ = client.try_send([&spaced("SET before 1")[..], quit, after].concat());
            assert_eq!(client.rest().expect("an end"), b"+OK\r\n+OK\r\n");
        }
    }
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "EXISTS before after"), Value::Integer(1));
    assert_eq!(say(&mut client, "MULTI"), Value::ok());
    assert_eq!(say(&mut client, "SET after 1"), Value::Simple("QUEUED".into()));
    assert_eq!(say(&mut client, "QUIT"), Value::ok());
    assert_eq!(client.rest().expect("an end"), b"");
    assert_eq!(say(&mut Client::connect(&server), "EXISTS after"), Value::Integer(0));
}

#[test]
fn a_request_of_a_browser_is_dropped_without_a_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    for first in [
        b"POST / HTTP/1.1\r\n".to_vec(),
        b"post /\n".to_vec(),
        b"Host: localhost\r\n".to_vec(),
        b"host: localhost\r\n".to_vec(),
        spaced("POST /"),
        spaced("Host: localhost"),
    ] {
        let mut client = Client::connect(&server);
        client.send([&first[..], b"\r\nSET k v\r\n", &spaced("SET k v")].concat());
        assert_eq!(client.rest().expect("an end"), b"", "{}", first.escape_ascii());
    }
    assert_eq!(say(&mut Client::connect(&server), "DBSIZE"), Value::Integer(0));
}

#[test]
fn four_megabytes_are_a_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let value: Vec<u8> =
        (0..4 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(ask(&mut client, [&b"SET"[..], b"big", &value]), Value::ok());
    assert!(say(&mut client, "GET big") == Value::bulk(&value), "not what was set");
    assert_eq!(say(&mut client, "APPEND big x"), Value::Integer((4 << 20) + 1));
    server.kill9();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "STRLEN big"), Value::Integer((4 << 20) + 1));
    assert!(say(&mut client, "GETRANGE big 0 -2") == Value::bulk(&value), "not what was set");
}

#[test]
fn twenty_thousand_words_are_a_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let key = |i: usize| format!("key:{i}").into_bytes();
    let mut words = vec![b"MSET".to_vec()];
    words.extend((0..10_001).flat_map(|i| [key(i), format!("{i}").into_bytes()]));
    assert_eq!(words.len(), 20_003);
    assert_eq!(ask(&mut client, &words), Value::ok());
    assert_eq!(say(&mut client, "DBSIZE"), Value::Integer(10_001));
    assert_eq!(say(&mut client, "GET key:10000"), Value::bulk("10000"));
    words.push(b"odd".to_vec());
    let error = Value::error("ERR wrong number of arguments for 'mset' command");
    assert_eq!(ask(&mut client, &words), error);
    let mut words = vec![b"DEL".to_vec()];
    words.extend((0..10_001).map(key));
    assert_eq!(ask(&mut client, &words), Value::Integer(10_001));
}

const NOAUTH: &str = "NOAUTH Authentication required.";
const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn nothing_is_done_before_the_password_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    fs::write(&file, "a secret\nnot this\n").expect("a file");
    let server = Server::start(dir.path(), &["-requirepass-file", file.to_str().expect("UTF-8")]);

    let mut client = Client::connect(&server);
    for words in ["SET k v", "GET k", "PING", "DBSIZE", "INFO", "CLIENT ID", "MULTI", "NONSENSE"] {
        assert_eq!(say(&mut client, words), Value::error(NOAUTH), "{words}");
    }
    assert_eq!(client.ask("SET k v"), format!("-{NOAUTH}"));
    for hello in ["HELLO", "HELLO 3"] {
        let Value::Error(text) = say(&mut client, hello) else { panic!("{hello} is refused") };
        assert!(text.starts_with("NOAUTH HELLO must be called"), "{text}");
    }
    for words in
        [&["AUTH", "wrong"][..], &["AUTH", "default", "a secre"], &["AUTH", "user", "a secret"]]
    {
        assert_eq!(ask(&mut client, words), Value::error(WRONGPASS), "{words:?}");
    }
    let wrong = ask(&mut client, ["HELLO", "3", "AUTH", "default", "wrong"]);
    assert_eq!(wrong, Value::error(WRONGPASS));
    assert_eq!(say(&mut client, "PING"), Value::error(NOAUTH));
    assert_eq!(ask(&mut client, ["AUTH", "a secret"]), Value::ok());
    assert_eq!(say(&mut client, "GET k"), Value::NullBulk, "no HELLO that was refused counts");
    assert_eq!(say(&mut client, "AUTH wrong"), Value::error(WRONGPASS));
    assert_eq!(say(&mut client, "PING"), Value::Simple("PONG".into()), "still let in");
    assert_eq!(say(&mut client, "RESET"), Value::Simple("RESET".into()));
    assert_eq!(say(&mut client, "PING"), Value::error(NOAUTH));
    assert_eq!(ask(&mut client, ["AUTH", "default", "a secret"]), Value::ok());
    assert_eq!(say(&mut client, "DBSIZE"), Value::Integer(0));

    let mut client = Client::connect(&server);
    let hello = ask(&mut client, ["HELLO", "3", "AUTH", "default", "a secret", "SETNAME", "me"]);
    assert!(matches!(hello, Value::Map(_)), "{hello:?}");
    assert_eq!(say(&mut client, "CLIENT GETNAME"), Value::bulk("me"));
    assert_eq!(say(&mut client, "GET k"), Value::Null);

    let mut client = Client::connect(&server);
    client.send(spaced("QUIT"));
    assert_eq!(client.rest().expect("an end"), b"+OK\r\n");
}

#[test]
fn a_client_that_has_not_logged_in_can_send_little() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    fs::write(&file, "secret").expect("a file");
    let server = Server::start(dir.path(), &["-requirepass-file", file.to_str().expect("UTF-8")]);
    for (bad, expected) in
        [(spaced("DEL 1 2 3 4 5 6 7 8 9 10"), "multibulk"), (b"*1\r\n$16385\r\n".to_vec(), "bulk")]
    {
        let mut client = Client::connect(&server);
        client.send(bad);
        let expected = format!("-ERR Protocol error: unauthenticated {expected} length\r\n");
        assert_eq!(String::from_utf8_lossy(&client.rest().expect("an end")), expected);
    }
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "DEL 1 2 3 4 5 6 7 8 9"), Value::error(NOAUTH));
    let long = "x".repeat(16_384);
    assert_eq!(ask(&mut client, ["AUTH", &long]), Value::error(WRONGPASS));
    // The password, and what it allows, in one packet.
    let long = "x".repeat(100_000);
    client.send([spaced("AUTH secret"), request(["SET", "k", &long])].concat());
    assert_eq!((reply(&mut client), reply(&mut client)), (Ok(Value::ok()), Ok(Value::ok())));
}

#[test]
fn an_address_for_everyone_needs_a_password_or_a_plain_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = dir.path().join("wal_file");
    let wal = wal.to_str().expect("UTF-8");
    let open = ["-bind", "0.0.0.0", "-port", "0", "-wal", wal];
    let refusal = run_to_exit(&open);
    assert_eq!(refusal.code, Some(1), "{}", refusal.stderr);
    assert!(refusal.stderr.contains("-requirepass-file"), "{}", refusal.stderr);
    let file = dir.path().join("password");
    fs::write(&file, "secret").expect("a file");
    let file = file.to_str().expect("UTF-8");
    for flags in [["-protected-mode", "no"], ["-requirepass-file", file]] {
        let server = Server::start(dir.path(), &[&open[..2], &flags].concat());
        let mut client = Client::connect(&server);
        assert!(matches!(say(&mut client, "PING"), Value::Simple(_) | Value::Error(_)));
        server.stop();
    }
}

#[test]
fn no_value_is_longer_than_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxvalue", "1024"]);
    let mut client = Client::connect(&server);
    let most = "x".repeat(1024);
    assert_eq!(ask(&mut client, ["SET", "k", &most]), Value::ok());
    let too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(say(&mut client, "APPEND k x"), Value::error(too_long));
    assert_eq!(say(&mut client, "SETRANGE k 1024 x"), Value::error(too_long));
    assert_eq!(say(&mut client, "SETRANGE new 1023 xx"), Value::error(too_long));
    assert_eq!(say(&mut client, "SETRANGE k 1023 y"), Value::Integer(1024));
    let shown = say(&mut client, "CONFIG GET proto-max-bulk-len");
    assert_eq!(shown, Value::Array(vec![Value::bulk("proto-max-bulk-len"), Value::bulk("1024")]));
    client.send(request(["SET", "k", &"x".repeat(1025)]));
    let rest = client.rest().expect("an end");
    assert_eq!(String::from_utf8_lossy(&rest), "-ERR Protocol error: invalid bulk length\r\n");
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "STRLEN k"), Value::Integer(1024));
    assert_eq!(say(&mut client, "EXISTS new"), Value::Integer(0));
}

#[test]
fn text_and_resp_in_one_packet_are_answered_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let pieces: [(&[u8], &str); 14] = [
        (b"SET a 1\n", "+OK\n"),
        (&spaced("GET a"), "$1\r\n1\r\n"),
        (b"GET a\r\n", "+OK 1\r\n"),
        (&spaced("INCR a"), ":2\r\n"),
        (b"\r\n", ""),
        (b"INCR a\n", ":3\r\n"),
        (&spaced("GET b"), "$-1\r\n"),
        (&spaced("HELLO 3 FOO"), "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        (b"GET b\n", "-GET could not find b in store\n"),
        (b"FLY\r\n", "-INVALID COMMAND\r\n"),
        (&spaced("FLY"), "-ERR unknown command 'FLY', with args beginning with: \r\n"),
        (b"DEL a\n", "+OK\n"),
        (b"PING\n", "+PONG\r\n"),
        (&spaced("GET a"), "$-1\r\n"),
    ];
    let sent: Vec<u8> = pieces.iter().flat_map(|(sent, _)| sent.to_vec()).collect();
    let expected: String = pieces.iter().map(|(_, expected)| *expected).collect();
    for repeat in [1, 300] {
        client.send(sent.repeat(repeat));
        let expected = expected.repeat(repeat);
        let received = client.try_exact(expected.len()).expect("as long as expected");
        let received = String::from_utf8_lossy(&received);
        let place = expected.bytes().zip(received.bytes()).position(|(a, b)| a != b);
        assert_eq!(place, None, "{:.1000}", received);
    }
}

#[test]
fn replies_are_in_the_version_that_was_asked_for_from_hello_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let pipeline = ["GET k", "HELLO 3", "GET k", "HELLO", "HELLO 2", "GET k", "HELLO 3", "RESET"];
    client.send(pipeline.map(spaced).concat());
    client.send(spaced("GET k"));
    let mut next = || reply(&mut client).expect("a reply");
    let proto = |hello: &Value| match hello {
        Value::Map(items) | Value::Array(items) => items[5].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(), Value::NullBulk);
    let hello = next();
    assert!(matches!(hello, Value::Map(_)), "{hello:?}");
    assert_eq!(proto(&hello), Value::Integer(3));
    assert_eq!(next(), Value::Null);
    assert_eq!(proto(&next()), Value::Integer(3), "without a version it stays as it is");
    let hello = next();
    assert!(matches!(hello, Value::Array(_)), "{hello:?}");
    assert_eq!(proto(&hello), Value::Integer(2));
    assert_eq!(next(), Value::NullBulk);
    assert_eq!(proto(&next()), Value::Integer(3));
    assert_eq!(next(), Value::Simple("RESET".into()));
    assert_eq!(next(), Value::NullBulk);
}

#[test]
fn a_scan_shows_every_key_that_is_there_all_the_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-shards", "8", "-fsync", "no"]);
    let done = AtomicBool::new(false);
    let mut client = Client::connect(&server);
    let stay: Vec<String> = (0..1000).map(|i| format!("stay:{i}")).collect();
    for key in &stay {
        client.send(request(["SET", key, "1"]));
    }
    stay.iter().for_each(|_| assert_eq!(reply(&mut client), Ok(Value::ok())));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(&server);
            for i in 0.. {
                say(&mut client, &format!("SET go:{i} 1"));
                say(&mut client, &format!("DEL go:{}", i / 2));
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for count in ["1", "10", "100", "5000"] {
            let mut missing: std::collections::BTreeSet<&[u8]> =
                stay.iter().map(|key| key.as_bytes()).collect();
            let mut cursor = b"0".to_vec();
            loop {
                let step = ask(&mut client, [&b"SCAN"[..], &cursor, b"COUNT", count.as_bytes()]);
                let Value::Array(parts) = step else { panic!("{step:?}") };
                let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else {
                    panic!("{parts:?}")
                };
                for key in keys {
                    let Value::Bulk(key) = key else { panic!("{key:?}") };
                    missing.remove(&key[..]);
                }
                cursor = next.clone();
                if cursor == b"0" {
                    break;
                }
            }
            if !missing.is_empty() {
                done.store(true, Ordering::Relaxed);
                panic!("COUNT {count}: {} keys were not shown", missing.len());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn no_client_sees_half_of_a_transaction() {
    const ROUNDS: usize = 10_000;
    let dir = tempfile::tempdir().expect("a directory");
    // The keys fall into two shards: "a" and "b" have neighbouring hashes.
    let server = Server::start(dir.path(), &["-shards", "8", "-fsync", "no"]);
    let done = AtomicBool::new(false);
    assert_eq!(say(&mut Client::connect(&server), "MSET a 0 b 0"), Value::ok());
    let read = || {
        let mut client = Client::connect(&server);
        let mut last = 0;
        let (mut reads, mut changes) = (0, 0);
        while !done.load(Ordering::Relaxed) {
            let values = say(&mut client, "MGET a b");
            let Value::Array(values) = values else { panic!("{values:?}") };
            if values[0] != values[1] {
                return Err(format!("half of a change was seen: {values:?}"));
            }
            let Value::Bulk(value) = &values[0] else { panic!("{values:?}") };
            let round: usize = String::from_utf8_lossy(value).parse().expect("a number");
            if round < last {
                return Err(format!("{round} was seen after {last}"));
            }
            changes += usize::from(round != last);
            last = round;
            reads += 1;
        }
        Ok((reads, changes))
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        let mut client = Client::connect(&server);
        for round in 1..=ROUNDS {
            if round % 2 == 0 {
                assert_eq!(say(&mut client, &format!("MSET a {round} b {round}")), Value::ok());
                continue;
            }
            let set = |key| spaced(&format!("SET {key} {round}"));
            client.send([spaced("MULTI"), set("a"), set("b"), spaced("EXEC")].concat());
            for expected in ["OK", "QUEUED", "QUEUED"] {
                assert_eq!(reply(&mut client), Ok(Value::Simple(expected.into())));
            }
            let both = Value::Array(vec![Value::ok(), Value::ok()]);
            assert_eq!(reply(&mut client), Ok(both));
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let seen = reader.join().expect("no panic").unwrap_or_else(|what| panic!("{what}"));
            eprintln!("reads, changes seen: {seen:?}");
            assert!(seen.1 > 1, "the reader ran beside the writer: {seen:?}");
        }
    });
}

#[test]
fn a_killed_client_is_closed_and_the_killer_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let (mut client, mut victim) = (Client::connect(&server), Client::connect(&server));
    let Value::Integer(id) = say(&mut victim, "CLIENT ID") else { panic!("a number") };
    assert_eq!(say(&mut client, &format!("CLIENT KILL ID {id}")), Value::Integer(1));
    assert_eq!(victim.rest().expect("an end"), b"");
    let mut victim = Client::connect(&server);
    assert_eq!(say(&mut victim, "PING"), Value::Simple("PONG".into()));
    let address = victim.stream().local_addr().expect("an address");
    assert_eq!(say(&mut client, &format!("CLIENT KILL {address}")), Value::ok());
    assert_eq!(victim.rest().expect("an end"), b"");
}

#[test]
fn clients_are_killed_by_all_filters_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let here = server.address();
    let mut client = Client::connect(&server);
    let mut victims = [(); 3].map(|()| Client::connect(&server));
    let ids = victims.each_mut().map(id);
    let addresses = victims.each_ref().map(|v| v.stream().local_addr().expect("an address"));
    for (filters, killed) in [
        (format!("ID {} ADDR {}", ids[0], addresses[1]), 0),
        (format!("ID {} LADDR 127.0.0.1:1", ids[0]), 0),
        (format!("ID {} TYPE pubsub", ids[0]), 0),
        (format!("ID {} MAXAGE 1000", ids[0]), 0),
        (format!("ADDR {} ADDR {}", addresses[0], addresses[1]), 1),
        (format!("LADDR {here} USER default TYPE normal ID {} SKIPME no", ids[0]), 1),
        ("SKIPME yes TYPE NORMAL".to_owned(), 1),
    ] {
        let reply = say(&mut client, &format!("CLIENT KILL {filters}"));
        assert_eq!(reply, Value::Integer(killed), "{filters}");
    }
    for victim in &mut victims {
        assert_eq!(victim.rest().expect("an end"), b"");
    }
    assert_eq!(say(&mut client, &format!("CLIENT KILL LADDR {here}")), Value::Integer(0), "not me");
    assert_eq!(say(&mut client, "PING"), Value::Simple("PONG".into()));
    client.send([&spaced("CLIENT KILL SKIPME no USER default")[..], &spaced("PING")].concat());
    assert_eq!(client.rest().expect("an end"), b":1\r\n");
    let mut client = Client::connect(&server);
    let own = client.stream().local_addr().expect("an address");
    client.send([&spaced(&format!("CLIENT KILL {own}"))[..], &spaced("PING")].concat());
    assert_eq!(client.rest().expect("an end"), b"+OK\r\n");
}

fn id(client: &mut Client) -> i64 {
    match say(client, "CLIENT ID") {
        Value::Integer(id) => id,
        other => panic!("a number, not {other:?}"),
    }
}

/// A client's line in CLIENT LIST, as another client sees it.
fn line_of(asking: &mut Client, id: i64) -> String {
    match say(asking, &format!("CLIENT LIST ID {id}")) {
        Value::Bulk(line) => String::from_utf8(line).expect("text"),
        other => panic!("a line, not {other:?}"),
    }
}

fn field(line: &str, name: &str) -> i64 {
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    let (_, value) = fields.into_iter().find(|(field, _)| *field == name).expect(name);
    value.parse().expect("a number")
}

#[test]
fn client_list_shows_each_client_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let (mut client, mut asking) = (Client::connect(&server), Client::connect(&server));
    let (shown, own) = (id(&mut client), id(&mut asking));

    // Each as often as there is one, in the order in which they are asked for; and no other.
    let both = say(&mut asking, &format!("CLIENT LIST ID {own} {shown} {own} 999"));
    let Value::Bulk(both) = both else { panic!("lines, not {both:?}") };
    let both = String::from_utf8(both).expect("text");
    let starts: Vec<&str> = both.lines().map(|line| line.split(' ').next().expect("id")).collect();
    assert_eq!(starts, [format!("id={own}"), format!("id={shown}")]);
    assert!(both.contains(" cmd=client|list ") && both.contains(" cmd=client|id "), "{both}");
    assert_eq!(say(&mut asking, "CLIENT LIST TYPE master"), Value::bulk(""));

    // A transaction, and a watched key that changes under it.
    for (words, flags, queued) in [
        ("WATCH k", " flags=N ", -1),
        ("MULTI", " flags=x ", 0),
        ("SET k value", " flags=x ", 1),
        ("CLIENT ID", " flags=x ", 2),
    ] {
        say(&mut client, words);
        let line = line_of(&mut asking, shown);
        assert!(line.contains(flags), "{line}");
        assert_eq!(field(&line, "multi"), queued, "{line}");
        assert_eq!(field(&line, "watch"), 1, "{line}");
        assert_eq!(field(&line, "multi-mem") > 0, queued > 0, "{line}");
    }
    assert_eq!(say(&mut asking, "SET k other"), Value::ok());
    assert!(line_of(&mut asking, shown).contains(" flags=xd "), "its key has changed");
    assert_eq!(say(&mut client, "EXEC"), Value::NullArray);
    let idle = line_of(&mut asking, shown);
    assert!(idle.contains(" flags=N ") && idle.contains(" cmd=exec "), "{idle}");
    for (name, value) in
        [("multi", -1), ("multi-mem", 0), ("watch", 0), ("qbuf", 0), ("obl", 0), ("oll", 0)]
    {
        assert_eq!(field(&idle, name), value, "{name} in {idle}");
    }
    assert!(field(&idle, "fd") > 2 && field(&idle, "qbuf-free") > 0, "{idle}");

    // A request that has not arrived as a whole.
    let part = [&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000\r\n"[..], &[b'x'; 4000]].concat();
    client.send(&part);
    eventually("it is all there", || {
        field(&line_of(&mut asking, shown), "qbuf") == part.len() as i64
    });
    let line = line_of(&mut asking, shown);
    assert!(field(&line, "argv-mem") > 0, "{line}");
    assert!(field(&line, "tot-mem") > field(&line, "qbuf") + field(&line, "qbuf-free"), "{line}");
    client.send([&[b'x'; 1000][..], b"\r\n"].concat());
    assert_eq!(reply(&mut client), Ok(Value::ok()));

    // Replies that are not read.
    let long = vec![b'x'; 16 << 20];
    assert_eq!(ask(&mut asking, [&b"SET"[..], b"long", &long]), Value::ok());
    client.send(spaced("GET long"));
    eventually("the socket is full", || line_of(&mut asking, shown).contains(" events=rw "));
    let line = line_of(&mut asking, shown);
    assert!(field(&line, "omem") > 1 << 20 && field(&line, "oll") == 1, "{line}");
    assert!(field(&line, "tot-mem") > field(&line, "omem"), "{line}");
    assert!(reply(&mut client) == Ok(Value::Bulk(long)), "not what was set");
    eventually("all is sent", || line_of(&mut asking, shown).contains(" oll=0 "));

    // What is answered before it in one packet is still here.
    client.send([spaced("PING"), spaced("CLIENT INFO")].concat());
    assert_eq!(reply(&mut client), Ok(Value::Simple("PONG".into())));
    let Ok(Value::Bulk(line)) = reply(&mut client) else { panic!("a line") };
    assert_eq!(field(&String::from_utf8(line).expect("text"), "obl"), 7);
    server.stop();
}

#[test]
fn hello_within_a_transaction_holds_from_its_place_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let words = ["MULTI", "GET nothing", "HELLO 3", "GET nothing", "EXEC", "GET nothing"];
    client.send(words.map(spaced).concat());
    assert_eq!(reply(&mut client), Ok(Value::ok()));
    for _ in 0..3 {
        assert_eq!(reply(&mut client), Ok(Value::Simple("QUEUED".into())));
    }
    let Ok(Value::Array(replies)) = reply(&mut client) else { panic!("an array") };
    let [Value::NullBulk, Value::Map(hello), Value::Null] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!(hello.len(), 14);
    assert_eq!(reply(&mut client), Ok(Value::Null));
    server.stop();
}
