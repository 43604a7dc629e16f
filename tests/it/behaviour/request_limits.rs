//! The limits of a request, set by flags: over each the client is told, and nothing is stored.

use crate::common::wire::{Value, ask};
use crate::common::{Client, Server};

const FLAGS: &[&str] =
    &["-maxkey", "16", "-maxvalue", "1024", "-maxwords", "16", "-maxline", "2000"];

#[test]
fn a_request_at_a_limit_is_stored_and_one_over_it_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), FLAGS);
    let mut client = Client::connect(&server);
    let [key, value] = [16, 1024].map(|length| "x".repeat(length));
    let ok = |reply: Value| assert_eq!(reply, Value::Simple("OK".into()));
    ok(ask(&mut client, ["SET", &key, &value]));
    assert_eq!(client.ask(&format!("SET {key} {value}")), "+OK");

    // A key that is too long, at each place where a command has keys, in RESP and as text.
    let long = "x".repeat(17);
    let refusal = "ERR key is too long, the limit is 16 bytes";
    for words in [
        &["SET", &long, "v"][..],
        &["MSET", "a", "1", &long, "2"],
        &["RENAME", &key, &long],
        &["COPY", &key, &long],
        &["APPEND", &long, "v"],
        &["GET", &long],
        &["WATCH", "a", &long],
    ] {
        assert_eq!(ask(&mut client, words), Value::Error(refusal.into()), "{words:?}");
    }
    for line in ["SET {} v", "GET {}", "DEL {}", "INCR {}", "DEL a {}"] {
        let line = line.replace("{}", &long);
        let reply = client.ask(&line);
        let refused =
            reply.trim_end() == format!("-{refusal}") || reply.starts_with("-DEL expected");
        assert!(refused, "{line}: {reply}");
    }
    // A value that is too long, by text line, or made by APPEND.
    let reply = client.ask(&format!("SET a {value}x"));
    assert!(reply.contains("string exceeds maximum allowed size"), "{reply}");
    match ask(&mut client, ["APPEND", &key, "x"]) {
        Value::Error(error) => assert!(error.contains("string exceeds maximum"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(&mut client, ["DBSIZE"]), Value::Integer(1));

    // A mistake after which the rest of the input cannot be understood ends the connection.
    for (request, error) in [
        (format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n", 1025), "invalid bulk length"),
        (format!("*{}\r\n", 17), "invalid multibulk length"),
        (format!("GET {}\n", "x ".repeat(1000)), "too big inline request"),
    ] {
        let mut client = Client::connect(&server);
        client.send(request);
        let reply = client.line();
        assert!(reply.contains(error), "{reply}");
        assert_eq!(client.rest().expect("an end"), b"");
    }
    assert_eq!(ask(&mut client, ["DBSIZE"]), Value::Integer(1));
    server.stop();
}
