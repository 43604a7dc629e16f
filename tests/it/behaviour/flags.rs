//! Flags from the command line, the environment and a file: what holds, and what is refused before anything is touched.

use std::fs;
use std::process::{Command, Output};

use crate::common::{Client, PROGRAM, Server, command, contents};

/// What `config check` has said: its exit code, rows and complaints.
fn check(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn check_command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["config", "check"]);
    command
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("flags");
    fs::write(&file, "# all three\nmaxclients 11\ndatabases = 3\n-shards 5\n").expect("a file");
    let mut command = command(dir.path(), &["-maxclients=33"]);
    let variables = [("POST_GRES_RS_MAXCLIENTS", "22"), ("POST_GRES_RS_DATABASES", "4")];
    command.envs(variables).env("POST_GRES_RS_CONFIG", &file).env("POST_GRES_RS_DATABASE", "1");
    let server = Server::spawn(&mut command).expect("it starts");
    let mut client = Client::connect(&server);
    for (setting, value) in [("maxclients", "33"), ("databases", "4")] {
        assert!(client.ask(&format!("CONFIG GET {setting}")).starts_with('*'));
        let lines = [client.line(), client.line(), client.line(), client.line()];
        assert_eq!(lines[3].trim_end(), value, "{setting}");
    }
    let said = server.wait_for_log("settings by ");
    let file = file.display().to_string();
    for part in [
        "by the command line: -port 0 -wal ",
        "-maxclients 33",
        "by the environment: -databases 4",
        &format!("by {file}: -shards 5;"),
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(server.wait_for_log("POST_GRES_RS_DATABASE ").contains("Is -databases meant?"));
    server.stop();

    let mut command = check_command();
    let (code, rows, said) = check(command.args(["-config", &file]).envs(variables));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let row = |flag: &str| {
        let row = rows.lines().find(|row| row.starts_with(&format!("{flag} "))).expect(flag);
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("-maxclients"), "-maxclients 22 POST_GRES_RS_MAXCLIENTS in the environment");
    assert_eq!(row("-shards"), format!("-shards 5 line 4 of {file}"));
    assert_eq!(row("-port"), "-port 4242 default");
}

#[test]
fn mistakes_in_the_file_are_all_named_with_their_lines_and_nothing_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("flags");
    let lines =
        ["maxmemroy 1gb", "port x", "shards 2", "shards 3", "fsync no yes", "config a", "wal"];
    fs::write(&file, lines.join("\n")).expect("a file");
    let refusal = Server::refusal(dir.path(), &["-config", file.to_str().expect("ASCII")]);
    assert_eq!(refusal.code, Some(2));
    for part in [
        "flags, line 1: there is no flag maxmemroy; -help lists them. Is -maxmemory meant?",
        "flags, line 2: invalid value 'x' for '-port <0-65535|off>': expected a whole number",
        "flags, line 4: shards is in line 3 already",
        "flags, line 5: fsync has one value",
        "flags, line 6: a file of flags cannot name another",
        "flags, line 7: a value is required",
    ] {
        assert!(refusal.stderr.contains(part), "{part:?} is not in {}", refusal.stderr);
    }
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "something was made");
    let (code, _, said) = check(check_command().env("POST_GRES_RS_CONFIG", &file));
    assert_eq!(code, Some(1), "{said}");
    let none = Server::refusal(dir.path(), &["-config", "/nowhere/at/all"]);
    assert!(none.code == Some(2) && none.stderr.contains("/nowhere/at/all"), "{none:?}");
}

#[test]
fn config_check_finds_what_a_start_would_refuse_and_touches_nothing_of_a_running_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    server.kill9();
    let (password, empty) = (dir.path().join("password"), dir.path().join("empty"));
    fs::write(&password, "s3cret\n").expect("a file");
    fs::write(&empty, "\n").expect("a file");
    let before = contents(dir.path());
    let wal = dir.path().join("wal_file").display().to_string();
    let at = |path: &std::path::Path| path.display().to_string();
    let missing = dir.path().join("volume/wal_file");
    for (flags, complaint) in [
        (["-wal", &wal, "-requirepass-file", &at(&password)], ""),
        (["-wal", &wal, "-requirepass-file", &at(&empty)], "the password is empty"),
        (["-wal", &wal, "-requirepass-file", "/nowhere/at/all"], "/nowhere/at/all"),
        (["-wal", &at(&missing), "-port", "0"], "not mounted"),
        (["-wal", &at(dir.path()), "-port", "0"], "is a directory"),
        (["-wal", &wal, "-bind", "0.0.0.0"], "protected-mode"),
    ] {
        let (code, rows, said) = check(check_command().args(flags));
        assert_eq!(code, Some(i32::from(!complaint.is_empty())), "{flags:?}: {said}");
        assert!(said.contains(complaint), "{flags:?}: {said}");
        assert!(!rows.contains("s3cret") && !said.contains("s3cret"), "a secret is shown");
    }
    let (code, rows, _) = check(check_command().env("POST_GRES_RS_PASSWORD", "s3cret"));
    assert!(code.is_some() && !rows.contains("s3cret"), "{rows}");
    assert!(contents(dir.path()) == before, "something was changed");
}

#[cfg(feature = "tools")]
#[test]
fn a_tool_finds_the_log_where_the_server_is_told_that_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    Server::start(dir.path(), &[]).stop();
    let file = dir.path().join("flags");
    fs::write(&file, format!("wal {}/wal_file\nport 7\n", dir.path().display())).expect("a file");
    let run = |command: &mut Command| command.output().expect("it can be run");
    let by_flag = run(Command::new(PROGRAM).args(["check", "-config"]).arg(&file));
    assert!(by_flag.status.success(), "{by_flag:?}");
    let by_variable = run(Command::new(PROGRAM).arg("check").env("POST_GRES_RS_CONFIG", &file));
    assert!(by_variable.status.success(), "{by_variable:?}");
    let other = ["check", "-wal", "/nowhere/at/all", "-config"];
    assert_eq!(run(Command::new(PROGRAM).args(other).arg(&file)).status.code(), Some(2));
}
