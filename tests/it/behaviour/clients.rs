//! What a client may switch for itself or for all: CLIENT PAUSE, REPLY and NO-EVICT.

use std::time::{Duration, Instant};

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, Server, eventually};

/// A client that has sent this, after it is known to wait with it.
fn waiting(server: &Server, control: &mut Client, words: &str) -> Client {
    let before = paused(control);
    let mut client = Client::connect(server);
    client.send(request(words.split(' ').collect::<Vec<_>>()));
    eventually("it waits", || paused(control) == before + 1);
    client
}

/// How many clients wait. INFO itself would wait, too.
fn paused(control: &mut Client) -> u64 {
    control.counter("blocked_clients")
}

#[test]
fn writes_wait_while_they_are_paused_and_reads_and_commands_about_clients_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut control = Client::connect(&server);
    let mut transaction = Client::connect(&server);
    for command in ["MULTI", "SET in transaction"] {
        say(&mut transaction, command);
    }
    let mut reads = Client::connect(&server);
    for command in ["MULTI", "GET k"] {
        say(&mut reads, command);
    }
    say(&mut control, "SET k before PX 600000");
    assert_eq!(say(&mut control, "CLIENT PAUSE 600000 WRITE"), Value::ok());
    // A second pause makes the first no shorter.
    assert_eq!(say(&mut control, "CLIENT PAUSE 1 WRITE"), Value::ok());
    let scripts = if cfg!(feature = "scripts") { &["EVAL return(1) 0"][..] } else { &[] };
    let mut waits: Vec<Client> = ["SET k after", "INCR n", "PUBLISH c x"]
        .iter()
        .chain(scripts)
        .map(|words| waiting(&server, &mut control, words))
        .collect();
    transaction.send(request(["EXEC"]));
    eventually("so does EXEC", || paused(&mut control) == 4 + scripts.len() as u64);
    assert_eq!(say(&mut control, "GET k"), Value::bulk("before"));
    assert_eq!(say(&mut reads, "EXEC"), Value::Array(vec![Value::bulk("before")]));
    assert_eq!(say(&mut control, "CLIENT UNPAUSE"), Value::ok());
    let replies = [Value::ok(), Value::Integer(1), Value::Integer(0), Value::Integer(1)];
    for (client, expected) in waits.iter_mut().zip(replies) {
        assert_eq!(reply(client), Ok(expected));
    }
    assert_eq!(reply(&mut transaction), Ok(Value::Array(vec![Value::ok()])));
    assert_eq!(say(&mut control, "GET k"), Value::bulk("after"));
    assert_eq!(paused(&mut control), 0);
}

#[test]
fn everything_waits_while_all_is_paused_and_the_pause_ends_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let (mut control, mut other) = (Client::connect(&server), Client::connect(&server));
    let began = Instant::now();
    assert_eq!(say(&mut control, "CLIENT PAUSE 300"), Value::ok());
    // It holds back no less because a later one would.
    assert_eq!(say(&mut control, "CLIENT PAUSE 200 WRITE"), Value::ok());
    assert_eq!(say(&mut other, "CLIENT GETNAME"), Value::NullBulk);
    assert_eq!(say(&mut other, "PING"), Value::Simple("PONG".into()));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[test]
fn a_killed_client_s_request_is_never_carried_out_and_a_stop_waits_for_no_pause() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut control = Client::connect(&server);
    say(&mut control, "CLIENT PAUSE 600000 WRITE");
    let mut killed = waiting(&server, &mut control, "SET killed 1");
    say(&mut control, "CLIENT KILL TYPE normal");
    assert!(reply(&mut killed).is_err());
    eventually("it has gone", || paused(&mut control) == 0);
    let mut kept = waiting(&server, &mut control, "SET kept 1");
    let began = Instant::now();
    server.signal(rustix::process::Signal::TERM);
    // What was sent before the stop is answered.
    assert_eq!(reply(&mut kept), Ok(Value::ok()));
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(
        say(&mut client, "MGET killed kept"),
        Value::Array(vec![Value::NullBulk, Value::bulk("1")])
    );
}

#[test]
fn replies_that_a_client_does_not_want_are_not_sent_and_its_commands_are_carried_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let send = |client: &mut Client, all: &[&str]| {
        let requests = all.iter().map(|words| request(words.split(' ').collect::<Vec<_>>()));
        client.send(requests.collect::<Vec<_>>().concat());
    };
    // Reads and writes, in the queue and not.
    send(&mut client, &["CLIENT REPLY OFF", "PING", "SET a 1", "GET a", "INCR a", "NOPE"]);
    send(&mut client, &["MULTI", "GET a", "CLIENT ID", "EXEC", "KEYS *", "CLIENT REPLY SKIP"]);
    assert_eq!(say(&mut client, "CLIENT REPLY ON"), Value::ok());
    assert_eq!(say(&mut client, "GET a"), Value::bulk("2"));
    for skipped in ["GET a", "SET a 3", "SUBSCRIBER", "CLIENT REPLY SKIP"] {
        send(&mut client, &["CLIENT REPLY SKIP", skipped]);
        if skipped == "CLIENT REPLY SKIP" {
            send(&mut client, &["PING"]);
        }
        assert_eq!(say(&mut client, "ECHO heard"), Value::bulk("heard"), "{skipped}");
    }
    // Messages come all the same.
    send(&mut client, &["CLIENT REPLY OFF", "HELLO 3", "SUBSCRIBE c", "PUBLISH c x"]);
    for words in [
        vec![Value::bulk("subscribe"), Value::bulk("c"), Value::Integer(1)],
        ["message", "c", "x"].map(Value::bulk).to_vec(),
    ] {
        assert_eq!(reply(&mut client), Ok(Value::Push(words)));
    }
    assert_eq!(say(&mut client, "RESET"), Value::Simple("RESET".into()));
    assert_eq!(say(&mut client, "GET a"), Value::bulk("3"));
    for command in ["MULTI", "CLIENT REPLY OFF"] {
        ask(&mut client, command.split(' ').collect::<Vec<_>>());
    }
    assert!(matches!(say(&mut client, "EXEC"), Value::Error(_)));
}

#[test]
fn a_client_that_is_not_to_be_evicted_is_spared_when_all_leave_too_much_unread() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory-clients", "20mb"]);
    let (mut kept, mut publisher) = (Client::connect(&server), Client::connect(&server));
    say(&mut kept, "CLIENT NO-EVICT ON");
    say(&mut kept, "SUBSCRIBE c");
    let text = "x".repeat(1 << 20);
    let published = 28;
    let mut others = Vec::new();
    for number in 0..published {
        ask(&mut publisher, ["PUBLISH", "c", &text]);
        // The others have less unread than it has.
        if number == 5 {
            for _ in 0..3 {
                let mut other = Client::connect(&server);
                say(&mut other, "SUBSCRIBE c");
                others.push(other);
            }
        }
    }
    let closed = ["evicted_clients", "client_output_buffer_limit_disconnections"];
    assert_eq!(closed.map(|name| publisher.counter(name)).iter().sum::<u64>(), 3);
    for _ in 0..published {
        let words = [Value::bulk("message"), Value::bulk("c"), Value::bulk(&text)];
        assert_eq!(reply(&mut kept), Ok(Value::Array(words.to_vec())));
    }
}
