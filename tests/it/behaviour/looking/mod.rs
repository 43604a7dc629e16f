//! What may be seen over HTTP is what is the case.

mod prometheus;
mod strangers;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, prlimit};

use crate::common::{Client, PATIENCE, Server, StopOnDrop};

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
        // A batch within a tenth of a second of the last sample is not sampled.
        std::thread::sleep(2 * post_gres_rs::metrics::BETWEEN_SAMPLES);
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
