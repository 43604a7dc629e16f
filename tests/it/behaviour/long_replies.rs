//! Replies longer than the server should have in memory: refused before memory is taken for them, counted
//! until they are read, and given back.

use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, Server, eventually};

const TOO_LONG: &str = "ERR the reply is longer than -maxreply allows";

/// The longest value in these tests.
const VALUE_BYTES: usize = 8 << 20;

/// Memory that the server may need: twice the value, the limit, and a batch. Far less than any of the replies
/// that are asked for.
const MEMORY_BYTES: u64 = 64 << 20;

/// Seen: `SETRANGE k 536870911 x` and `MGET k k k …`, 155 bytes, ended the process, because replies were
/// owned copies without a limit. The same in a transaction, for each command that answers a value. Now each
/// piece is measured before it is copied.
#[test]
fn a_reply_or_the_replies_of_a_transaction_that_are_too_long_are_refused_and_take_no_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let value = VALUE_BYTES.to_string();
    let server =
        Server::start(dir.path(), &["-maxvalue", &value, "-maxreply", "10mb", "-fsync", "no"]);
    let mut client = Client::connect(&server);
    let end = (VALUE_BYTES - 1).to_string();
    assert_eq!(ask(&mut client, ["SETRANGE", "k", &end, "x"]), Value::Integer(VALUE_BYTES as i64));
    let key = "x".repeat(60_000);
    for number in 0..400 {
        ask(&mut client, ["SET", &format!("long:{number}{key}"), ""]);
    }
    let before = server.peak_memory();

    assert_eq!(length(&ask(&mut client, ["GET", "k"])), VALUE_BYTES, "one always fits");
    // In a line of text each of its bytes takes four.
    assert_eq!(client.ask("GET k"), format!("-{TOO_LONG}"));
    assert_eq!(ask(&mut client, ["MGET", "k"]), Value::Array(vec![ask(&mut client, ["GET", "k"])]));

    // Nor is it answered after a write.
    client.send("SET n 0\nGET k\n");
    assert_eq!(client.line().trim_end(), "+OK");
    assert_eq!(client.line().trim_end(), format!("-{TOO_LONG}"));

    let many: Vec<&str> = std::iter::once("MGET").chain(std::iter::repeat_n("k", 40)).collect();
    assert_eq!(ask(&mut client, many), Value::error(TOO_LONG));
    assert_eq!(say(&mut client, "KEYS long:*"), Value::error(TOO_LONG));
    let mut behind_a_write = request(["SET", "n", "0"]);
    behind_a_write.extend(request(["MGET", "k", "k", "k"]));
    client.send(behind_a_write);
    assert_eq!(reply(&mut client), Ok(Value::ok()));
    assert_eq!(reply(&mut client), Ok(Value::error(TOO_LONG)));

    let queued = Value::Simple("QUEUED".into());
    for commands in [
        vec!["GET k"; 60],
        vec!["GETRANGE k 0 -1"; 60],
        vec!["GETEX k PERSIST"; 60],
        vec!["COPY k k2 REPLACE", "GETDEL k2", "COPY k k2", "GETDEL k2", "SET k2 x GET"],
        vec!["SET k2 x GET", "COPY k k2 REPLACE", "SET k2 x GET", "MGET k k", "FLUSHALL"],
        vec![
            "FLUSHALL",
            "SET k2 y",
            "KEYS *",
            "GET k2",
            "ECHO x",
            "SETRANGE k3 8388607 x",
            "MGET k3 k3",
        ],
    ] {
        assert_eq!(say(&mut client, "MULTI"), Value::ok());
        assert_eq!(say(&mut client, "INCR n"), queued);
        for command in &commands {
            assert_eq!(say(&mut client, command), queued, "{command}");
        }
        let refused = format!("EXECABORT Transaction discarded because of: {TOO_LONG}");
        assert_eq!(say(&mut client, "EXEC"), Value::error(&refused), "{:?}", commands[0]);
        // None of the transaction was carried out.
        assert_eq!(say(&mut client, "GET n"), Value::bulk("0"));
        assert_eq!(say(&mut client, "EXISTS k2 k3"), Value::Integer(0));
        assert_eq!(say(&mut client, "STRLEN k"), Value::Integer(VALUE_BYTES as i64));
    }
    assert_eq!(say(&mut client, "DBSIZE"), Value::Integer(402));
    let grown = server.peak_memory() - before;
    assert!(grown < MEMORY_BYTES, "{grown} bytes for replies of which none is longer than 10 MB");

    // And what is there after a restart is what was answered.
    server.stop();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "MGET n k2 k3"), say(&mut client, "MGET n none none"));
    assert_eq!(say(&mut client, "DBSIZE"), Value::Integer(402));
    server.stop();
}

/// Seen: a reply to a client whose socket was already full was not counted, and 20 such clients held 4.8 GiB,
/// though 1 GiB is the limit of all together. Now every path counts, and over the limit the client with the
/// most is closed.
#[test]
fn all_clients_that_do_not_read_have_no_more_than_their_limit_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = ["-maxvalue", "2000000", "-maxreply", "30mb", "-maxmemory-clients", "60mb"];
    let server = Server::start(dir.path(), &limits);
    let mut good = Client::connect(&server);
    ask(&mut good, ["SET", "k", &"x".repeat(100_000)]);
    ask(&mut good, ["SET", "long", &"x".repeat(2_000_000)]);

    // One alone: 25 MB in pieces that follow one another, of which sockets take some.
    let pipeline = request(["GET", "k"]).repeat(250);
    let mut stalled = stalled_client(&server);
    stalled.send(&pipeline);
    eventually("what is unread is counted", || {
        (10_000_000..26_000_000).contains(&good.counter("mem_client_replies"))
    });
    eventually("and it is all of this client's", || {
        let info = good.info();
        let value =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).expect("a row");
        value("client_recent_max_output_buffer:") == value("mem_client_replies:")
    });
    drop(stalled);
    eventually("and given back", || good.counter("mem_client_replies") < 100_000);

    // Replies to reads, and to reads after writes, which another thread sends.
    let after_writes = [request(["SET", "n", "1"]), request(["GET", "k"])].concat().repeat(250);
    let mut clients = Vec::new();
    let mut most = 0;
    for number in 0..20 {
        let mut client = stalled_client(&server);
        client.send(if number % 2 == 0 { &pipeline } else { &after_writes });
        clients.push(client);
        // A client that reads has room, whatever the others do.
        assert_eq!(length(&ask(&mut good, ["GET", "long"])), 2_000_000);
        most = most.max(good.counter("mem_client_replies"));
    }
    eventually("some are closed", || {
        most = most.max(good.counter("mem_client_replies"));
        good.counter("evicted_clients") + closed_for_unread(&mut good) >= 10
    });
    assert!(most < 70_000_000, "{most} bytes are unread");
    assert_eq!(length(&ask(&mut good, ["GET", "long"])), 2_000_000);
    drop(clients);
    eventually("all is given back", || good.counter("mem_client_replies") < 100_000);
    server.stop();
}

#[test]
fn a_client_over_its_own_limit_is_closed_and_the_others_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxvalue", "2000000", "-maxreply", "5mb"]);
    let mut good = Client::connect(&server);
    ask(&mut good, ["SET", "k", &"x".repeat(100_000)]);
    let mut stalled = stalled_client(&server);
    stalled.send(request(["GET", "k"]).repeat(300));
    eventually("it is closed", || closed_for_unread(&mut good) == 1);
    assert_eq!(good.counter("evicted_clients"), 0);
    eventually("and given back", || good.counter("mem_client_replies") == 0);
    server.stop();
}

fn closed_for_unread(client: &mut Client) -> u64 {
    client.counter("client_output_buffer_limit_disconnections")
}

/// A client that reads nothing, and whose socket takes little.
fn stalled_client(server: &Server) -> Client {
    let client = Client::connect(server);
    set_socket_recv_buffer_size(client.stream(), 16 * 1024).expect("a socket");
    client
}

fn length(value: &Value) -> usize {
    match value {
        Value::Bulk(bytes) => bytes.len(),
        other => panic!("no value: {other:?}"),
    }
}
