//! Users in a file: what each may do, who is shown, and passwords that change while the server runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::common::wire::{Value, ask, say};
use crate::common::{Client, Server, eventually};

// The SHA-256 of each name with `-secret` after it.
const SHOP: &str = "shop all 3c655a3878fd8e4145a5facca30188ce74792ddff5d57aaf2203bbe74a940cb5";
const REPORTS: &str =
    "reports read-only cba98f988f2e420084bcd5700ca8ebdc8c2a17d47b9ede26e35dd9e0fb25b0c5";
const NEW_SHOP: &str = "shop all fc97bb52861fcf328d0a7abe201f9632b8703e436656348f6d1b398f42e92c39"; // of new-secret

const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";

fn write(path: &Path, lines: &[&str]) {
    fs::write(path, lines.join("\n")).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}

fn start(dir: &Path, flags: &[&str]) -> (Server, PathBuf) {
    let users = dir.join("users");
    write(&users, &["# who may log in", SHOP, REPORTS]);
    let path = users.to_str().expect("UTF-8").to_owned();
    (Server::start(dir, &[&["-users-file", &path], flags].concat()), users)
}

fn logged_in(server: &Server, user: &str, password: &str) -> Client {
    let mut client = Client::connect(server);
    assert_eq!(say(&mut client, &format!("AUTH {user} {password}")), Value::ok());
    client
}

fn denied(user: &str, command: &str) -> Value {
    Value::error(&format!("NOPERM User {user} has no permissions to run the '{command}' command"))
}

#[test]
fn a_reader_reads_and_listens_and_neither_changes_nor_publishes_nor_administers_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, _) = start(dir.path(), &[]);
    let mut shop = logged_in(&server, "shop", "shop-secret");
    assert_eq!(say(&mut shop, "SET k v"), Value::ok());
    let mut reports = logged_in(&server, "reports", "reports-secret");
    for (request, reply) in [
        ("GET k", Value::bulk("v")),
        ("ACL WHOAMI", Value::bulk("reports")),
        ("SELECT 1", Value::ok()),
        ("SELECT 0", Value::ok()),
        ("EXISTS k", Value::Integer(1)),
        ("SET k w", denied("reports", "set")),
        ("GETDEL k", denied("reports", "getdel")),
        ("GETEX k PERSIST", denied("reports", "getex")),
        ("BITFIELD k GET u8 0", denied("reports", "bitfield")),
        ("COPY k l", denied("reports", "copy")),
        ("PUBLISH c m", denied("reports", "publish")),
        ("FLUSHALL", denied("reports", "flushall")),
        ("CONFIG SET timeout 1", denied("reports", "config|set")),
        ("CONFIG GET timeout", denied("reports", "config|get")),
        ("CLIENT KILL ID 1", denied("reports", "client|kill")),
        ("CLIENT LIST", denied("reports", "client|list")),
        ("ACL LIST", denied("reports", "acl|list")),
        ("ACL LOAD", denied("reports", "acl|load")),
        ("MONITOR", denied("reports", "monitor")),
        ("SHUTDOWN NOSAVE", denied("reports", "shutdown")),
        ("SAVE", denied("reports", "save")),
        ("MULTI", Value::ok()),
        ("GET k", Value::Simple("QUEUED".into())),
        ("SET k w", denied("reports", "set")),
        ("EXEC", Value::error("EXECABORT Transaction discarded because of previous errors.")),
        ("WATCH k", Value::ok()),
        ("MULTI", Value::ok()),
        ("GET k", Value::Simple("QUEUED".into())),
        ("EXEC", Value::Array(vec![Value::bulk("v")])),
        ("RESET", Value::Simple("RESET".into())),
        ("GET k", Value::error("NOAUTH Authentication required.")),
    ] {
        assert_eq!(say(&mut reports, request), reply, "{request}");
    }
    // A line of text is no way around it.
    assert_eq!(reports.ask("AUTH reports reports-secret").trim_end(), "+OK");
    assert_eq!(
        reports.ask("SET k w").trim_end(),
        "-NOPERM User reports has no permissions to run the 'set' command"
    );
    if cfg!(feature = "scripts") {
        let lines: [(&[&str], Value); 3] = [
            (&["EVAL", "return 1", "0"], denied("reports", "eval")),
            (&["EVAL_RO", "return redis.call('get', KEYS[1])", "1", "k"], Value::bulk("v")),
            (&["SCRIPT", "LOAD", "return 1"], denied("reports", "script|load")),
        ];
        for (words, reply) in lines {
            assert_eq!(ask(&mut reports, words), reply, "{words:?}");
        }
        for call in ["'set','k','w'", "'publish','c','m'", "'del','k'"] {
            let script = format!("return redis.call({call})");
            let reply = ask(&mut reports, ["EVAL_RO", &script, "1", "k"]);
            assert!(matches!(reply, Value::Error(_)), "{script}: {reply:?}");
        }
    }
    // Listening is reading.
    let heard = say(&mut reports, "SUBSCRIBE c");
    assert!(matches!(heard, Value::Array(ref items) if items.len() == 3), "{heard:?}");
    assert_eq!(say(&mut shop, "PUBLISH c m"), Value::Integer(1));
    assert_eq!(say(&mut shop, "GET k"), Value::bulk("v"), "nothing was changed");
    assert!(shop.counter("acl_access_denied_cmd") > 15);
    let Value::Array(log) = say(&mut shop, "ACL LOG 100") else { panic!("a list") };
    let shown = format!("{log:?}");
    for part in [
        r#""reason" "command""#,
        r#""object" "set""#,
        r#""context" "multi""#,
        r#""username" "reports""#,
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    server.stop();
}

#[test]
fn users_are_shown_as_they_are_and_without_their_passwords() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, _) = start(dir.path(), &[]);
    let mut shop = logged_in(&server, "shop", "shop-secret");
    let rules = "-@all +@read +@connection +@transaction +@pubsub -publish -spublish +eval_ro +evalsha_ro +info \
                 +time +acl|whoami -@admin";
    let texts = |texts: &[&str]| Value::Array(texts.iter().map(Value::bulk).collect());
    for (request, reply) in [
        ("ACL USERS", texts(&["default", "reports", "shop"])),
        ("ACL WHOAMI", Value::bulk("shop")),
        (
            "ACL LIST",
            texts(&[
                "user default off sanitize-payload ~* &* +@all",
                &format!("user reports on sanitize-payload %R~* &* {rules}"),
                "user shop on sanitize-payload ~* &* +@all",
            ]),
        ),
        ("ACL DRYRUN reports GET k", Value::ok()),
        (
            "ACL DRYRUN reports SET k v",
            Value::bulk("User reports has no permissions to run the 'set' command"),
        ),
        ("ACL DRYRUN shop SET k v", Value::ok()),
        ("ACL DRYRUN nobody GET k", Value::error("ERR User 'nobody' not found")),
        ("ACL GETUSER nobody", Value::NullBulk),
        ("CLIENT KILL USER nobody", Value::error("ERR No such user 'nobody'")),
        ("CLIENT KILL USER reports", Value::Integer(0)),
    ] {
        assert_eq!(say(&mut shop, request), reply, "{request}");
    }
    let shown = format!("{:?}", say(&mut shop, "ACL GETUSER reports"));
    assert!(shown.contains(rules) && shown.contains(r#""passwords" []"#), "{shown}");
    let mut reports = Client::connect(&server);
    let hello = say(&mut reports, "HELLO 3 AUTH reports reports-secret");
    assert!(matches!(hello, Value::Map(_)), "{hello:?}");
    let Value::Bulk(lines) = say(&mut shop, "CLIENT LIST") else { panic!("lines") };
    let lines = String::from_utf8_lossy(&lines);
    assert!(lines.contains("user=reports ") && lines.contains("user=shop "), "{lines}");
    assert_eq!(say(&mut shop, "CLIENT KILL USER reports"), Value::Integer(1));
    assert!(reports.rest().is_ok_and(|rest| rest.is_empty()));
    server.stop();
}

#[test]
fn none_but_listed_users_get_in_without_a_password_for_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, _) = start(dir.path(), &[]);
    let mut stranger = Client::connect(&server);
    for (request, reply) in [
        ("GET k", "NOAUTH Authentication required."),
        ("AUTH shop-secret", WRONG),
        ("AUTH default shop-secret", WRONG),
        ("AUTH reports shop-secret", WRONG),
        ("AUTH nobody x", WRONG),
        ("PING", "NOAUTH Authentication required."),
    ] {
        assert_eq!(say(&mut stranger, request), Value::error(reply), "{request}");
    }
    // The digest itself is no password.
    let digest = SHOP.rsplit(' ').next().expect("a digest");
    assert_eq!(say(&mut stranger, &format!("AUTH shop {digest}")), Value::error(WRONG));
    server.stop();
}

#[test]
fn a_password_that_is_gone_from_its_file_ends_the_logins_by_it_and_no_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let password = dir.path().join("password");
    write(&password, &["first", "not this"]);
    let flags = ["-requirepass-file", password.to_str().expect("UTF-8")];
    let (server, users) = start(dir.path(), &flags);
    let mut all = Client::connect(&server);
    assert_eq!(say(&mut all, "AUTH first"), Value::ok());
    let mut shop = logged_in(&server, "shop", "shop-secret");
    let mut reports = logged_in(&server, "reports", "reports-secret");

    // Two passwords for a while: nobody is closed.
    write(&users, &[SHOP, NEW_SHOP, REPORTS]);
    server.signal(Signal::HUP);
    server.wait_for_log("read anew: the list of users in ");
    let mut new_shop = logged_in(&server, "shop", "new-secret");
    for client in [&mut all, &mut shop, &mut reports] {
        assert_eq!(say(client, "GET k"), Value::NullBulk);
    }
    // A file that makes no sense changes nothing.
    write(&users, &[NEW_SHOP, "reports read-write 1234"]);
    server.signal(Signal::HUP);
    server.wait_for_log("line 2");
    assert_eq!(say(&mut shop, "GET k"), Value::NullBulk);
    let reply = say(&mut new_shop, "ACL LOAD");
    assert!(matches!(&reply, Value::Error(why) if why.contains("line 2")), "{reply:?}");

    // The old password goes, by ACL LOAD.
    write(&users, &[NEW_SHOP, REPORTS]);
    assert_eq!(say(&mut new_shop, "ACL LOAD"), Value::ok());
    assert!(shop.rest().is_ok_and(|rest| rest.is_empty()), "its password is gone");
    for client in [&mut all, &mut reports, &mut new_shop] {
        assert_eq!(say(client, "GET k"), Value::NullBulk);
    }
    // So does the password for all.
    write(&password, &["second"]);
    server.signal(Signal::HUP);
    assert!(all.rest().is_ok_and(|rest| rest.is_empty()), "its password is gone");
    let mut all = Client::connect(&server);
    assert_eq!(say(&mut all, "AUTH first"), Value::error(WRONG));
    assert_eq!(say(&mut all, "AUTH second"), Value::ok());
    assert_eq!(say(&mut new_shop, "GET k"), Value::NullBulk);
    server.stop();
}

/// It was let in without one while there was none.
#[test]
fn a_password_that_is_read_anew_ends_the_logins_without_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let password = dir.path().join("password");
    write(&password, &["first"]);
    let server =
        Server::start(dir.path(), &["-requirepass-file", password.to_str().expect("UTF-8")]);
    let mut admin = Client::connect(&server);
    assert_eq!(say(&mut admin, "AUTH first"), Value::ok());
    assert_eq!(ask(&mut admin, ["CONFIG", "SET", "requirepass", ""]), Value::ok());
    let mut guest = Client::connect(&server);
    assert_eq!(say(&mut guest, "GET k"), Value::NullBulk);
    server.signal(Signal::HUP);
    assert!(guest.rest().is_ok_and(|rest| rest.is_empty()), "it has no password");
    assert_eq!(
        say(&mut Client::connect(&server), "GET k"),
        Value::error("NOAUTH Authentication required.")
    );
    server.stop();
}

#[test]
fn a_file_of_passwords_that_others_may_read_is_reported_and_a_wrong_one_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, users) = start(dir.path(), &[]);
    assert!(!server.log().contains("others than its owner"), "{}", server.log());
    server.stop();
    let flags = ["-users-file", users.to_str().expect("UTF-8")];
    fs::set_permissions(&users, fs::Permissions::from_mode(0o640)).expect("permissions");
    let server = Server::start(dir.path(), &flags);
    assert!(server.log().contains("others than its owner"), "{}", server.log());
    server.stop();
    write(&users, &[SHOP, "reports all"]);
    let refusal = Server::refusal(dir.path(), &flags);
    assert!(refusal.stderr.contains("line 2") && refusal.stderr.contains("users"), "{refusal:?}");
    assert_eq!(refusal.code, Some(1));
    fs::remove_file(&users).expect("a file");
    // A pipe to which nothing is ever written.
    let made = std::process::Command::new("mkfifo").arg(&users).status().expect("mkfifo");
    assert!(made.success());
    assert!(Server::refusal(dir.path(), &flags).stderr.contains("not a regular file"));
    fs::remove_file(&users).expect("a pipe");
    assert!(Server::refusal(dir.path(), &flags).stderr.contains("cannot read"));
}

/// Strangers take neither all places nor much memory, and not for ever.
#[test]
fn a_client_that_does_not_log_in_is_closed_in_time_or_when_its_place_is_needed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, _) = start(dir.path(), &["-maxclients", "3", "-login-timeout", "1"]);
    let mut shop = logged_in(&server, "shop", "shop-secret");
    let mut strangers: Vec<Client> = (0..2).map(|_| Client::connect(&server)).collect();
    let mut reports = logged_in(&server, "reports", "reports-secret");
    assert!(
        strangers[0].rest().is_ok_and(|rest| rest.is_empty()),
        "the one that was there longest"
    );
    assert!(
        strangers[1].rest().is_ok_and(|rest| rest.is_empty()),
        "it did not log in for a second"
    );
    // Those who are logged in stay, however long they say nothing.
    assert_eq!(say(&mut shop, "SET k v"), Value::ok());
    assert_eq!(say(&mut reports, "GET k"), Value::bulk("v"));
    let mut third = logged_in(&server, "shop", "shop-secret");
    let mut fourth = Client::connect(&server);
    assert_eq!(fourth.line().trim_end(), "-ERR max number of clients reached");
    assert_eq!(say(&mut third, "GET k"), Value::bulk("v"));
    server.stop();
}

#[test]
fn a_stranger_sends_no_long_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, _) = start(dir.path(), &[]);
    for request in [
        format!("*2\r\n$4\r\nAUTH\r\n$16385\r\n{}", "x".repeat(20_000)),
        format!("*11\r\n{}", "$1\r\nx\r\n".repeat(11)),
        format!("*10\r\n{}", format!("$16000\r\n{}\r\n", "x".repeat(16_000)).repeat(9)),
        format!("AUTH {}", "x".repeat(60_000)),
        "*1000000\r\n".into(),
        "*1\r\n$536870912\r\n".into(),
    ] {
        let mut stranger = Client::connect(&server);
        // The server may close before all is sent.
        let _ = stranger.try_send(&request);
        let reply = stranger.try_line().unwrap_or_default();
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with("-ERR Protocol error"), "{:.40}: {reply}", request);
    }
    let mut shop = logged_in(&server, "shop", "shop-secret");
    eventually("they have left", || shop.counter("connected_clients") == 1);
    server.stop();
}

/// A stolen password is of no use once it is gone: not even for what was asked for before.
#[test]
fn nothing_more_is_carried_out_that_a_revoked_client_has_queued() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, users) = start(dir.path(), &["-fsync", "no"]);
    let mut reports = logged_in(&server, "reports", "reports-secret");
    let mut shop = logged_in(&server, "shop", "shop-secret");
    assert_eq!(ask(&mut shop, ["SET", "big", &"x".repeat(8 << 20)]), Value::ok());
    // Each pair takes some milliseconds, so that all of them would take half a minute.
    shop.send("COPY big copy REPLACE\r\nINCR n\r\n".repeat(10_000));
    eventually("it has begun", || matches!(say(&mut reports, "GET n"), Value::Bulk(_)));
    write(&users, &[REPORTS]);
    server.signal(Signal::HUP);
    server.wait_for_log("1 clients are closed");
    // An ordered stop carries out what is queued.
    server.stop();
    let server = Server::start(dir.path(), &[]);
    let last = say(&mut Client::connect(&server), "GET n");
    let Value::Bulk(done) = last else { panic!("{last:?}") };
    let done: u32 = String::from_utf8_lossy(&done).parse().expect("a number");
    assert!(done < 10_000, "all {done} were carried out");
    server.stop();
}
