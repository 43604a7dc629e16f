//! Each row of the commands' table, carried out with words that fit and words that do not: a row that lacks a
//! function for alone or for within a transaction, or a function that panics, would close the client or end
//! the server.

use crate::common::wire::{Value, ask, reply, request};
use crate::common::{Client, Rng, Server, seed};
use post_gres_rs::commands::command_names;

/// Words that commands may take for keys, numbers, times, options and patterns.
const WORDS: &[&[u8]] = &[
    b"key",
    b"other",
    b"",
    b"0",
    b"1",
    b"-1",
    b"01",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e400",
    b"0.1",
    b"nan",
    b"\r\n\0\xff",
    b"nx",
    b"xx",
    b"get",
    b"ex",
    b"pxat",
    b"keepttl",
    b"persist",
    b"gt",
    b"match",
    b"count",
    b"type",
    b"string",
    b"*",
    b"[",
    b"replace",
    b"db",
    b"samples",
    b"id",
    b"addr",
    b"filterby",
    b"pattern",
    b"auth",
    b"setname",
    b"2",
    b"3",
];

/// The most words after a command's name.
const ARGUMENTS: usize = 6;

/// Requests for each number of words.
const ROUNDS: usize = 3;

#[test]
fn every_command_is_answered_whatever_its_words_are_alone_and_within_a_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-fsync", "no"]);
    let mut rng = Rng::new(seed());
    // SHUTDOWN has a test of its own.
    for name in command_names().filter(|name| *name != "shutdown") {
        let mut client = Client::connect(&server);
        ask(&mut client, ["SET", "key", "value"]);
        for count in 0..=ARGUMENTS * ROUNDS {
            let mut words: Vec<&[u8]> = name.split('|').map(str::as_bytes).collect();
            words.extend((0..count / ROUNDS).map(|_| WORDS[rng.below(WORDS.len())]));
            let shown = request(&words).escape_ascii().to_string();
            if !(is_answered(&mut client, &[words.clone()], &shown)
                && is_answered(&mut client, &[vec![b"MULTI"], words, vec![b"EXEC"]], &shown))
            {
                // QUIT, and too many failed logins: the next request is on a new connection.
                assert!(["quit", "auth", "hello"].contains(&name), "{shown}: the client is closed");
                client = Client::connect(&server);
            }
        }
    }
    assert_eq!(ask(&mut Client::connect(&server), ["PING"]), Value::Simple("PONG".into()));
}

/// Whether each of these gets a reply and the connection stays open.
fn is_answered(client: &mut Client, requests: &[Vec<&[u8]>], shown: &str) -> bool {
    let ping = vec![&b"PING"[..], b"still there"];
    // Each channel is confirmed, and PING has another reply then.
    let is_pushed = |word: &&[u8]| word.ends_with(b"subscribe") || **word == *b"monitor";
    if requests.concat().iter().any(is_pushed) {
        requests.iter().chain([&ping]).for_each(|words| client.send(request(words)));
        let pong = Value::Array(vec![Value::bulk("pong"), Value::bulk("still there")]);
        let pongs = [Value::bulk("still there"), pong];
        let replies: Vec<Value> =
            std::iter::from_fn(|| reply(client).ok().filter(|last| !pongs.contains(last)))
                .collect();
        assert!(!replies.is_empty(), "{shown}: no reply");
        return true;
    }
    for words in requests.iter().chain([&ping]) {
        if client.try_send(request(words)).is_err() {
            return false;
        }
        match reply(client) {
            Ok(last) if *words == ping => {
                let queued = Value::Simple("QUEUED".into());
                assert!([Value::bulk("still there"), queued].contains(&last), "{shown}: {last:?}");
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}
