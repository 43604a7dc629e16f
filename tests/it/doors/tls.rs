//! Clients over TLS: the same bytes in and out, no client that others wait for, and nobody in who should not be.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::certificates::{Authority, Dates, Signed};
use super::tunnel::{Tunnel, Way};
use crate::common::wire::request;
use crate::common::{Client, PATIENCE, PROGRAM, Server, command, eventually, in_some_try};
use crate::scripts::{Dialect, run_all_over};

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A server with a port for TLS, and the authority of its certificate.
struct Secure {
    dir: tempfile::TempDir,
    server: Server,
    authority: Authority,
    address: SocketAddr,
}

impl Secure {
    fn start(flags: &[&str]) -> Secure {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        authority.sign(Dates::Now).put(dir.path());
        let server = start(dir.path(), flags);
        let address = tls_address(&server);
        Secure { dir, server, authority, address }
    }

    fn connect(&self) -> Encrypted {
        connect(self.address, self.authority.client(None))
    }
}

fn start(dir: &Path, flags: &[&str]) -> Server {
    Server::spawn(with_tls(&mut command(dir, flags), dir)).expect("it starts")
}

/// A server without a log and without another port than that of TLS.
fn alone(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    with_tls(command.args(["-persist=false", "-port", "off"]), dir);
    command
}

fn with_tls<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    let [certificate, key] = ["server.crt", "server.key"].map(|name| dir.join(name));
    command.args(["-tls-port", "0", "-tls-cert"]).arg(certificate).arg("-tls-key").arg(key)
}

fn tls_address(server: &Server) -> SocketAddr {
    let line = server.wait_for_log(" with TLS");
    let (_, address) = line.rsplit_once("listening on ").expect("where");
    address.trim_end().trim_end_matches(" with TLS").parse().expect("an address")
}

fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Encrypted {
    let socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.set_nodelay(true).expect("a socket");
    let connection = ClientConnection::new(config, address.ip().into()).expect("a name");
    StreamOwned::new(connection, socket)
}

fn line(client: &mut Encrypted) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("it answers");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

fn ask(client: &mut Encrypted, words: &str) -> String {
    client.write_all(format!("{words}\r\n").as_bytes()).expect("it is taken");
    line(client)
}

/// The reply to a line, or the error that the handshake or the first read ends with.
fn try_ask(address: SocketAddr, config: Arc<ClientConfig>) -> Result<String, std::io::Error> {
    let mut client = connect(address, config);
    client.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    client.read_exact(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[test]
fn scripts_go_as_written_over_tls() {
    let authority = Authority::new();
    run_all_over(Dialect::Resp3, &["8"], "", |dir, flags| {
        authority.sign(Dates::Now).put(dir);
        let server = start(dir, flags);
        let way = Way::Tls(tls_address(&server), authority.client(None));
        (server, Some(Tunnel::to(way)))
    });
}

#[test]
fn both_versions_are_spoken_and_the_port_is_shown() {
    let secure = Secure::start(&["-bind", "127.0.0.1,127.0.0.2"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = secure.authority.client_of(None, &[version]);
        assert_eq!(try_ask(secure.address, config).expect("it is let in"), "+PONG\r\n");
    }
    let mut client = Client::connect(&secure.server);
    let port = secure.address.port();
    let info = client.info();
    let shown = format!("listener1:name=tls,bind=127.0.0.1,bind=127.0.0.2,port={port}\r\n");
    assert!(info.contains(&shown), "{info}");
    let key = secure.dir.path().join("server.key").display().to_string();
    for (name, value) in [
        ("tls-port", port.to_string()),
        ("tls-auth-clients", "no".to_owned()),
        ("tls-key-file", key),
    ] {
        client.send(format!("CONFIG GET {name}\r\n"));
        let lines: Vec<String> = (0..5).map(|_| client.line()).collect();
        assert_eq!(lines[4].trim_end(), value, "{lines:?}");
    }
}

/// A ClientHello in these two bytes of a version, with one cipher suite and no extensions.
fn hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2]);
    body.extend(suite);
    body.extend([1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn what_is_weak_or_no_tls_gets_an_alert_and_an_end_and_the_operator_is_told_once() {
    let secure = Secure::start(&[]);
    let weak = [
        // TLS 1.1 and SSL 3 with a suite of today; TLS 1.2 with RSA key exchange, with RC4, with CBC.
        hello([3, 2], [0xc0, 0x2b]),
        hello([3, 0], [0xc0, 0x2b]),
        hello([3, 3], [0x00, 0x2f]),
        hello([3, 3], [0x00, 0x05]),
        hello([3, 3], [0xc0, 0x13]),
    ];
    let nonsense = [
        b"PING\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 20_000],
    ];
    for sent in weak.iter().chain(&nonsense) {
        let mut socket = TcpStream::connect(secure.address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.write_all(sent).expect("it is taken");
        let mut answer = Vec::new();
        // What was sent and not read makes the end a reset, which may overtake the alert.
        let end = socket.read_to_end(&mut answer);
        assert!(end.is_ok() || sent.len() > 2048, "{end:?}");
        let shown = &sent[..sent.len().min(12)];
        match answer[..] {
            // A fatal alert: protocol_version, handshake_failure, decode_error and the like (RFC 8446, 6).
            [21, 3, _, 0, 2, 2, 10 | 40 | 47 | 50 | 70] => {}
            [] if sent.len() > 2048 => {}
            _ => panic!("{shown:?}: {answer:?}"),
        }
    }
    let told = secure.server.log();
    assert_eq!(told.matches(": closed, ").count(), 1, "once in a while: {told}");
    let mut client = secure.connect();
    assert_eq!(ask(&mut client, "PING"), "+PONG\r\n");
    secure.server.stop();
}

#[test]
fn tls_at_the_plain_port_is_closed_and_told() {
    let secure = Secure::start(&[]);
    let error = try_ask(secure.server.address(), secure.authority.client(None));
    error.expect_err("it is not TLS");
    secure.server.wait_for_log("closed, it speaks TLS, and this port does not");
}

#[test]
fn a_pipeline_of_a_megabyte_is_answered_in_order_also_after_the_client_has_closed_its_side() {
    let secure = Secure::start(&[]);
    let mut client = secure.connect();
    let rounds = 10_000;
    let value = "v".repeat(100);
    let pipeline: String = (0..rounds)
        .map(|n| format!("SET k{} {value}{n}\r\nGET k{}\r\n", n % 100, n % 100))
        .collect();
    assert!(pipeline.len() > 1 << 20);
    client.write_all(pipeline.as_bytes()).expect("it is taken");
    for n in 0..rounds {
        assert_eq!(line(&mut client), "+OK\r\n");
        assert_eq!(line(&mut client), format!("+OK {value}{n}\r\n"));
    }
    // And the end of the client's side after a pipeline loses nothing.
    client.write_all(&pipeline.as_bytes()[..pipeline.len() / 2]).expect("it is taken");
    client.conn.send_close_notify();
    client.flush().expect("it is taken");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("a farewell, not a mere end");
    assert!(rest.lines().count() > rounds - 100, "{}", rest.lines().count());
}

/// Several records, each shorter than what the server reads at once. On a busy machine the last may come late.
#[test]
fn a_pipeline_that_has_arrived_is_read_as_a_whole_and_pays_one_sync() {
    let secure = Secure::start(&[]);
    in_some_try(|| {
        let (mut client, mut control) = (secure.connect(), Client::connect(&secure.server));
        assert_eq!(control.ask("CLIENT PAUSE 600000 WRITE").trim_end(), "+OK");
        client.write_all(b"SET waits 1\r\n").expect("it is taken");
        eventually("it waits", || control.counter("blocked_clients") == 1);
        let pipeline = format!("SET k {}\r\n", "v".repeat(100)).repeat(500);
        client.write_all(pipeline.as_bytes()).expect("it is taken");
        let before = control.counter("wal_batches");
        assert_eq!(control.ask("CLIENT UNPAUSE").trim_end(), "+OK");
        (0..501).for_each(|_| assert_eq!(line(&mut client), "+OK\r\n"));
        match control.counter("wal_batches") - before {
            // One for what waited, one for the rest.
            ..=2 => Ok(()),
            paid => Err(format!("{paid} syncs")),
        }
    });
}

#[test]
fn nobody_waits_for_a_client_that_does_not_read_over_tls() {
    let secure = Secure::start(&[]);
    let (mut slow, mut other) = (secure.connect(), secure.connect());
    let value = "0123456789abcdef".repeat(1 << 16);
    slow.write_all(&request(["SET", "large", &value])).expect("it is taken");
    assert_eq!(line(&mut slow), "+OK\r\n");
    // By its own thread: 64 replies of a megabyte.
    let asked = 64;
    slow.write_all(&request(["GET", "large"]).repeat(asked)).expect("it is taken");
    // By the committer, because another client writes too: each write is answered with the value before it.
    let mut stuck = secure.connect();
    // As long as it is read from; in vain for this long means that it no longer is.
    stuck.sock.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    let writes = request(["SET", "stuck", &value, "GET"]);
    let (began, mut n) = (Instant::now(), 0);
    let mut increment = || {
        n += 1;
        assert_eq!(ask(&mut other, "INCR n"), format!(":{n}\r\n"));
    };
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| (0..24).all(|_| stuck.write_all(&writes).is_ok()));
        while !sends.is_finished() {
            increment();
        }
    });
    (0..200).for_each(|_| increment());
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    // Then it reads, slowly at first, and misses nothing.
    let expected = format!("${}\r\n{value}\r\n", value.len());
    let mut reply = vec![0; expected.len()];
    for byte in &mut reply[..1000] {
        slow.read_exact(std::slice::from_mut(byte)).expect("a byte");
    }
    slow.read_exact(&mut reply[1000..]).expect("a reply");
    assert!(reply == expected.as_bytes());
    for _ in 1..asked {
        slow.read_exact(&mut reply).expect("a reply");
        assert!(reply == expected.as_bytes());
    }
    assert_eq!(ask(&mut slow, "PING"), "+PONG\r\n");
    drop(stuck);
    secure.server.stop();
}

#[test]
fn messages_come_over_tls_and_a_subscriber_that_does_not_read_is_closed() {
    let secure = Secure::start(&[]);
    let (mut reads, mut sleeps) = (secure.connect(), secure.connect());
    for client in [&mut reads, &mut sleeps] {
        client.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n").expect("it is taken");
        let mut told = [0; b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".len()];
        client.read_exact(&mut told).expect("it is confirmed");
    }
    let text = "x".repeat(1 << 20);
    let mut publisher = secure.connect();
    let message = format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{text}\r\n", text.len());
    let mut received = vec![0; message.len()];
    let mut heard = Vec::new();
    for _ in 0..48 {
        publisher.write_all(&request(["PUBLISH", "c", &text])).expect("it is taken");
        heard.push(line(&mut publisher));
        reads.read_exact(&mut received).expect("a message");
        assert!(received == message.as_bytes());
    }
    assert_eq!(heard[0], ":2\r\n");
    assert_eq!(heard[47], ":1\r\n", "over 32 MB are unread");
    secure.server.wait_for_log("bytes of messages unread");
}

#[test]
fn a_stop_is_a_farewell_and_a_kill_is_an_end() {
    let secure = Secure::start(&[]);
    let (mut stays, mut killed) = (secure.connect(), secure.connect());
    assert_eq!(ask(&mut stays, "SET a 1"), "+OK\r\n");
    let id = ask(&mut killed, "CLIENT ID");
    let id = id.trim_start_matches(':').trim_end();
    assert_eq!(ask(&mut stays, &format!("CLIENT KILL ID {id}")), ":1\r\n");
    let mut rest = Vec::new();
    let end = killed.read_to_end(&mut rest).expect_err("no farewell");
    assert!([ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&end.kind()), "{end}");
    // A client that says goodbye itself.
    let mut quits = secure.connect();
    assert_eq!(ask(&mut quits, "QUIT"), "+OK\r\n");
    assert_eq!(quits.read_to_end(&mut rest).expect("a farewell"), 0);
    let Secure { server, .. } = secure;
    stays.write_all(b"SET b 2\r\nGET b\r\n").expect("it is taken");
    server.signal(Signal::TERM);
    stays.read_to_end(&mut rest).expect("a farewell");
    assert!(b"+OK\r\n+OK 2\r\n".starts_with(&rest), "{rest:?}");
    server.stop();
}

#[test]
fn half_a_handshake_holds_up_nobody_and_is_ended_in_time() {
    let secure = Secure::start(&[]);
    let began = Instant::now();
    let silent = TcpStream::connect(secure.address).expect("it listens");
    let mut slow = TcpStream::connect(secure.address).expect("it listens");
    let hello = hello([3, 3], [0xc0, 0x2b]);
    slow.write_all(&hello[..20]).expect("it is taken");
    let mut client = secure.connect();
    assert_eq!(ask(&mut client, "SET a 1"), "+OK\r\n");
    assert!(ask(&mut client, "INFO clients").starts_with('$'));
    while !line(&mut client).starts_with("connected_clients:3") {}
    // A byte now and then does not help.
    slow.write_all(&hello[20..21]).expect("it is taken");
    for mut socket in [silent, slow] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // It may be told why by an alert.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let took = began.elapsed().as_secs_f64();
    assert!((9.0..30.0).contains(&took), "{took} s");
    eventually("they are gone", || {
        Client::connect(&secure.server).counter("connected_clients") == 2
    });
    secure.server.wait_for_log("its handshake took longer than 10 s");
    // One that is done is not ended.
    while !line(&mut client).starts_with("\r\n") {}
    assert_eq!(ask(&mut client, "PING"), "+PONG\r\n");
}

#[test]
fn a_client_without_the_right_certificate_is_never_let_in() {
    let authority = Authority::new();
    let (clients, others) = (Authority::new(), Authority::new());
    let [right, wrong] = [&clients, &others].map(|all| all.sign(Dates::Now));
    let late = clients.sign(Dates::Past);
    for (asked, lets_in) in [
        (None, [true, false, false, false]),
        (Some("yes"), [true, false, false, false]),
        (Some("optional"), [true, false, false, true]),
        (Some("no"), [true, true, true, true]),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        authority.sign(Dates::Now).put(dir.path());
        let ca = dir.path().join("clients.crt");
        fs::write(&ca, &clients.pem).expect("a file");
        let mut flags = vec!["-tls-ca", ca.to_str().expect("ASCII")];
        asked.iter().for_each(|asked| flags.extend(["-tls-auth-clients", asked]));
        let server = start(dir.path(), &flags);
        for (own, is_in) in [Some(&right), Some(&wrong), Some(&late), None].into_iter().zip(lets_in)
        {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let answer = try_ask(tls_address(&server), authority.client_of(own, &[version]));
                assert_eq!(answer.is_ok(), is_in, "{asked:?} {answer:?}");
            }
        }
        let told = server.log().contains("closed, TLS: ");
        assert_eq!(told, asked != Some("no"), "{}", server.log());
        server.stop();
    }
}

#[test]
fn strangers_may_not_come_in_by_tls_without_a_password_or_a_certificate() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    authority.sign(Dates::Now).put(dir.path());
    let ca = dir.path().join("clients.crt");
    fs::write(&ca, &authority.pem).expect("a file");
    let refusal = Server::spawn(alone(dir.path()).args(["-bind", "0.0.0.0"]));
    let refusal = refusal.err().expect("anyone could");
    assert!(refusal.stderr.contains("anyone who reaches this address"), "{}", refusal.stderr);
    let mut command = alone(dir.path());
    let server = Server::spawn(command.args(["-bind", "0.0.0.0", "-tls-ca"]).arg(&ca));
    server.expect("only those with a certificate come in").stop();
}

#[test]
fn certificates_are_read_anew_at_a_signal_and_open_connections_go_on() {
    let Secure { dir, server, authority, address } = Secure::start(&[]);
    let mut before = connect(address, authority.client(None));
    assert_eq!(ask(&mut before, "SET a 1"), "+OK\r\n");
    let another = Authority::new();
    another.sign(Dates::Now).put(dir.path());
    server.signal(Signal::HUP);
    server.wait_for_log("read anew: TLS with its certificates");
    try_ask(address, authority.client(None)).expect_err("it is another's now");
    assert_eq!(try_ask(address, another.client(None)).expect("it trusts it"), "+PONG\r\n");
    assert_eq!(ask(&mut before, "GET a"), "+OK 1\r\n");
    // What cannot be used changes nothing.
    for broken in ["", "-----BEGIN CERTIFICATE-----\n!"] {
        fs::write(dir.path().join("server.crt"), broken).expect("a file");
        server.signal(Signal::HUP);
        server.wait_for_log("TLS with its certificates stays as it was: -tls-cert ");
        assert_eq!(try_ask(address, another.client(None)).expect("as before"), "+PONG\r\n");
    }
    assert_eq!(ask(&mut before, "GET a"), "+OK 1\r\n");
    server.stop();
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let good = authority.sign(Dates::Now);
    let Signed { key: other_key, .. } = authority.sign(Dates::Now);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let certificate = &good.certificate;
    let cut = &certificate[..certificate.len() / 2];
    for (certificate, key, said) in [
        ("", &*good.key, "server.crt: there is no certificate in it"),
        (&*good.key, &good.key, "server.crt: there is no certificate in it"),
        (cut, &good.key, "server.crt: "),
        (certificate, "", "server.key: there is no private key in it"),
        (certificate, certificate, "server.key: there is no private key in it"),
        (certificate, encrypted, "server.key: the key is encrypted"),
        (certificate, &other_key, "server.key: this key does not belong to the certificate in "),
    ] {
        good.put(dir.path());
        fs::write(dir.path().join("server.crt"), certificate).expect("a file");
        fs::write(dir.path().join("server.key"), key).expect("a file");
        let refusal = Server::spawn(with_tls(&mut command(dir.path(), &[]), dir.path()));
        let refusal = refusal.err().expect("it is refused");
        assert_eq!(refusal.code, Some(1), "{}", refusal.stderr);
        assert!(refusal.stderr.contains(said), "{said}: {}", refusal.stderr);
    }
    fs::remove_file(dir.path().join("server.crt")).expect("the file");
    let refusal = Server::spawn(with_tls(&mut command(dir.path(), &[]), dir.path()));
    assert!(refusal.err().expect("refused").stderr.contains("server.crt: No such file"));
    good.put(dir.path());
    let refusal = Server::spawn(with_tls(
        &mut command(dir.path(), &["-tls-auth-clients", "yes"]),
        dir.path(),
    ));
    assert!(refusal.err().expect("by whom?").stderr.contains("-tls-ca has to say"));
}

#[test]
fn what_works_and_is_a_mistake_all_the_same_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new();
    for (dates, mode, said) in [
        (Dates::Past, 0o600, "WARN  post_gres_rs::tls::files] -tls-cert "),
        (Dates::Past, 0o600, "the certificate has expired"),
        (Dates::Soon, 0o640, "the certificate expires within 30 days"),
        (Dates::Now, 0o644, "every user of this machine can read this key"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let [_, key] = authority.sign(dates).put(dir.path());
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).expect("our file");
        let server = start(dir.path(), &[]);
        assert!(server.log().contains(said), "{said}: {}", server.log());
        let warnings = server.log().lines().filter(|line| line.contains("-tls-")).count();
        assert_eq!(warnings, 1 + server.log().matches("settings by").count(), "{}", server.log());
    }
}
