//! Where clients come in: several addresses, a Unix socket, TLS. What they ask and are answered is the same by each door.

#[cfg(feature = "tls")]
mod certificates;
#[cfg(all(feature = "tls", feature = "http"))]
mod churn;
#[cfg(all(feature = "tls", feature = "tools"))]
mod small_client;
#[cfg(feature = "tls")]
mod tls;
pub mod tunnel;
mod unix;

use std::net::{IpAddr, SocketAddr};

use crate::common::{Client, Server, run_to_exit};

fn at(address: SocketAddr) -> Client {
    Client::of(std::net::TcpStream::connect(address).expect("it listens there"))
}

#[test]
fn each_address_is_listened_on_at_one_port_and_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["-bind", "127.0.0.1,127.0.0.2", "-bind", "127.0.0.3"];
    let server = Server::start(dir.path(), &flags);
    let port = server.address().port();
    for host in 1..=3 {
        let address = SocketAddr::from(([127, 0, 0, host], port));
        assert_eq!(at(address).ask("SET a 1"), "+OK");
        server.wait_for_log(&format!("listening on {address}"));
    }
    let mut client = Client::connect(&server);
    let shown =
        format!("listener0:name=tcp,bind=127.0.0.1,bind=127.0.0.2,bind=127.0.0.3,port={port}\r\n");
    let info = client.info();
    assert!(info.contains(&shown), "{info}");
    for (name, value) in [("bind", "127.0.0.1 127.0.0.2 127.0.0.3"), ("port", &port.to_string())] {
        client.send(format!("CONFIG GET {name}\n"));
        let lines: Vec<String> = (0..5).map(|_| client.line()).collect();
        assert_eq!(lines[4].trim_end(), value, "{lines:?}");
    }
    server.stop();
}

#[test]
fn an_address_of_ipv6_may_be_in_brackets_and_beside_one_of_ipv4() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-bind", "127.0.0.1,[::1]"]);
    let mut address = server.address();
    assert_eq!(at(address).ask("SET a 1"), "+OK");
    address.set_ip("::1".parse().expect("an address"));
    let mut client = at(address);
    assert_eq!(client.ask("GET a"), "+OK 1");
    assert!(client.ask("CLIENT INFO").starts_with('$'));
    let (shown, local) = (client.line(), format!(" laddr=[::1]:{} ", address.port()));
    assert!(shown.contains(&local), "{shown}");
    // Beside an address of IPv4, `::` leaves that port to it; alone it takes both.
    for bind in ["0.0.0.0,::", "::"] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &["-bind", bind, "-protected-mode", "no"]);
        for host in ["127.0.0.1", "::1"] {
            let host: IpAddr = host.parse().expect("an address");
            let mut client = at(SocketAddr::new(host, server.address().port()));
            assert_eq!(client.ask("PING").trim_end(), "+PONG", "{bind} {host}");
        }
    }
}

#[test]
fn a_door_that_cannot_be_had_is_named() {
    let holder = std::net::TcpListener::bind("127.0.0.2:0").expect("a free port");
    let port = holder.local_addr().expect("bound").port().to_string();
    for (flags, said) in [
        (
            vec!["-port", &port, "-bind", "127.0.0.1,127.0.0.2"],
            format!("cannot listen on 127.0.0.2:{port}: "),
        ),
        (
            vec!["-port", "0", "-bind", "no.such.host.invalid"],
            "-bind no.such.host.invalid: not found: ".into(),
        ),
        (vec!["-port", "off"], "-port off: there is no other door".into()),
        (
            vec!["-port", "0", "-bind", "127.0.0.1,0.0.0.0"],
            "-bind 0.0.0.0: anyone who reaches".into(),
        ),
        (
            vec!["-port", "0", "-bind", "0.0.0.0,127.0.0.1", "-protected-mode", "no"],
            "-bind 127.0.0.1: another address at -bind takes all, and this one too".into(),
        ),
    ] {
        let refusal = run_to_exit(&[&["-persist=false"], &flags[..]].concat());
        assert_eq!(refusal.code, Some(1), "{}", refusal.stderr);
        assert!(refusal.stderr.contains(&said), "{flags:?}: {}", refusal.stderr);
    }
}
