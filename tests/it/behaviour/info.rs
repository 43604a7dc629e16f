//! INFO's counters against what was done: each command, each kind of error.

use crate::common::wire::{self, Value, ask};
use crate::common::{Client, Server, eventually};

#[test]
fn every_command_and_every_error_is_counted_under_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for words in ["SET n x", "GET n", "GET n", "INCR n", "GET", "LPUSH n x", "MULTI", "EXEC"] {
        let words: Vec<&str> = words.split(' ').collect();
        ask(&mut client, &words);
    }
    let info = section(&mut client, "commandstats");
    let counts = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:")));
        let fields = line.unwrap_or_else(|| panic!("no {name} in {info}")).split(',');
        let value = |(field, value): (&str, &str)| {
            (!field.starts_with("usec")).then(|| value.parse::<u64>().expect("a count"))
        };
        fields.filter_map(|field| value(field.split_once('=').expect("a field"))).collect()
    };
    // Calls, rejected calls, failed calls.
    for (name, expected) in
        [("set", [1, 0, 0]), ("get", [2, 1, 0]), ("incr", [1, 0, 1]), ("exec", [1, 0, 0])]
    {
        let counts: Vec<u64> = counts(name);
        assert_eq!(counts, expected, "{name}");
    }
    assert!(!info.contains("lpush"), "{info}");

    let latencies = section(&mut client, "latencystats");
    assert!(latencies.contains("latency_percentiles_usec_set:p50="), "{latencies}");
    // The unknown command, the wrong number of words, the value that is no number.
    assert_eq!(section(&mut client, "errorstats"), "# Errorstats\r\nerrorstat_ERR:count=3\r\n");
    assert_eq!(client.counter("total_error_replies"), 3);
    // Errors within a transaction count, too.
    for command in
        [&["MULTI"][..], &["SET", "text", "x"], &["INCR", "text"], &["INCR", "text"], &["EXEC"]]
    {
        ask(&mut client, command);
    }
    assert_eq!(client.counter("total_error_replies"), 5);
    assert_eq!(ask(&mut client, ["DEL", "text"]), Value::Integer(1));

    // Lines for each command are shown only if everything is asked for.
    for (sections, shown) in [(None, false), (Some("default"), false), (Some("all"), true)] {
        let words: Vec<&str> = std::iter::once("INFO").chain(sections).collect();
        assert_eq!(text(ask(&mut client, &words)).contains("cmdstat_get"), shown, "{sections:?}");
    }
    server.stop();
}

#[test]
fn a_pipeline_longer_than_a_read_pays_few_syncs() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    // 200 KiB at once: the system may hand it over in pieces, but not request by request.
    let request = wire::request(["SET", "key", &"x".repeat(1000)]);
    client.send(request.repeat(200));
    for _ in 0..200 {
        assert_eq!(wire::reply(&mut client), Ok(Value::ok()));
    }
    let syncs = client.counter("wal_syncs");
    assert!(syncs <= 25, "{syncs} syncs for a pipeline of 200 requests");
    // A pipeline without end is answered while it comes: a full buffer is no reason to wait.
    let more = request.repeat(5000);
    std::thread::scope(|scope| {
        let mut writer = client.stream().try_clone().expect("a second handle");
        scope.spawn(move || std::io::Write::write_all(&mut writer, &more).expect("it is taken"));
        for _ in 0..5000 {
            assert_eq!(wire::reply(&mut client), Ok(Value::ok()));
        }
    });
    let syncs = client.counter("wal_syncs");
    assert!(syncs >= 5, "5 MB in {syncs} batches are more than one may gather");
    server.stop();
}

/// Seen: `used_memory` was the resident memory, while `-maxmemory` counts keys and values, so that the usual
/// alarm meant nothing. Now both mean the same, and what comes on top has its own rows.
#[test]
fn used_memory_is_what_maxmemory_limits_and_the_rest_has_its_own_rows() {
    const MOST: u64 = 2 << 20;
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", &MOST.to_string(), "-fsync", "no"]);
    let mut client = Client::connect(&server);
    assert_eq!(client.counter("maxmemory"), MOST);
    let value = "x".repeat(1000);
    let refused = |reply| matches!(reply, Value::Error(_));
    let full = (0..10_000).find(|key| refused(ask(&mut client, ["SET", &key.to_string(), &value])));
    let keys = full.expect("the store is full at some time");
    let used = client.counter("used_memory");
    assert!((MOST - 10_000..MOST + 100_000).contains(&used), "{used} of {MOST}");
    let [dataset, overhead] =
        ["used_memory_dataset", "used_memory_overhead"].map(|name| client.counter(name));
    assert_eq!(dataset + overhead, used);
    assert!(overhead > 8 * keys && dataset > 1000 * keys, "{overhead}, {dataset}");
    assert!(client.counter("used_memory_rss") > used, "the program itself takes up something");
    assert_eq!(client.counter("used_memory_peak"), used);
    assert_eq!(ask(&mut client, ["FLUSHALL"]), Value::ok());
    assert!(client.counter("used_memory") < used / 4);
    assert_eq!(client.counter("used_memory_peak"), used);

    // A request that has not come to its end, and a transaction that has not.
    let mut sender = Client::connect(&server);
    sender.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n{}", "x".repeat(500_000)));
    let arrived = 500_000..1_100_000;
    eventually("it is counted", || arrived.contains(&client.counter("mem_client_requests")));
    let mut gatherer = Client::connect(&server);
    assert_eq!(ask(&mut gatherer, ["MULTI"]), Value::ok());
    let queued = Value::Simple("QUEUED".into());
    (0..300).for_each(|_| assert_eq!(ask(&mut gatherer, ["SET", "k", &value]), queued));
    let transactions = client.counter("mem_client_transactions");
    assert!((300_000..400_000).contains(&transactions), "{transactions}");
    let normal = client.counter("mem_clients_normal");
    assert!((800_000..2_000_000).contains(&normal), "{normal}");
    assert_eq!(ask(&mut gatherer, ["DISCARD"]), Value::ok());
    assert_eq!(client.counter("mem_client_transactions"), 0);
    // Of a command about the server only the command is kept, not its answer of 50 KB.
    assert_eq!(ask(&mut gatherer, ["MULTI"]), Value::ok());
    (0..300).for_each(|_| assert_eq!(ask(&mut gatherer, ["COMMAND"]), queued));
    let transactions = client.counter("mem_client_transactions");
    assert!((10_000..300_000).contains(&transactions), "{transactions}");
    assert_eq!(ask(&mut gatherer, ["DISCARD"]), Value::ok());
    drop(sender);
    eventually("it is given back", || client.counter("mem_client_requests") < 20_000);
    assert!(client.counter("mem_aof_buffer") >= 4096, "the log keeps a buffer");
    assert_eq!(client.counter("mem_batch"), 0, "nobody writes");
    server.stop();
}

fn section(client: &mut Client, name: &str) -> String {
    text(ask(client, ["INFO", name]))
}

fn text(value: Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8(bytes).expect("INFO is text"),
        other => panic!("INFO answers {other:?}"),
    }
}

#[test]
fn settings_are_shown_as_they_are_and_not_as_they_were_asked_for() {
    for (flag, enabled) in [("-persist=true", 1), ("-persist=false", 0)] {
        let dir = tempfile::tempdir().expect("a directory");
        let before = now();
        let server = Server::start(dir.path(), &[flag]);
        let started = now();
        let mut client = Client::connect(&server);
        let port = server.address().port().to_string();
        assert_ne!(port, "0");
        let shown = ask(&mut client, ["CONFIG", "GET", "port"]);
        assert_eq!(shown, Value::Array(vec![Value::bulk("port"), Value::bulk(&port)]));
        assert_eq!(client.counter("tcp_port").to_string(), port);
        assert_eq!(client.counter("aof_enabled"), enabled, "{flag}");
        let persistence = section(&mut client, "persistence");
        // Without a log there are no rows about one.
        assert_eq!(persistence.contains("\r\nwal_status:ok\r\n"), enabled == 1, "{persistence}");
        assert_eq!(persistence.contains("wal_"), enabled == 1, "{persistence}");
        assert!(persistence.contains("\r\naof_last_rewrite_time_sec:-1\r\n"), "{persistence}");
        let Value::Integer(saved) = ask(&mut client, ["LASTSAVE"]) else { panic!("a number") };
        // Without a log the last save stays at the start.
        let range = if enabled == 1 { started..=now() } else { before..=started };
        assert!(range.contains(&saved), "{flag}: {saved} in {range:?}");
        server.stop();
    }
}

/// In seconds of Unix time.
fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970");
    since.as_secs() as i64
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
