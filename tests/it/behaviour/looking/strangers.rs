//! Strangers who look: what they ask for, how slowly, how many, and that none of it does any harm.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{address, ask, connect, get, number, start};
use crate::common::{Client, PATIENCE, Server, StopOnDrop, eventually, run_to_exit};

/// What `src/http` has as limits.
const MOST_CONNECTIONS: usize = 32;
const MOST_VIEWERS: usize = 8;
const HEAD_BYTES: usize = 8 << 10;

#[test]
fn each_request_has_its_answer_and_none_changes_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &["-http-name", "db.example"]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET k v"), "+OK");
    let records = client.counter("wal_records");
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(HEAD_BYTES));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(65));
    let requests: &[(&str, u16)] = &[
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET /readyz HTTP/1.1\r\nHost: [::1]:4280\r\n\r\n", 200),
        ("GET /metrics?x=/../ HTTP/1.1\r\nHost: DB.example:1\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nDEL", 405),
        ("DELETE /k HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET //metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421),
        ("GET /readyz HTTP/1.1\r\nHost: balancer.example\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        ("*3\r\n$3\r\nDEL\r\n$1\r\nk\r\n", 400),
        ("FLUSHALL\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400),
        (&long, 431),
        (&many, 431),
    ];
    for (request, status) in requests {
        let answer = ask(http, request.as_bytes());
        let head = &request[..request.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
        for header in ["Content-Security-Policy: default-src 'none'", "nosniff", "no-store"] {
            assert!(answer.contains(header), "{head:?} has no {header}: {answer}");
        }
        assert!(!answer.contains("Access-Control"), "{head:?}: other sites may read it");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{head:?}: {body}");
    }
    // What comes after a request is not taken for another one.
    let two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
    assert_eq!(ask(http, two.as_bytes()).matches("HTTP/1.1").count(), 1);
    assert_eq!(client.ask("GET k"), "+OK v");
    assert_eq!(client.counter("wal_records"), records, "nothing was written");
    server.stop();
}

#[test]
fn beyond_this_machine_it_takes_the_password_but_for_the_probes() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = run_to_exit(&["-persist=false", "-port", "0", "-http", "0.0.0.0:0"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("-requirepass-file"), "{}", refused.stderr);

    let password = dir.path().join("password");
    fs::write(&password, "se:cret\n").expect("a file");
    let path = password.to_str().expect("a path");
    let server = Server::start(dir.path(), &["-http", "0.0.0.0:0", "-requirepass-file", path]);
    let http = SocketAddr::from(([127, 0, 0, 1], address(&server).port()));
    let with = |path: &str, header: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        ask(http, text.as_bytes())
    };
    // default:se:cret, :se:cret, and default:secret.
    let [right, short, wrong] = ["ZGVmYXVsdDpzZTpjcmV0", "OnNlOmNyZXQ=", "ZGVmYXVsdDpzZWNyZXQ="]
        .map(|it| format!("Authorization: Basic {it}\r\n"));
    for path in ["/healthz", "/readyz"] {
        assert!(with(path, "").starts_with("HTTP/1.1 200 "), "{path} is open");
    }
    for path in ["/", "/metrics", "/events", "/nothing"] {
        for header in ["", &wrong, "Authorization: Bearer x\r\n"] {
            let answer = with(path, header);
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path} {header}: {answer}");
            assert!(answer.contains("WWW-Authenticate: Basic"), "{answer}");
            assert!(!answer.contains("post_gres_rs_"), "{answer}");
        }
    }
    let elsewhere = format!("GET /metrics HTTP/1.1\r\nHost: db.example\r\n{right}\r\n");
    let answer = ask(http, elsewhere.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "a password is enough: {answer}");
    let answer = with("/metrics", &right);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(number(&answer, "post_gres_rs_failed_logins_total"), 4.0);
    assert!(with("/metrics", &short).starts_with("HTTP/1.1 200 "), "a user may be left out");

    // The failures are where an operator looks for them.
    let mut client = Client::connect(&server);
    client.send("AUTH se:cret\r\nACL LOG\r\nPING\r\n");
    let mut lines = std::iter::repeat_with(|| client.line().trim_end().to_owned());
    let entry: Vec<String> = lines.by_ref().take_while(|line| line != "+PONG").collect();
    let after = |name: &str| {
        let at = entry.iter().position(|line| line == name).expect(name);
        entry[at + 1].clone()
    };
    assert_eq!(after("count"), ":4", "{entry:?}");
    assert!(entry.iter().any(|line| line == "http"), "{entry:?}");
    assert!(entry.iter().any(|line| line.contains("addr=127.0.0.1:")), "{entry:?}");

    // A viewer's login ends with its password, as a client's does.
    let mut viewer = connect(http);
    write!(viewer, "GET /events HTTP/1.1\r\nHost: localhost\r\n{right}\r\n").expect("open");
    let mut status = [0; 13];
    viewer.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200 ");
    fs::write(&password, "another\n").expect("a file");
    server.signal(Signal::HUP);
    server.wait_for_log("clients are closed");
    viewer.read_to_end(&mut Vec::new()).expect("it is let go");
    assert!(with("/events", &right).starts_with("HTTP/1.1 401 "), "the password is gone");
    server.stop();
}

/// More connections than there are places send a byte now and then. Each request that is whole gets its answer at once,
/// because the oldest that is not makes room, and all of them are closed in the end.
#[test]
fn slow_and_many_clients_hold_up_nobody_and_are_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    let slow = || {
        let mut socket = connect(http);
        socket.write_all(b"GET / HTTP/1.1\r\nx: ").expect("open");
        socket
    };
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = (0..MOST_CONNECTIONS + 8).map(|_| slow()).collect();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = get(http, path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    assert_eq!(Client::connect(&server).ask("SET a b"), "+OK");
    let closed = |socket: &mut TcpStream| {
        // A header that never ends does not move the deadline.
        while socket.write_all(b"a").is_ok() && began.elapsed() < PATIENCE {
            let mut byte = [0];
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
            match socket.read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
        assert!(began.elapsed() < PATIENCE, "it is open for ever");
    };
    slow.iter_mut().for_each(closed);
    server.stop();
}

#[test]
fn viewers_that_never_read_are_let_go_and_writes_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for writer in 0..6 {
            let (stop, mut client) = (&stop, Client::connect(&server));
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.ask(&format!("SET key{writer} v")), "+OK");
                }
            });
        }
        let view = || {
            let mut socket = connect(http);
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 2048).expect("a socket");
            socket.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("open");
            let mut status = [0; 13];
            socket.read_exact(&mut status).expect("an answer");
            (socket, String::from_utf8_lossy(&status).into_owned())
        };
        let viewers: Vec<_> = (0..MOST_VIEWERS).map(|_| view()).collect();
        assert!(viewers.iter().all(|(_, status)| status == "HTTP/1.1 200 "));
        assert_eq!(view().1, "HTTP/1.1 503 ", "there are as many as there may be");
        assert!(get(http, "/metrics").starts_with("HTTP/1.1 200 "), "scrapes get through");
        eventually("they were let go", || view().1 == "HTTP/1.1 200 ");
        let before = server.counter("wal_records");
        eventually("writes go on", || server.counter("wal_records") > before);
    });
    server.stop();
}
