//! The Unix socket: who may connect, what is replaced at its path, and what is never removed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use super::tunnel::{Tunnel, Way};
use crate::common::{Client, PROGRAM, Refusal, Server, command, eventually};
use crate::scripts::{Dialect, run_all_over};

fn start(dir: &Path, flags: &[&str]) -> Result<Server, Refusal> {
    Server::spawn(command(dir, flags).arg("-unixsocket").arg(dir.join("socket")))
}

fn refused(dir: &Path) -> String {
    let refusal = start(dir, &[]).err().expect("it does not start");
    assert_eq!(refusal.code, Some(1), "{}", refusal.stderr);
    refusal.stderr
}

struct Connected(BufReader<UnixStream>);

impl Connected {
    fn to(dir: &Path) -> Connected {
        let stream = UnixStream::connect(dir.join("socket")).expect("it listens there");
        Connected(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }

    fn ask(&mut self, line: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it is taken");
        self.line()
    }
}

#[test]
fn scripts_go_as_written_over_a_unix_socket() {
    run_all_over(Dialect::Resp3, &["8"], "U", |dir, flags| {
        let server = start(dir, flags).expect("it starts");
        let tunnel = Tunnel::to(Way::Unix(dir.join("socket")));
        (server, Some(tunnel))
    });
}

#[test]
fn a_client_of_the_unix_socket_is_shown_as_one_and_nobody_else_may_connect() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), &[]).expect("it starts");
    let path = dir.path().join("socket");
    let mode = |path: &Path| fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let (shown, mut client) = (path.display(), Connected::to(dir.path()));
    assert!(client.ask("CLIENT LIST").starts_with('$'));
    let line = client.line();
    for part in [format!(" addr={shown}:0 laddr={shown}:0 "), " flags=U ".to_owned()] {
        assert!(line.contains(&part), "{part:?} is not in {line}");
    }
    client.line();
    let info = Client::connect(&server).info();
    assert!(info.contains(&format!("listener1:name=unix,bind={shown}\r\n")), "{info}");
    // A monitor sees it by its path, as in Redis.
    let mut monitor = Client::connect(&server);
    assert!(monitor.ask("MONITOR").starts_with("+OK"));
    assert_eq!(client.ask("GET k"), "-GET could not find k in store\r\n");
    let line = monitor.line();
    assert!(line.contains(&format!(" [0 unix:{shown}] \"GET\" \"k\"")), "{line}");
    // It is found by its address, and can be closed.
    let mut other = Connected::to(dir.path());
    assert_eq!(other.ask("PING"), "+PONG\r\n");
    let mut killer = Client::connect(&server);
    let killed = killer.ask(&format!("CLIENT KILL TYPE normal ADDR {shown}:0"));
    assert_eq!(killed.trim_end(), ":2");
    assert_eq!(other.line(), "");
    server.stop();
    assert!(!path.exists(), "an orderly stop removes it");

    let server = start(dir.path(), &["-unixsocketperm", "0666"]).expect("it starts");
    assert_eq!(mode(&path), 0o666);
    let shown = Client::connect(&server).ask("CONFIG GET unixsocketperm");
    assert!(shown.starts_with('*'), "{shown}");
    server.stop();
}

#[test]
fn a_server_may_have_no_other_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(PROGRAM);
    command.args(["-port", "off", "-persist=false", "-unixsocket"]).arg(dir.path().join("socket"));
    let server = Server::spawn(&mut command).expect("it starts");
    let mut client = Connected::to(dir.path());
    assert_eq!(client.ask("SET a 1"), "+OK\r\n");
    let tcp = format!("/proc/{}/net/tcp", server.pid().as_raw_nonzero());
    let listens = fs::read_to_string(tcp).expect("Linux");
    let own: Vec<u64> = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero()))
        .expect("Linux")
        .filter_map(|entry| fs::read_link(entry.expect("an entry").path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect();
    let is_own = |line: &&str| {
        line.split_whitespace()
            .nth(9)
            .is_some_and(|inode| own.iter().any(|it| it.to_string() == inode))
    };
    assert_eq!(listens.lines().filter(is_own).count(), 0, "{listens}");
    server.stop();
}

#[test]
fn a_dead_server_s_socket_is_replaced_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    start(dir.path(), &[]).expect("it starts").kill9();
    assert!(path.exists(), "the dead server left it");
    let server = start(dir.path(), &[]).expect("it takes its place");
    assert_eq!(Connected::to(dir.path()).ask("SET a 1"), "+OK\r\n");
    // The log has a lock of its own, so a server with another log is asked to take this path.
    let other = tempfile::tempdir().expect("a directory");
    let refusal = Server::refusal(other.path(), &["-unixsocket", path.to_str().expect("ASCII")]);
    let said =
        format!("-unixsocket {}: another program listens there. Stop it, or", path.display());
    assert!(refusal.stderr.contains(&said), "{}", refusal.stderr);
    assert_eq!(Connected::to(dir.path()).ask("GET a"), "+OK 1\r\n", "it was left alone");
    server.stop();

    let listener = UnixListener::bind(&path).expect("a socket");
    assert!(refused(dir.path()).contains("another program listens there"));
    drop(listener);
    fs::remove_file(&path).expect("the socket");
    fs::write(&path, "precious").expect("a file");
    assert!(refused(dir.path()).contains("something else is there, which is not touched"));
    assert_eq!(fs::read(&path).expect("a file"), b"precious");
    fs::remove_file(&path).expect("the file");
    let target = dir.path().join("target");
    drop(UnixListener::bind(&target).expect("a socket"));
    std::os::unix::fs::symlink(&target, &path).expect("a link");
    assert!(refused(dir.path()).contains("something else is there"), "a link is no socket");
    assert!(target.exists() && path.is_symlink());
    fs::remove_file(&path).expect("the link");
    let far = "x".repeat(120);
    let refusal = Server::refusal(dir.path(), &["-unixsocket", &far]);
    assert!(refusal.stderr.contains("at most 107 bytes"), "{}", refusal.stderr);
    // A start that fails later leaves no socket.
    fs::write(dir.path().join("wal_file"), "neither a log").expect("a file");
    refused(dir.path());
    assert!(!path.exists());
}

#[test]
fn a_path_that_another_program_has_taken_is_not_removed_at_a_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let server = start(dir.path(), &[]).expect("it starts");
    fs::remove_file(&path).expect("the socket");
    let _listener = UnixListener::bind(&path).expect("a socket");
    server.stop();
    assert!(path.exists());
}

/// A client that is gone is noticed by the kernel's word for both halves being closed, which one half must not look
/// like.
#[test]
fn a_client_that_has_closed_its_sending_side_is_answered_over_a_unix_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), &[]).expect("it starts");
    let mut client = Connected::to(dir.path());
    let stream = client.0.get_mut();
    let requests = "SET k 0123456789\r\n".to_owned() + &"GET k\r\nINCR n\r\n".repeat(1000);
    stream.write_all(requests.as_bytes()).expect("it is taken");
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut replies = String::new();
    client.0.read_to_string(&mut replies).expect("an end, not a reset");
    assert_eq!(replies.lines().count(), 2001);
    assert!(replies.ends_with(":1000\r\n"));
    let clients = || Client::connect(&server).counter("connected_clients");
    eventually("it has left", || clients() == 1);
    // A farewell is answered, and ends at once.
    let mut client = Connected::to(dir.path());
    assert_eq!(client.ask("QUIT"), "+OK\r\n");
    assert_eq!(client.line(), "");
    drop(client);
    eventually("so has this one", || clients() == 1);
    server.stop();
}
