//! ping, get, set, del and stats, as a script or a health check runs them against a real server, or one that lies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use super::{Said, new_dir, run_tool};
use crate::common::{Client, PATIENCE, PROGRAM, Server, eventually};

/// Runs one on a server.
fn ask(address: SocketAddr, args: &[&str]) -> Said {
    let port = address.port().to_string();
    run_tool(&[&args[..1], &["-port", &port], &args[1..]].concat())
}

#[test]
fn bytes_go_in_and_out_unchanged_and_the_exit_code_says_whether_there_were_any() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let at = server.address();
    assert_eq!(ask(at, &["ping"]).expect(0, &[]).out, "PONG\n");
    assert_eq!(ask(at, &["set", "a", "-5"]).expect(0, &[]).out, "OK\n");
    assert_eq!(ask(at, &["get", "a"]).expect(0, &[]).out, "-5");
    ask(at, &["get", "none"]).expect(1, &[]);
    // What looks like a flag or the address of a log is a word here.
    ask(at, &["set", "--", "-key", "-value"]).expect(0, &[]);
    assert_eq!(ask(at, &["get", "--", "-key"]).expect(0, &[]).out, "-value");
    ask(at, &["set", "b", "etcd://h:1/x"]).expect(0, &[]);
    assert_eq!(ask(at, &["get", "b"]).expect(0, &[]).out, "etcd://h:1/x");
    ask(at, &["set", "-expire", "1000", "c", "x"]).expect(0, &[]);
    ask(at, &["set", "-expire", "0", "c", "x"]).expect(2, &["expire"]);
    let ttl = Client::connect(&server).ask("TTL c");
    assert!(
        [":999\r", ":1000\r", "+OK 999", "+OK 1000"].iter().any(|it| ttl.contains(it.trim_end())),
        "{ttl}"
    );
    assert_eq!(ask(at, &["del", "a", "b", "none"]).expect(0, &[]).out, "2\n");

    let value: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let port = at.port().to_string();
    let mut set = Command::new(PROGRAM)
        .args(["set", "-port", &port, "bytes", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it can be run");
    set.stdin.take().expect("a pipe").write_all(&value).expect("it reads");
    assert!(set.wait().expect("our child").success());
    let get = Command::new(PROGRAM).args(["get", "-port", &port, "bytes"]).output();
    assert!(get.expect("it can be run").stdout == value, "the bytes were changed");

    let said = ask(at, &["stats"]).expect(0, &["server ", "memory ", "log       open", "syncs "]);
    assert!(said.out.contains("keys      "), "{}", said.out);
    let said = ask(at, &["stats", "-json"]).expect(0, &["\"keys\":3", "\"status\":\"ok\""]);
    super::json::assert_valid(&said.out);
    #[cfg(feature = "stats")]
    ask(at, &["stats", "-watch"]).expect(2, &["stdout is none"]);
    server.stop();
    ask(at, &["ping"]).expect(1, &["cannot connect"]);
    ask(at, &["get", "a"]).expect(2, &["cannot connect"]);
}

#[test]
fn it_logs_in_with_the_servers_own_file_or_variable_and_finds_the_server_by_them() {
    let dir = new_dir();
    let password = dir.path().join("password");
    std::fs::write(&password, "s3cret\n").expect("a file");
    let file = password.to_str().expect("ASCII");
    let server = Server::start(dir.path(), &["-requirepass-file", file]);
    ask(server.address(), &["ping"]).expect(1, &["NOAUTH"]);
    ask(server.address(), &["ping", "-password-file", file]).expect(0, &["PONG"]);
    ask(server.address(), &["ping", "-user", "default", "-password-file", file]).expect(0, &[]);
    ask(server.address(), &["ping", "-user", "default"]).expect(1, &["-password-file"]);
    std::fs::write(dir.path().join("wrong"), "guess").expect("a file");
    let wrong = dir.path().join("wrong");
    let said = ask(server.address(), &["ping", "-password-file", wrong.to_str().expect("ASCII")]);
    said.expect(1, &["login was refused"]);
    // As the server does: none of a long file, and not its beginning.
    std::fs::write(&wrong, vec![b'x'; (1 << 20) + 1]).expect("a file");
    let said = ask(server.address(), &["ping", "-password-file", wrong.to_str().expect("ASCII")]);
    said.expect(1, &["more than 1048576 bytes"]);

    let port = server.address().port().to_string();
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(PROGRAM);
        command.args(["get", "a"]).envs(variables.iter().copied());
        Said::of(&command.output().expect("it can be run"))
    };
    let port = ("POST_GRES_RS_PORT", &port[..]);
    run(&[port, ("POST_GRES_RS_PASSWORD", "s3cret")]).expect(1, &[]);
    let everywhere = ("POST_GRES_RS_BIND", "0.0.0.0");
    run(&[port, everywhere, ("POST_GRES_RS_REQUIREPASS_FILE", file)]).expect(1, &[]);
    run(&[port]).expect(2, &["NOAUTH"]);
    let config = dir.path().join("flags");
    let text = format!("port {}\nrequirepass-file {file}\n", server.address().port());
    std::fs::write(&config, text).expect("a file");
    run(&[("POST_GRES_RS_CONFIG", config.to_str().expect("ASCII"))]).expect(1, &[]);
    server.stop();

    // A password that the server does not ask for is no obstacle.
    let server = Server::start(dir.path(), &[]);
    let port = server.address().port().to_string();
    run(&[("POST_GRES_RS_PORT", &port), ("POST_GRES_RS_PASSWORD", "x")]).expect(1, &[]);
}

#[test]
fn ping_fails_once_the_log_is_closed_for_writing() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    ask(server.address(), &["ping", "-leader"]).expect(0, &["PONG"]);
    // A lock that another process has closes the log.
    let (lock, other) = (dir.path().join("wal_file.lock"), dir.path().join("other"));
    std::fs::write(&other, "12345\n").expect("a file");
    let held = std::fs::File::open(&other).expect("a file");
    held.lock().expect("nobody else knows it");
    std::fs::rename(&other, &lock).expect("a rename");
    server.wait_for_log("closed for writing");
    ask(server.address(), &["ping"]).expect(1, &["closed for writing: ", "12345"]);
    let said = ask(server.address(), &["stats", "-json"]).expect(0, &["\"well\":false"]);
    super::json::assert_valid(&said.out);
    assert_eq!(server.terminate().0.code(), Some(1));
}

/// Servers that answer with these bytes, whatever they are asked, and then nothing more.
#[test]
fn a_server_that_lies_or_says_nothing_is_given_up_in_time_and_is_not_obeyed() {
    for (reply, complaint) in [
        ("", "no reply within 1 s"),
        ("+PO", "no reply within 1 s"),
        ("$4611686018427387904\r\n", "more than the"),
        ("*1000000000\r\n", "another kind"),
        ("-ERR \u{1b}[2Jgone\r\n", "ERR ?[2Jgone"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "another kind"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let held = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            socket.write_all(reply.as_bytes()).expect("a socket");
            socket
        });
        let began = Instant::now();
        ask(address, &["ping", "-timeout", "1"]).expect(1, &[complaint]);
        assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
        drop(held.join());
    }
}

/// A program on a terminal, which is killed with it if a test fails.
#[cfg(feature = "stats")]
struct OnATerminal(Child);

#[cfg(feature = "stats")]
impl Drop for OnATerminal {
    fn drop(&mut self) {
        // Fails if it has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program on a terminal of its own, by way of util-linux's `script`. `None` without that.
#[cfg(feature = "stats")]
fn on_a_terminal(line: &str) -> Option<OnATerminal> {
    let mut command = Command::new("script");
    command.args(["-qefc", line, "/dev/null"]).env("TERM", "xterm").env("COLUMNS", "100");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().ok().map(OnATerminal)
}

/// Everything that a program has drawn, up to these characters.
#[cfg(feature = "stats")]
fn drawn(from: &mut impl Read, until: &str) -> String {
    let mut seen = Vec::new();
    let began = Instant::now();
    while !String::from_utf8_lossy(&seen).contains(until) {
        let mut bytes = [0; 4096];
        let count = from.read(&mut bytes).expect("a pipe");
        let text = String::from_utf8_lossy(&seen);
        let is_patient = count > 0 && began.elapsed() < PATIENCE;
        assert!(is_patient, "{until:?} was not drawn: {:.2000}", text.escape_debug());
        seen.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[cfg(feature = "stats")]
#[test]
fn watched_figures_are_drawn_and_the_terminal_is_given_back_by_a_key_and_by_a_signal() {
    const LEAVES: &str = "\u{1b}[?1049l";
    let dir = new_dir();
    let mut server = Server::start(dir.path(), &[]);
    let port = server.address().port().to_string();
    let line = format!("stty rows 40 cols 100; exec {PROGRAM} stats -watch -port {port}");
    for end in ["q", "\u{3}", "signal"] {
        let Some(mut child) = on_a_terminal(&line) else {
            return eprintln!("skipped: there is no program `script`");
        };
        let mut screen = child.0.stdout.take().expect("a pipe");
        let mut keys = child.0.stdin.take().expect("a pipe");
        drawn(&mut screen, "written");
        if end == "q" {
            server.kill9();
            drawn(&mut screen, "Asking");
            let mut again = Command::new(PROGRAM);
            again.args(["-port", &port, "-wal"]).arg(dir.path().join("wal_file"));
            server = Server::spawn(&mut again).expect("it starts again");
            eventually("it is connected again", || server.counter("connected_clients") > 1);
        }
        match end {
            "signal" => {
                let children = format!("/proc/{0}/task/{0}/children", child.0.id());
                let pid = std::fs::read_to_string(children).expect("a process");
                let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
                rustix::process::kill_process(pid.expect("a child"), Signal::TERM)
                    .expect("it runs");
            }
            key => keys.write_all(key.as_bytes()).expect("a terminal"),
        }
        drawn(&mut screen, LEAVES);
        std::io::copy(&mut screen, &mut std::io::sink()).expect("a pipe");
        assert_eq!(child.0.wait().expect("our child").code(), Some(0), "{end:?}");
    }
    server.stop();
}
