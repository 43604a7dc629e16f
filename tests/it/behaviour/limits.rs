//! Clients that are slow, stuck, too many, or gone, and a stop among them: the other clients are not
//! disturbed, and no half-sent request is carried out.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::common::{self, Client, Server, alone, eventually, raise_descriptor_limit};

/// A value that fills socket buffers soon, and still fits a line.
const BIG_BYTES: usize = 60_000;

#[test]
fn a_client_that_reads_no_replies_to_reads_does_not_disturb_others() {
    leave_replies_unread("GET big\n");
}

#[test]
fn a_client_that_reads_no_replies_to_writes_does_not_disturb_others() {
    // The GET waits for the SET, so its reply comes from the committing thread.
    leave_replies_unread("SET mine x\nGET big\n");
}

/// One client sends `request` as long as the server takes it, and reads nothing; in step with it
/// another one writes and reads.
fn leave_replies_unread(request: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-fsync", "no"]);
    let mut good = Client::connect(&server);
    assert_eq!(good.ask(&format!("SET big {}", "v".repeat(BIG_BYTES))), "+OK");

    let stuck = Client::connect(&server);
    stuck.stream().set_nonblocking(true).expect("a socket");
    let requests = request.repeat(1000);
    let mut at = 0;
    let mut rounds = 0;
    eventually("the client that reads nothing is closed", || {
        rounds += 1;
        assert_eq!(good.ask(&format!("SET round {rounds}")), "+OK");
        assert_eq!(good.ask("GET round"), format!("+OK {rounds}"));
        match stuck.stream().write(&requests.as_bytes()[at..]) {
            Ok(sent) => at = (at + sent) % requests.len(),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
        false
    });
    // Replies to hundreds of batches are left unread before that; a batch is a turn for all.
    assert!(rounds > 50, "the other client had {rounds} turns until the stuck one was closed");
    server.stop();
}

#[test]
fn a_client_that_sends_a_whole_pipeline_before_it_reads_gets_every_reply() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    // So small a window that the server has to wait for it now and again.
    set_socket_recv_buffer_size(client.stream(), 24 * 1024).expect("a socket");
    let value = "v".repeat(BIG_BYTES);
    assert_eq!(client.ask(&format!("SET big {value}")), "+OK");
    // Far more than socket buffers hold, so most of it is finished by the flusher; half of the
    // replies come from this client's thread, half from the committer.
    let replies = 200;
    client.send("GET big\n".repeat(replies / 2));
    client.send("SET small x\nGET big\n".repeat(replies / 2));
    for reply in 0..replies / 2 * 3 {
        let line = client.line();
        let is_set = reply >= replies / 2 && (reply - replies / 2) % 2 == 0;
        assert_eq!(line.len(), if is_set { 3 } else { 4 + BIG_BYTES }, "reply {reply}");
    }
    server.stop();
}

#[test]
fn a_client_that_sends_one_byte_at_a_time_is_served_beside_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut slow = Client::connect(&server);
    let mut quick = Client::connect(&server);
    for (index, byte) in b"SET slow value\r\nGET slow\n".iter().enumerate() {
        slow.send([*byte]);
        assert_eq!(quick.ask(&format!("SET quick {index}")), "+OK");
        assert_eq!(quick.ask("GET quick"), format!("+OK {index}"));
    }
    assert_eq!([slow.line(), slow.line()], ["+OK\r", "+OK value"]);
}

#[test]
fn a_client_that_dies_within_a_line_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut witness = Client::connect(&server);
    for linger in [None, Some(Duration::ZERO)] {
        let mut dying = Client::connect(&server);
        assert_eq!(dying.ask("SET whole 1"), "+OK");
        dying.send("SET half 1");
        // With a linger time of zero, the connection ends with a reset.
        set_socket_linger(dying.stream(), linger).expect("a socket");
        drop(dying);
        eventually("the server notices", || witness.counter("connected_clients") == 1);
        assert_eq!(witness.ask("GET half"), "-GET could not find half in store");
        assert_eq!(witness.ask("GET whole"), "+OK 1");
    }
}

#[test]
fn a_client_over_maxclients_is_told_so_until_another_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxclients", "3"]);
    let mut clients = [(); 3].map(|()| Client::connect(&server));
    for client in &mut clients {
        assert_eq!(client.ask("SET a 1"), "+OK");
    }
    let rejection = Client::connect(&server).rest().expect("the end");
    assert_eq!(rejection.escape_ascii().to_string(), r"-ERR max number of clients reached\r\n");

    let [first, mut others @ ..] = clients;
    drop(first);
    eventually("there is room again", || {
        let mut client = Client::connect(&server);
        client.try_send("GET a\n").is_ok() && client.try_line().is_ok_and(|line| line == b"+OK 1")
    });
    for client in &mut others {
        assert_eq!(client.ask("GET a"), "+OK 1");
    }
}

#[test]
fn five_hundred_clients_are_served_at_the_same_time() {
    if alone(module_path!(), "five_hundred_clients_are_served_at_the_same_time") {
        serve_many(500);
    }
}

#[test]
#[ignore = "takes thousands of threads and descriptors; for CI"]
fn ten_thousand_clients_are_served_at_the_same_time() {
    if !alone(module_path!(), "ten_thousand_clients_are_served_at_the_same_time") {
        return;
    }
    // The server opens a descriptor per client, as this process does, and a few more; its threads
    // count against a limit of the whole system.
    let descriptors = raise_descriptor_limit() - 200;
    let threads = fs::read_to_string("/proc/sys/kernel/threads-max").expect("Linux");
    let threads: usize = threads.trim().parse().expect("a number");
    serve_many(10_000.min(descriptors).min(threads / 2));
}

/// Changes the limit of the process.
fn serve_many(count: usize) {
    raise_descriptor_limit();
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxclients", &count.to_string()]);
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(&server)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(format!("SET key{index} {index}\nGET key{index}\n"));
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), "+OK", "client {index} of {count}");
        assert_eq!(client.line(), format!("+OK {index}"));
    }
    assert_eq!(clients[0].counter("connected_clients"), count as u64);
    eprintln!("{count} clients were served");
    server.stop();
}

#[test]
fn without_free_descriptors_clients_wait_and_the_server_does_not_spin() {
    const LIMIT: u64 = 64;
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("our own child");

    let mut clients: Vec<Client> = (0..2 * LIMIT).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        client.send("SET a 1\n");
    }
    server.wait_for_log("Too many open files");
    assert_eq!(clients[0].line(), "+OK");

    // Whether it spins shows only over some real time in which nothing else happens.
    let before = server.cpu_ticks();
    std::thread::sleep(Duration::from_secs(1));
    let ticks = server.cpu_ticks() - before;
    assert!(ticks < 30, "{ticks} hundredths of a second of CPU time in one second");
    let complaints = server.log().matches("Too many open files").count();
    assert!(complaints < 10, "{complaints} log lines about one thing");

    assert_eq!(clients[0].ask("GET a"), "+OK 1", "who is connected is served");
    let waiting = clients.split_off(LIMIT as usize);
    drop(clients);
    for mut client in waiting {
        assert_eq!(client.line(), "+OK", "who waited is served");
        assert_eq!(client.ask("GET a"), "+OK 1");
    }
    server.stop();
}

#[test]
fn a_signal_stops_the_server_in_order_whatever_its_clients_do() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &[]);
        let mut done = Client::connect(&server);
        assert_eq!(done.ask(&format!("SET big {}", "v".repeat(BIG_BYTES))), "+OK");
        let mut idle = Client::connect(&server);
        let mut half_way = Client::connect(&server);
        half_way.send("SET half 1");
        let mut stuck = Client::connect(&server);
        // More than the socket buffers on both sides hold.
        stuck.send("GET big\n".repeat(500));
        until_replies_wait(&mut done);
        assert_eq!(done.ask("SET last 1"), "+OK");

        server.signal(signal);
        let (status, log) = server.wait();
        assert!(status.success(), "{status}; log:\n{log}");
        for client in [&mut done, &mut idle, &mut half_way] {
            assert_eq!(client.rest().expect("the end"), b"");
        }

        let server = Server::start(dir.path(), &[]);
        server.wait_for_log("; closed in order");
        let mut client = Client::connect(&server);
        assert_eq!(client.ask("GET last"), "+OK 1");
        assert_eq!(client.ask("GET half"), "-GET could not find half in store");
    }
}

/// What was seen: `timeout 1 post-gres-rs` never stopped in order. It signals its child and then the group, so
/// the second signal came within microseconds and ended the process. Now the two count as one.
#[test]
fn two_signals_at_once_are_one_order_to_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        server.signal(signal);
    }
    let (status, log) = server.wait();
    assert!(status.success(), "{status}; log:\n{log}");
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("; closed in order");
    assert_eq!(Client::connect(&server).ask("GET a"), "+OK 1");
}

/// Waits until replies to another client no longer fit the socket's buffers.
fn until_replies_wait(client: &mut Client) {
    eventually("replies wait for the client that reads nothing", || {
        client.counter("client_recent_max_output_buffer") > BIG_BYTES as u64
    });
}

#[test]
fn a_later_signal_ends_the_server_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&format!("SET big {}", "v".repeat(BIG_BYTES))), "+OK");
    // The stop waits until this client has read the replies made before.
    let mut stuck = Client::connect(&server);
    stuck.send("GET big\n".repeat(500));
    until_replies_wait(&mut client);
    assert_eq!(client.ask("SET a 1"), "+OK");
    eventually("it ends", || {
        server.signal(Signal::TERM);
        server.log().contains("ending at once")
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(130), "{log}");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("GET a"), "+OK 1");
}

#[test]
fn signals_that_ask_for_nothing_end_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let signals = [
        (Signal::HUP, 'H'),
        (Signal::USR2, 'U'),
        (Signal::ALARM, 'A'),
        (Signal::VTALARM, 'V'),
        (Signal::PROF, 'P'),
        (Signal::IO, 'I'),
        (Signal::PIPE, 'p'),
        (Signal::XCPU, 'C'),
        (Signal::XFSZ, 'F'),
    ];
    for (signal, letter) in signals {
        server.signal(signal);
        assert_eq!(client.ask(&format!("SET {letter} 1")), "+OK", "after {signal:?}");
    }
    server.stop();
}

/// What was seen: half a million guesses a second. Now the reply to each failed guess from an address comes
/// later than the one before, even if each is on a connection of its own.
#[test]
fn a_client_that_guesses_passwords_is_slowed_down_and_reported_and_others_are_not_locked_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    fs::write(&file, "secret\n").expect("a file");
    let flags = ["-requirepass-file", file.to_str().expect("UTF-8")];
    let server = Server::start(dir.path(), &flags);
    let began = Instant::now();
    for guess in 0..7 {
        let mut guesser = Client::connect(&server);
        let reply = guesser.ask(&format!("AUTH {guess}"));
        assert!(reply.starts_with("-WRONGPASS"), "{reply}");
    }
    let took = began.elapsed();
    // 50, 100, 200 and 400 ms after three that are free.
    assert!(took >= Duration::from_millis(750), "7 guesses in {took:?}");
    let mut good = Client::connect(&server);
    assert_eq!(good.ask("AUTH secret").trim_end(), "+OK");
    assert_eq!(good.counter("acl_access_denied_auth"), 7);

    let warnings = |log: &str| {
        let lines = log.lines().filter(|line| line.contains("WARN") && line.contains("login"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("it is reported", || !warnings(&server.log()).is_empty());
    assert!(warnings(&server.log())[0].contains("127.0.0.1"), "{}", server.log());
    // A client that is killed during the pause does nothing more.
    let mut killed = Client::connect(&server);
    assert_eq!(killed.ask("AUTH secret").trim_end(), "+OK");
    let id = killed.ask("CLIENT ID").trim_end().trim_start_matches(':').to_owned();
    killed.send("AUTH guess\nSET killed 1\n");
    eventually("it waits", || {
        good.send(format!(
            "*4\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n$2\r\nID\r\n${}\r\n{id}\r\n",
            id.len()
        ));
        let head = good.line();
        let length: usize = head.trim_end().trim_start_matches('$').parse().expect("a length");
        let text = good.try_exact(length + 2).expect("a reply");
        String::from_utf8_lossy(&text).contains("cmd=auth")
    });
    assert_eq!(good.ask(&format!("CLIENT KILL ID {id}")).trim_end(), ":1");
    eventually("it has left", || good.counter("connected_clients") == 1);
    assert_eq!(good.ask("GET killed").trim_end(), "-GET could not find killed in store");
    // A stop does not wait for the rest of a pipeline of guesses.
    let mut guesser = Client::connect(&server);
    guesser.send("AUTH guess\n".repeat(1000));
    eventually("it has begun", || good.counter("acl_access_denied_auth") > 7);
    let (status, log) = server.terminate();
    assert!(status.success(), "{status}; log:\n{log}");
    assert!(warnings(&log).len() < 7, "{log}");
}

/// What was seen: with a stderr that is not read, the accepting thread waited to log each connection, and
/// accepted no more. Now a message that finds no room is dropped, and counted.
#[test]
fn an_unread_stderr_holds_up_neither_clients_nor_the_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    /// Kills the server even if the test fails.
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
        }
    }
    let mut command = common::command(dir.path(), &["-fsync", "no"]);
    let command = command.env("RUST_LOG", "debug").stderr(Stdio::piped());
    let mut server = Killed(command.spawn().expect("the program can be run"));
    let process = &mut server.0;
    let mut stderr = BufReader::new(process.stderr.take().expect("a pipe"));
    let address: SocketAddr = loop {
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        if let Some((_, address)) = line.trim().rsplit_once("listening on ") {
            break address.parse().expect("an address");
        }
    };
    // Each comes and goes with two lines: a pipe holds 64 KiB, and the server 256.
    for _ in 0..4000 {
        let mut socket = TcpStream::connect(address).expect("it is accepted");
        socket.set_read_timeout(Some(common::PATIENCE)).expect("a socket");
        socket.write_all(b"SET a 1\n").expect("it is read");
        let mut reply = [0; 4];
        socket.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"+OK\n");
    }
    // Once stderr is read, a message says how many were dropped.
    let count = loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).expect("a line") > 0, "it ended without a count");
        if let Some((before, _)) = line.split_once(" messages were dropped") {
            break before.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        }
    };
    assert!(count.is_some_and(|count| count > 0), "{count:?}");
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, Signal::TERM).expect("our own child");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert!(process.wait().expect("our own child").success());
    assert!(rest.trim_end().ends_with("stopped"), "the last message is not lost: {rest}");
}

/// A prepared segment has at most 64 MiB; a larger batch makes it grow, and a start after that fills it up.
#[test]
fn a_value_larger_than_any_prepared_segment_survives_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let value = "x".repeat(65 << 20);
    let mut server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    client.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${}\r\n{value}\r\n", value.len()));
    assert_eq!(client.line().trim_end(), "+OK");
    for _ in 0..3 {
        server.stop();
        server = Server::start(dir.path(), &[]);
    }
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("STRLEN key").trim_end(), format!(":{}", value.len()));
    server.stop();
}
