//! What may be seen over HTTP, and that strangers who look can do no harm.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};

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
        ("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421),
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
    let answer = with("/metrics", &right);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(number(&answer, "post_gres_rs_failed_logins_total"), 4.0);
    assert!(with("/metrics", &short).starts_with("HTTP/1.1 200 "), "a user may be left out");
    server.stop();
}

/// Thirty connections send a byte now and then; another one gets its answer at once, and further ones are told that
/// there are too many. Each is closed in the end.
#[test]
fn slow_and_many_clients_hold_up_nobody_and_are_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    let mut slow: Vec<TcpStream> = (1..MOST_CONNECTIONS).map(|_| connect(http)).collect();
    slow.iter_mut()
        .for_each(|socket| socket.write_all(b"GET /metrics HTTP/1.1\r\n").expect("open"));
    let began = Instant::now();
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200 "));
    // The last place.
    let mut last = connect(http);
    eventually("there are too many", || {
        ask(http, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 503 ")
    });
    assert_eq!(Client::connect(&server).ask("SET a b"), "+OK");
    let closed = |socket: &mut TcpStream| {
        // A header that never ends does not move the deadline.
        while socket.write_all(b"a: b\r\n").is_ok() && began.elapsed() < PATIENCE {
            let mut byte = [0];
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
            match socket.read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
        assert!(began.elapsed() < PATIENCE, "it is open for ever");
    };
    slow.iter_mut().chain([&mut last]).for_each(closed);
    eventually("there is room again", || get(http, "/healthz").starts_with("HTTP/1.1 200 "));
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

#[test]
fn a_viewer_is_told_of_a_batch_with_its_clients_and_operations() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    let mut viewer = Client::of(connect(http));
    viewer.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    while !viewer.line().starts_with("event: figures") {}
    let mut client = Client::connect(&server);
    client.send("*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nEXEC\r\n");
    assert_eq!(
        (0..4).map(|_| client.line()).collect::<Vec<_>>(),
        ["+OK\r", "+QUEUED\r", "*1\r", "+PONG\r"]
    );
    let pipeline = "SET a 1\nSET b 2\nDEL a\n";
    client.send(pipeline);
    (0..3).for_each(|_| assert_eq!(client.line(), "+OK"));
    let mut batch = || loop {
        let line = viewer.line();
        if let Some(batch) = line.strip_prefix("data: ").filter(|data| data.contains("\"steps\"")) {
            return batch.to_owned();
        }
    };
    let mut found = batch();
    while !found.contains("\"operations\":3") {
        client.send(pipeline);
        (0..3).for_each(|_| assert_eq!(client.line(), "+OK"));
        found = batch();
    }
    for part in
        ["[1,3,\"set\"]", "\"clientCount\":1", "\"ending\":\"committed\"", "\"leader\":\"client\""]
    {
        assert!(found.contains(part), "{part} is not in {found}");
    }
    // Each step took its time.
    assert!(!found.contains("null"), "{found}");
    server.stop();
}

#[test]
fn what_is_scraped_is_what_was_done_also_while_it_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = StopOnDrop(&done);
        let scraper = scope.spawn(|| {
            let (mut last, mut scrapes) = (0.0, 0);
            while !done.load(Ordering::Relaxed) {
                let page = get(http, "/metrics");
                let records = number(&page, "post_gres_rs_wal_records_total");
                assert!(records >= last, "{records} after {last}");
                (last, scrapes) = (records, scrapes + 1);
            }
            scrapes
        });
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let mut client = Client::connect(&server);
                scope.spawn(move || {
                    for at in 0..250 {
                        assert_eq!(client.ask(&format!("SET key{at} v")), "+OK");
                        assert_eq!(client.ask(&format!("GET key{at}")), "+OK v");
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        assert!(scraper.join().expect("no panic") > 0);
    });
    assert_eq!(Client::connect(&server).ask("SET one"), "-SET expected 2 arguments KEY and VALUE");
    let page = get(http, "/metrics");
    let calls =
        |command| format!("post_gres_rs_command_duration_seconds_count{{command=\"{command}\"}}");
    for (name, value) in [
        (&*calls("set"), 1000.0),
        (&calls("get"), 1000.0),
        ("post_gres_rs_command_errors_total{command=\"set\",kind=\"rejected\"}", 1.0),
        ("post_gres_rs_wal_records_total", 1000.0),
        ("post_gres_rs_wal_durable_lsn", 1000.0),
        ("post_gres_rs_wal_batch_records_sum", 1000.0),
        ("post_gres_rs_keyspace_hits_total", 1000.0),
        ("post_gres_rs_keys", 250.0),
        ("post_gres_rs_ready", 1.0),
        ("post_gres_rs_wal_closed", 0.0),
    ] {
        assert_eq!(number(&page, name), value, "{name}");
    }
    server.stop();
}

#[test]
fn a_closed_log_is_not_ready_and_its_metric_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    let messages = server.log();
    let place = |text: &str| messages.find(text).unwrap_or_else(|| panic!("no {text}: {messages}"));
    assert!(place("http on ") < place(" records in "), "it listens before the replay");
    assert!(get(http, "/readyz").starts_with("HTTP/1.1 200 "));
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    let limit = Rlimit { current: Some(0), maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit).expect("our own child");
    assert!(client.ask("SET a 2").contains("File too large"));
    let answer = get(http, "/readyz");
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("closed for writing"),
        "{answer}"
    );
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200 "), "a restart may be worse");
    let page = get(http, "/metrics");
    assert_eq!(number(&page, "post_gres_rs_wal_closed"), 1.0);
    assert_eq!(number(&page, "post_gres_rs_ready"), 0.0);
    server.kill9();
}

/// Debian's Prometheus scrapes the server, and its promtool reads rules, tests and metrics.
#[test]
fn a_real_prometheus_scrapes_it_and_finds_no_fault_in_metrics_and_rules() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: there is no promtool here (Debian's package prometheus)");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    promtool(&["check", "config", "prometheus.yml"], &rules, "");
    promtool(&["test", "rules", "alerts_test.yml"], &rules, "");
    let page = get(http, "/metrics");
    let (_, metrics) = page.split_once("\r\n\r\n").expect("a body");
    promtool(&["check", "metrics"], &rules, metrics);

    let mut prometheus = Prometheus::start(dir.path(), http);
    for (query, value) in [
        ("up", "1"),
        ("post_gres_rs_wal_records_total", "1"),
        ("post_gres_rs_command_duration_seconds_count{command=\"set\"}", "1"),
        ("count(process_open_fds)", "1"),
    ] {
        eventually(query, || prometheus.asked(query).ends_with(&format!("\"{value}\"]}}]}}}}")));
    }
    server.stop();
}

fn promtool(arguments: &[&str], at: &Path, input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(at);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it is there");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    assert!(arguments != ["check", "metrics"] || said.is_empty(), "it finds fault: {said}");
}

struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// One that scrapes the server at `target` each second.
    fn start(dir: &Path, target: SocketAddr) -> Prometheus {
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: a\n    static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        fs::write(&config, text).expect("a file");
        // It takes no port 0; this one was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        let child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        Prometheus { child: child.expect("it is there, as promtool is"), address }
    }

    /// The answer to a query; nothing while it does not listen.
    fn asked(&mut self, query: &str) -> String {
        assert!(self.child.try_wait().expect("our child").is_none(), "it has ended");
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let text = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        let Ok(mut socket) = TcpStream::connect(self.address) else { return String::new() };
        let mut answer = String::new();
        match socket.write_all(text.as_bytes()).and_then(|()| socket.read_to_string(&mut answer)) {
            Ok(_) => answer.trim_end().to_owned(),
            Err(_) => String::new(),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(dir: &Path, flags: &[&str]) -> (Server, SocketAddr) {
    let server = Server::start(dir, &[&["-http", "127.0.0.1:0"], flags].concat());
    let address = address(&server);
    (server, address)
}

fn address(server: &Server) -> SocketAddr {
    let line = server.wait_for_log("http on ");
    let (_, address) = line.rsplit_once("http on ").expect("just found");
    address.trim().parse().expect("an address")
}

fn connect(http: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(http).expect("it accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

/// Everything that is answered to these bytes. A connection that is turned away may be reset.
fn ask(http: SocketAddr, request: &[u8]) -> String {
    let mut socket = connect(http);
    let mut answer = Vec::new();
    if socket.write_all(request).is_ok() {
        match socket.read_to_end(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => {}
        }
    }
    String::from_utf8(answer).expect("text")
}

fn get(http: SocketAddr, path: &str) -> String {
    ask(http, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
}

/// The value of a metric.
fn number(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}
