//! What messages on stderr look like: text, JSON, for systemd's journal; and those about slow commands.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use crate::common::{Client, PROGRAM, Server, eventually};

/// What a server that must not start has said into a file that is, or is not, announced as the journal.
fn said(flags: &[&str], is_journal: bool) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("stderr");
    let file = File::create(&path).expect("a file");
    let data = file.metadata().expect("a file");
    let inode = if is_journal { data.ino() } else { data.ino() + 1 };
    let mut command = Command::new(PROGRAM);
    command.args(["-persist=false", "-bind", "0.0.0.0"]).args(flags).env_remove("RUST_LOG");
    command.env("JOURNAL_STREAM", format!("{}:{inode}", data.dev()));
    let status = command.stdin(Stdio::null()).stderr(file).status().expect("it can be run");
    assert_eq!(status.code(), Some(1));
    fs::read_to_string(path).expect("text")
}

#[test]
fn a_message_for_the_journal_has_a_priority_and_no_time_and_any_other_has_a_time() {
    let text = said(&[], true);
    assert!(text.starts_with("<6>[INFO  post_gres_rs] post-gres-rs "), "{text}");
    assert!(text.lines().any(|line| line.starts_with("<4>[WARN  ")), "{text}");
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("<3>[ERROR ") && last.contains("protected-mode"), "{text}");
    let text = said(&[], false);
    let begins = if cfg!(feature = "times") { "[20" } else { "[INFO" };
    assert!(
        text.lines().all(|line| line.starts_with(begins)
            || line.contains("WARN")
            || line.contains("ERROR")),
        "{text}"
    );
    assert!(!text.contains("<6>"), "{text}");
}

#[cfg(feature = "tools")]
#[test]
fn a_message_in_json_is_an_object_in_a_line() {
    use crate::tools::json;

    let text = said(&["-log-format", "json"], false);
    for line in text.lines() {
        json::assert_valid(line);
        for part in
            ["\"time\":\"20", "\"level\":\"", "\"module\":\"post_gres_rs", "\"thread\":\"main\""]
        {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
    assert!(text.contains("\"level\":\"ERROR\"") && text.lines().count() >= 3, "{text}");
    let text = said(&["-log-format", "json"], true);
    assert!(text.starts_with("<6>{\"time\":\""), "{text}");
}

#[test]
fn a_slow_command_is_told_with_its_client_and_key_or_redacted_and_never_with_a_value() {
    let dir = tempfile::tempdir().expect("a directory");
    for (what, key) in [("yes", true), ("redacted", false), ("no", false)] {
        let flags =
            ["-slowlog-log-slower-than", "0", "-slowlog-messages", what, "-slowlog-max-len", "0"];
        let server = Server::start(dir.path(), &flags);
        let mut client = Client::connect(&server);
        assert_eq!(client.ask("SET visible hidden"), "+OK");
        assert_eq!(client.ask("CLIENT SETNAME worker").trim_end(), "+OK");
        assert_eq!(client.ask("GET visible"), "+OK hidden");
        assert_eq!(client.ask("SLOWLOG LEN").trim_end(), ":0");
        assert_eq!(client.ask("ECHO hidden").trim_end(), "$6");
        assert_eq!(client.line().trim_end(), "hidden");
        assert_eq!(client.ask("BITOP AND visible2 visible").trim_end(), ":6");
        let get = if key { "slow command: GET visible took " } else { "slow command: GET took " };
        if what != "no" {
            let address = client.stream().local_addr().expect("a socket").to_string();
            let line = server.wait_for_log(get);
            assert!(line.contains(" ms; client ") && line.contains(&address), "{line}");
            assert!(line.contains("(worker)") && line.contains("user default"), "{line}");
            server.wait_for_log(if key { "SET visible took" } else { "SET took" });
            server.wait_for_log("ECHO took ");
            server.wait_for_log(if key { "BITOP visible2 took " } else { "BITOP took " });
        }
        let (_, log) = server.terminate();
        assert!(!log.contains("hidden"), "a value was told: {log}");
        assert_eq!(log.contains("visible"), key, "{what}: {log}");
        assert_eq!(log.contains("slow command"), what != "no", "{what}: {log}");
    }
}

#[test]
fn a_flood_of_slow_commands_is_no_flood_of_messages() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["-slowlog-log-slower-than", "0", "-slowlog-messages", "yes"];
    let server = Server::start(dir.path(), &flags);
    let mut client = Client::connect(&server);
    let began = std::time::Instant::now();
    assert_eq!(client.ask("SET key value"), "+OK");
    for _ in 0..2000 {
        assert_eq!(client.ask("GET key"), "+OK value");
    }
    eventually("the others are counted", || {
        client.ask("GET key");
        server.log().contains("more since the last message")
    });
    let told = server.log().matches("slow command").count() as u64;
    assert!(told <= 10 * (began.elapsed().as_secs() + 2), "{told} messages");
    server.stop();
}
