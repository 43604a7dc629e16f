//! Conversations with the real server that are written down, a step a line: a new case is a new line there.
//!
//! Scripts in `text` are in the text protocol, those in `resp` in RESP, and are run in RESP2 and after
//! HELLO 3. Each is run on a single map and on eight, and begins with an empty store.
//!
//! | step | what happens |
//! |------|--------------|
//! | `> SET k value` | in the text protocol: that line is sent, with LF |
//! | `> SET k "a\r\n"` | in RESP: these words are sent, as an array of bulk strings |
//! | `< +OK` | in the text protocol: the next line is this, with LF |
//! | `< OK` | in RESP: the next reply is this one, spelled as `pattern` has it |
//! | `<? ["a" "b"]` | the next reply is this array, in any order |
//! | `<~ "text"` | the next reply is a text for people with this in it: a bulk string, or verbatim in RESP3 |
//! | `<!~ "text"` | the next reply is such a text without this in it |
//! | `<= "text"` | the next reply is a simple string with this in it |
//! | `>> "GET a\r\n" "x"*3` | exactly these bytes are sent, in one write; `"x"*3` is `xxx` |
//! | `>1 "GET a\n"` | the same, one byte a packet |
//! | `<< "+OK\r\n"` | exactly these bytes are received next |
//! | `%` | the client closes its sending side |
//! | `x` | the server closes the connection, and sent nothing more |
//! | `!` | the conversation goes on over a new connection |
//! | `2> …`, `2< …`, `3> …` | the same over a second or a third connection |
//! | `v2 > …`, `v3 < …` | a step of that version of RESP only |
//! | `# …` or nothing | a comment |
//!
//! Before a `!`, and at the end, nothing that was not expected may be left: the client half-closes, and the
//! server answers with the end. Bytes are written `\n \r \t \\ \" \xHH`.

mod pattern;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::common::wire::{Value, reply, request, say};
use crate::common::{Client, Server};
use crate::doors::tunnel::Tunnel;
use pattern::{Pattern, pattern, quoted};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Text,
    Resp2,
    Resp3,
}
use Dialect::{Resp2, Resp3, Text};

#[test]
fn scripts_go_as_written_in_the_text_protocol() {
    run_all(Text);
}

#[test]
fn scripts_go_as_written_in_resp2() {
    run_all(Resp2);
}

#[test]
fn scripts_go_as_written_in_resp3() {
    run_all(Resp3);
}

fn run_all(dialect: Dialect) {
    run_all_over(dialect, &["1", "8"], "", |dir, flags| (Server::start(dir, flags), None));
}

/// Runs all scripts on servers with these numbers of shards, by a tunnel if there is one. Clients have this `mark`
/// among their flags in CLIENT LIST.
pub fn run_all_over(
    dialect: Dialect,
    shards: &[&str],
    mark: &str,
    start: impl Fn(&Path, &[&str]) -> (Server, Option<Tunnel>),
) {
    let directory = if dialect == Text { "text" } else { "resp" };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts").join(directory);
    let entries = fs::read_dir(scripts).expect("the scripts");
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // Without the feature the commands that it is about are unknown.
    scripts.retain(|path| cfg!(feature = "scripts") || !path.ends_with("scripts.txt"));
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts");
    let mut failures = Vec::new();
    for shards in shards {
        let dir = tempfile::tempdir().expect("a directory");
        let (server, tunnel) = start(dir.path(), &["-shards", shards]);
        let address = tunnel.map_or(server.address(), |tunnel| tunnel.address);
        for path in &scripts {
            assert_eq!(say(&mut Client::connect(&server), "FLUSHALL"), Value::ok());
            failures.extend(run(path, dialect, address, mark).err());
        }
        server.stop();
    }
    assert!(failures.is_empty(), "{dialect:?}\n{}", failures.join("\n"));
}

/// Runs a script up to the first step that does not go as written.
fn run(path: &Path, dialect: Dialect, server: SocketAddr, mark: &str) -> Result<(), String> {
    let mut clients = [(); 3].map(|()| connect(server, dialect));
    let script = fs::read_to_string(path).expect("a script is UTF-8");
    for (index, line) in script.lines().chain(["!", "2!", "3!"]).enumerate() {
        let mine = if dialect == Resp3 { "v3 " } else { "v2 " };
        let step_of_version = match line.strip_prefix(mine) {
            Some(line) => line,
            None if line.starts_with('v') => continue,
            None => line,
        };
        let (client, of_client) = match step_of_version.as_bytes().first() {
            Some(b'2') => (&mut clients[1], &step_of_version[1..]),
            Some(b'3') => (&mut clients[2], &step_of_version[1..]),
            _ => (&mut clients[0], step_of_version),
        };
        step(&marked(of_client, mark), client, dialect, server)
            .map_err(|what| format!("{}:{}: {line:.200}\n    {what}", path.display(), index + 1))?;
    }
    Ok(())
}

/// A line with one flag more where it has those of a client, `N` being none, and with any address of a client: those
/// who are marked have others.
fn marked(line: &str, mark: &str) -> String {
    let addressed = line.replace("addr=127.0.0.1:", "addr=");
    let line = if mark.is_empty() { line } else { &addressed };
    let Some((before, rest)) = line.split_once("<~ \" flags=").filter(|_| !mark.is_empty()) else {
        return line.to_owned();
    };
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let flags = rest[..end].trim_start_matches('N');
    let place = flags.find(['e', 'T']).unwrap_or(flags.len());
    let (first, last) = flags.split_at(place);
    format!("{before}<~ \" flags={first}{mark}{last}{}", &rest[end..])
}

fn connect(server: SocketAddr, dialect: Dialect) -> Client {
    let mut client = Client::connect_to(server).expect("the server accepts connections");
    if dialect == Resp3 {
        let hello = say(&mut client, "HELLO 3");
        assert!(matches!(&hello, Value::Map(items) if items.len() == 14), "{hello:?}");
    }
    client
}

fn step(
    line: &str,
    client: &mut Client,
    dialect: Dialect,
    server: SocketAddr,
) -> Result<(), String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let sent = |result: io::Result<()>| result.map_err(|error| format!("cannot send: {error}"));
    match verb {
        "" | "#" => Ok(()),
        ">" if dialect == Text => sent(client.try_send(format!("{rest}\n"))),
        ">" => sent(client.try_send(request(words(rest)?))),
        ">>" => sent(client.try_send(bytes(rest)?)),
        ">1" => bytes(rest)?.chunks(1).try_for_each(|byte| sent(client.try_send(byte))),
        "<" if dialect == Text => same(client.try_line(), rest.as_bytes()),
        "<" | "<?" | "<~" | "<!~" | "<=" => fits(verb, pattern(rest)?, &reply(client)?, dialect),
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
            // Fails if the server has closed the connection.
            let _ = client.stream().shutdown(std::net::Shutdown::Write);
            same(client.rest(), b"")?;
            *client = connect(server, dialect);
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

fn fits(verb: &str, pattern: Pattern, received: &Value, dialect: Dialect) -> Result<(), String> {
    let version = if dialect == Resp3 { 3 } else { 2 };
    let fits = match (verb, pattern) {
        ("<", expected) => expected.fits(received, version),
        ("<?", Pattern::Array(expected)) => fits_somehow(&expected, received, version),
        ("<~" | "<!~", Pattern::Is(Value::Bulk(part))) => match (received, version) {
            (Value::Bulk(text), 2) | (Value::Verbatim(text), 3) => {
                let is_there = text.windows(part.len()).any(|window| window == part);
                is_there == (verb == "<~")
            }
            _ => false,
        },
        ("<=", Pattern::Is(Value::Bulk(part))) => match received {
            Value::Simple(text) => text.contains(&*String::from_utf8_lossy(&part)),
            _ => false,
        },
        _ => return Err("not what can be expected".into()),
    };
    if fits { Ok(()) } else { Err(format!("received {received:?}")) }
}

fn fits_somehow(expected: &[Pattern], received: &Value, version: u8) -> bool {
    let Value::Array(received) = received else {
        return false;
    };
    let is_there = |e: &Pattern| received.iter().any(|item| e.fits(item, version));
    expected.len() == received.len() && expected.iter().all(is_there)
}

/// The words of a line, in quotes where they need them.
fn words(mut line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    while !line.is_empty() {
        words.push(match line.starts_with('"') {
            true => quoted(&mut line)?,
            false => {
                let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
                line = rest;
                word.as_bytes().to_vec()
            }
        });
        line = line.strip_prefix(' ').unwrap_or(line);
    }
    Ok(words)
}

/// The bytes that a list of `"…"` and `"…"*count` stands for.
fn bytes(mut list: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while !list.is_empty() {
        if !list.starts_with('"') {
            return Err("a quote should be here".into());
        }
        let piece = quoted(&mut list)?;
        let (count, next) = list.split_once(' ').unwrap_or((list, ""));
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
