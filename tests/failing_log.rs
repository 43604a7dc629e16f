//! A log that cannot be written any more: writes are refused with the reason and leave no trace,
//! reads go on, and what was acknowledged before is there after a restart.
//!
//! The failure is real: the size that a file of the server may have is limited while it runs. (The
//! other failures need a disk that obeys; see `failing_disk.rs`.)

mod common;

use std::process::Command;

use rustix::process::{Resource, Rlimit, prlimit};

use common::{Client, Server, command};

#[test]
fn after_a_failed_write_all_writes_are_refused_and_reads_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    // A process that does not ignore SIGXFSZ ends by it where the limit is met.
    let plain = command(dir.path(), &[]);
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(plain.get_program());
    let server = Server::spawn(ignoring.args(plain.get_args())).expect("the server starts");
    let limit_file_size = |current| {
        let limit = Rlimit { current, maximum: None };
        prlimit(Some(server.pid()), Resource::Fsize, limit).expect("our own child");
    };
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&server)).collect();
    assert_eq!(clients[0].ask("SET a 1"), "+OK");
    assert_eq!(clients[0].ask("SET b 1"), "+OK");

    limit_file_size(Some(0));
    for client in &mut clients {
        client.send("SET a 2\nGET a\nDEL b\nSET c 3\nGET c\nDEL never-was\n");
    }
    let mut refusals = Vec::new();
    for client in &mut clients {
        refusals.push(client.line());
        assert_eq!(client.line(), "+OK 1");
        refusals.extend([client.line(), client.line()]);
        assert_eq!(client.line(), "-GET could not find c in store");
        refusals.push(client.line());
        assert_eq!(client.ask("GET b"), "+OK 1");
    }
    let refusal = refusals[0].clone();
    assert!(refusal.starts_with("-ERR ") && refusal.contains("File too large"), "{refusal}");
    assert!(refusals.iter().all(|other| *other == refusal), "{refusals:?}");
    let line = server.wait_for_log("File too large");
    assert!(line.contains("ERROR") && line.contains("wal_file"), "{line}");

    // It is never tried again: nobody knows what of the failed write is on disk.
    limit_file_size(None);
    assert_eq!(clients[0].ask("SET a 4"), refusal);
    assert_eq!(Client::connect(&server).ask("SET d 5"), refusal);
    assert_eq!(clients[0].ask("GET a"), "+OK 1");
    assert!(clients[0].info().contains("File too large"), "INFO tells why");
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(1), "a log that could not be closed is no ordered stop");

    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("GET a"), "+OK 1");
    assert_eq!(client.ask("GET b"), "+OK 1");
    assert_eq!(client.ask("GET c"), "-GET could not find c in store");
    assert_eq!(client.ask("SET a 5"), "+OK");
}
