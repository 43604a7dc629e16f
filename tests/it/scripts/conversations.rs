//! Runs the scripts in `tests/conversations/` against the real server, once for each store.
//!
//! A script has one step per line; a new case is a new line there, not a new test here:
//!
//! | step | what happens |
//! |------|--------------|
//! | `> SET hello world` | that line is sent, with LF |
//! | `>> "GET a\r\n" "x"*3` | exactly these bytes are sent, in one write; `"x"*3` is `xxx` |
//! | `>1 "GET a\n"` | the same, one byte per packet |
//! | `< +OK` | the next line received is this, with LF |
//! | `<< "+OK\r\n"` | exactly these bytes are received next |
//! | `%` | the client closes its sending side |
//! | `x` | the server closes the connection, and sent nothing more |
//! | `!` | the conversation goes on over a new connection |
//! | `# …` or nothing | a comment |
//!
//! Before a `!`, and at the end, nothing that was not expected may be left: the client half-closes,
//! and the server answers with the end. Bytes are written as in Rust: `\n \r \t \\ \" \xHH`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::common::{Client, Server};

#[test]
fn conversations_with_a_single_map_go_as_written() {
    run_all("1");
}

#[test]
fn conversations_with_eight_maps_go_as_written() {
    run_all("8");
}

#[test]
fn info_is_a_text_as_long_as_announced_that_counts_what_was_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for line in ["SET a 1", "SET b 2", "DEL a"] {
        assert_eq!(client.ask(line), "+OK");
    }
    let info = client.info();
    assert!(info.ends_with("\r\n\r\n"), "text, then CRLF: {info:?}");
    assert_eq!(client.counter("wal_records"), 3);
    assert_eq!(client.counter("wal_batches"), 3, "each was answered before the next was sent");
    assert_eq!(client.counter("wal_syncs"), 3);
    assert_eq!(client.counter("connected_clients"), 1);
    assert_eq!(server.counter("connected_clients"), 2);
}

fn run_all(shards: &str) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts/text");
    let entries = fs::read_dir(scripts).expect("the scripts");
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    scripts.sort();
    let failures: Vec<String> = scripts.iter().filter_map(|path| run(path, shards).err()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Runs one script on a server of its own, which must stop in order afterwards.
fn run(path: &Path, shards: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-shards", shards]);
    let mut client = Client::connect(&server);
    let script = fs::read_to_string(path).expect("a script is UTF-8");
    for (index, line) in script.lines().chain(["!"]).enumerate() {
        step(line, &mut client, &server)
            .map_err(|what| format!("{}:{}: {line:.100}\n    {what}", path.display(), index + 1))?;
    }
    server.stop();
    Ok(())
}

fn step(line: &str, client: &mut Client, server: &Server) -> Result<(), String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let sent = |result: io::Result<()>| result.map_err(|error| format!("cannot send: {error}"));
    match verb {
        "" | "#" => Ok(()),
        ">" => sent(client.try_send(format!("{rest}\n"))),
        ">>" => sent(client.try_send(bytes(rest)?)),
        ">1" => bytes(rest)?.chunks(1).try_for_each(|byte| sent(client.try_send(byte))),
        "<" => same(client.try_line(), rest.as_bytes()),
        "<<" => {
            let expected = bytes(rest)?;
            same(client.try_exact(expected.len()), &expected)
        }
        "%" => {
            client.half_close();
            Ok(())
        }
        "x" => same(client.rest(), b""),
        "!" => {
            // Where the server has closed it, it cannot be half-closed any more.
            let _ = client.stream().shutdown(std::net::Shutdown::Write);
            same(client.rest(), b"")?;
            *client = Client::connect(server);
            Ok(())
        }
        _ => Err("not a step".into()),
    }
}

fn same(received: io::Result<Vec<u8>>, expected: &[u8]) -> Result<(), String> {
    let received = received.map_err(|error| format!("received nothing like it: {error}"))?;
    match received == expected {
        true => Ok(()),
        false => Err(format!("received {:.300}", received.escape_ascii().to_string())),
    }
}

/// The bytes that a list of `"…"` and `"…"*count` stands for.
fn bytes(mut list: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while !list.is_empty() {
        let mut rest = list.strip_prefix('"').ok_or("a quote should be here")?;
        let mut piece = Vec::new();
        loop {
            let (byte, length) = match *rest.as_bytes() {
                [b'"', ..] => break,
                [b'\\', b'x', ..] => {
                    let byte = rest.get(2..4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    (byte.ok_or("two hexadecimal digits should follow \\x")?, 4)
                }
                [b'\\', b'n', ..] => (b'\n', 2),
                [b'\\', b'r', ..] => (b'\r', 2),
                [b'\\', b't', ..] => (b'\t', 2),
                [b'\\', byte @ (b'\\' | b'"'), ..] => (byte, 2),
                [byte, ..] if byte.is_ascii() && byte != b'\\' => (byte, 1),
                _ => return Err("not a byte, or no closing quote".into()),
            };
            piece.push(byte);
            rest = &rest[length..];
        }
        rest = &rest[1..];
        let (count, next) = rest.split_once(' ').unwrap_or((rest, ""));
        let count = match count.strip_prefix('*') {
            Some(count) => count.parse().map_err(|_| "a number should follow *")?,
            None if count.is_empty() => 1,
            None => return Err("a space should follow the closing quote".into()),
        };
        bytes.extend(piece.repeat(count));
        list = next;
    }
    Ok(bytes)
}
