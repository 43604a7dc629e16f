//! The program's own client at each door: `ping` and `get` over TLS and by a Unix socket.

use std::fs;
use std::process::Command;

use super::certificates::{Authority, Dates};
use crate::common::{Client, PROGRAM, Server, command};
use crate::tools::Said;

fn run(args: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = Command::new(PROGRAM);
    Said::of(&command.args(args).envs(variables.iter().copied()).output().expect("it can be run"))
}

#[test]
fn it_speaks_tls_with_a_server_that_it_can_prove_and_with_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign(Dates::Now).put(dir.path());
    let own = tempfile::tempdir().expect("a directory");
    let [cert, key] = authority.sign(Dates::Now).put(own.path());
    let at = |name: &str| dir.path().join(name).to_str().expect("ASCII").to_owned();
    fs::write(at("ca"), &authority.pem).expect("a file");
    fs::write(at("other"), &other.pem).expect("a file");
    for asks_for_certificates in [false, true] {
        let (server_cert, server_key, ca) = (at("server.crt"), at("server.key"), at("ca"));
        let mut flags = vec!["-tls-port", "0", "-tls-cert", &server_cert, "-tls-key", &server_key];
        if asks_for_certificates {
            flags.extend(["-tls-ca", &ca]);
        }
        let server = Server::spawn(&mut command(dir.path(), &flags)).expect("it starts");
        assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
        let line = server.wait_for_log(" with TLS");
        let port = line.trim_end_matches(" with TLS").rsplit(':').next().expect("a port");
        let get = |more: &[&str]| {
            run(&[&["get", "a", "-timeout", "5", "-port", port], more].concat(), &[])
        };
        let certificate =
            ["-cert", cert.to_str().expect("ASCII"), "-key", key.to_str().expect("ASCII")];
        let mine = if asks_for_certificates { &certificate[..] } else { &[] };
        let said = get(&[&["-tls", "-cacert", &ca], mine].concat()).expect(0, &[]);
        assert_eq!(said.out, "1");
        get(&[&["-tls", "-cacert", &at("other")], mine].concat()).expect(2, &["certificate"]);
        get(&["-tls"]).expect(2, &["-cacert"]);
        get(&["-cacert", &ca]).expect(2, &["go with -tls"]);
        get(&[]).expect(2, &[]);
        if asks_for_certificates {
            get(&["-tls", "-cacert", &ca]).expect(2, &[]);
        } else {
            // As the server's own settings have it.
            let off = [("POST_GRES_RS_PORT", "off"), ("POST_GRES_RS_TLS_PORT", port)];
            let files =
                [("POST_GRES_RS_TLS_CERT", &*server_cert), ("POST_GRES_RS_TLS_KEY", &*server_key)];
            let said = run(&["get", "a", "-cacert", &ca], &[off, files].concat()).expect(0, &[]);
            assert_eq!(said.out, "1");
        }
        server.stop();
    }
}

#[test]
fn it_goes_by_a_unix_socket_where_it_is_told_and_where_the_server_has_no_port() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("socket");
    let socket = socket.to_str().expect("ASCII");
    let server = Server::start(dir.path(), &["-unixsocket", socket]);
    run(&["ping", "-socket", socket], &[]).expect(0, &["PONG"]);
    let settings = [("POST_GRES_RS_PORT", "off"), ("POST_GRES_RS_UNIXSOCKET", socket)];
    run(&["ping"], &settings).expect(0, &["PONG"]);
    server.stop();
    run(&["ping"], &settings).expect(1, &[socket, "cannot connect"]);
}
