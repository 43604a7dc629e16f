//! restore, and backups that go through a pipe or are kept side by side: all of the data, or nothing.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{
    Said, flip, json, keys_of, large_log, new_dir, run_tool, small_log, tool, write_until,
};
use crate::common::{PROGRAM, Server, contents};

/// Files and directories in one, sorted.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|it| it.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// `backup -` of the log in `dir`: the stream.
fn stream_of(dir: &Path) -> Vec<u8> {
    let output =
        Command::new(PROGRAM).args(["backup", "-wal"]).arg(dir.join("wal_file")).arg("-").output();
    let output = output.expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// `restore -` of a stream into `dir`.
fn restore_stream(dir: &Path, stream: &[u8]) -> Said {
    let wal = dir.join("wal_file");
    let mut command = Command::new(PROGRAM);
    command.args(["restore", "-", "-wal"]).arg(wal).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // One that refuses does not read on.
    let _ = stdin.write_all(stream);
    drop(stdin);
    Said::of(&child.wait_with_output().expect("our child"))
}

fn restore(from: &Path, dir: &Path, flags: &[&str]) -> Said {
    let from = from.to_str().expect("ASCII");
    tool("restore", dir, &[&[from], flags].concat())
}

#[test]
fn a_restored_log_serves_all_data_whether_it_came_from_a_directory_or_a_stream() {
    let source = large_log(14);
    let backup = new_dir();
    tool("backup", source.path(), &[backup.path().to_str().expect("ASCII")]).expect(0, &[]);
    let all: Vec<usize> = (1..=14).collect();
    let stream = stream_of(source.path());
    for from in ["directory", "its file", "a log's own directory", "stream", "unpacked by tar"] {
        let dir = new_dir();
        let said = match from {
            "directory" => restore(backup.path(), dir.path(), &[]),
            "its file" => restore(&backup.path().join("wal_file"), dir.path(), &["-json"]),
            "a log's own directory" => restore(source.path(), dir.path(), &[]),
            "stream" => restore_stream(dir.path(), &stream),
            _ => {
                let unpacked = new_dir();
                let mut tar = Command::new("tar");
                tar.args(["-x", "-C"]).arg(unpacked.path()).stdin(Stdio::piped());
                let mut tar = tar.spawn().expect("there is tar");
                tar.stdin.take().expect("a pipe").write_all(&stream).expect("it reads");
                assert!(tar.wait().expect("our child").success());
                restore(unpacked.path(), dir.path(), &[])
            }
        };
        let said = said.expect(0, &[]);
        match from {
            "its file" => json::assert_valid(&said.out),
            _ => drop(said.expect(0, &["restored, and read back", "14 in 14 batches"])),
        }
        let left = names_in(dir.path());
        let is_staged = |name: &String| name.contains("restoring") || name.contains("lock");
        assert!(!left.iter().any(is_staged), "{from}: {left:?}");
        assert_eq!(keys_of(dir.path(), "big", 14), all, "{from}");
        // Now a log is there.
        let before = contents(dir.path());
        restore(backup.path(), dir.path(), &[])
            .expect(2, &["is in the way", "Nothing was changed"]);
        assert!(contents(dir.path()) == before, "{from}: something was changed");
    }
    // A log without the file that says so, as a backup is.
    let before = contents(backup.path());
    restore(source.path(), backup.path(), &[]).expect(2, &["wal_file", "is in the way"]);
    assert!(contents(backup.path()) == before, "a log was written over");
    // A name of its own, in a directory that has to be there.
    let dir = new_dir();
    let (from, other) = (backup.path().to_str().expect("ASCII"), dir.path().join("data"));
    let other = other.to_str().expect("ASCII");
    run_tool(&["restore", from, "-wal", other]).expect(0, &["data: restored"]);
    run_tool(&["check", "-wal", other]).expect(0, &["14 in 14 batches"]);
    let nowhere = dir.path().join("volume/wal_file");
    let nowhere = nowhere.to_str().expect("ASCII");
    run_tool(&["restore", from, "-wal", nowhere]).expect(2, &["not mounted"]);
}

#[test]
fn a_stream_that_is_cut_short_or_changed_anywhere_restores_nothing() {
    let source = small_log(3);
    let stream = stream_of(source.path());
    let dir = new_dir();
    let refuse = |stream: &[u8], what: &str| {
        restore_stream(dir.path(), stream).expect(2, &["nothing was restored"]);
        assert_eq!(names_in(dir.path()), [""; 0], "{what}");
    };
    // At every boundary of an entry and next to it, and within the sums.
    let mut cuts: Vec<usize> = (0..stream.len()).step_by(512).flat_map(|at| [at, at + 1]).collect();
    let sums = stream.windows(20).rposition(|at| at == b"post-gres-rs backup ").expect("sums");
    cuts.retain(|cut| cut % 4096 < 2 || *cut + 1024 > sums);
    for cut in cuts.into_iter().filter(|cut| *cut <= sums + 60) {
        refuse(&stream[..cut], &format!("cut at {cut}"));
    }
    for at in (0..sums + 60).step_by(2003).chain([0, 100, 124, sums, sums + 24]) {
        let mut changed = stream.clone();
        changed[at] ^= 1;
        let said = restore_stream(dir.path(), &changed);
        // The time, owner and mode of an entry are of no interest, and its sum is checked.
        assert_eq!(said.code, Some(2), "a flip at {at}: {said:#?}");
        assert!(names_in(dir.path()).is_empty(), "a flip at {at}");
    }
    let twice = [&stream[..sums], &stream[..]].concat();
    refuse(&twice, "two streams");
    refuse(b"", "nothing");
    refuse(&[0; 10240], "an empty archive");
    refuse(b"Permission denied (publickey).\n", "a message");
    // Files of an archive that would go elsewhere.
    for name in ["../wal_file", "/etc/passwd", "wal_file/x", "other", "wal_file.sums/.."] {
        let mut evil = stream.clone();
        let mut header = [0; 100];
        header[..name.len()].copy_from_slice(name.as_bytes());
        evil[..100].copy_from_slice(&header);
        evil[148..156].fill(b' ');
        let sum: u32 = evil[..512].iter().map(|&byte| u32::from(byte)).sum();
        evil[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let said = restore_stream(dir.path(), &evil).expect(2, &["name"]);
        assert!(names_in(dir.path()).is_empty(), "{name}: {said:#?}");
    }
    restore_stream(dir.path(), &stream).expect(0, &["3 in 3 batches"]);
}

#[test]
fn a_damaged_backup_and_one_that_is_none_are_refused_and_leave_nothing() {
    let (source, dir) = (small_log(3), new_dir());
    flip(&source.path().join("wal_file"), 8192 + 70);
    restore(source.path(), dir.path(), &[])
        .expect(2, &["offset 8192, LSN 2", "nothing was restored"]);
    assert!(names_in(dir.path()).is_empty(), "something is left");
    restore(new_dir().path(), dir.path(), &[]).expect(2, &["there is no backup"]);
    restore(Path::new("/nowhere/at/all"), dir.path(), &[]).expect(2, &["/nowhere/at"]);
    // Where a log was, even if only its lock file is left.
    fs::write(dir.path().join("wal_file.lock"), "17\n").expect("a file");
    restore(small_log(1).path(), dir.path(), &[]).expect(2, &["wal_file.lock is in the way"]);
    fs::remove_file(dir.path().join("wal_file.lock")).expect("own file");
    // What a restore has left that was killed is no log.
    fs::create_dir(dir.path().join("wal_file.restoring")).expect("a directory");
    fs::write(dir.path().join("wal_file.restoring/wal_file"), "half").expect("a file");
    restore(small_log(1).path(), dir.path(), &[]).expect(0, &["1 in 1 batches"]);
    assert_eq!(keys_of(dir.path(), "key", 1), [1]);
}

/// On a file system of 1 MiB: there is no room for all of it.
#[test]
fn a_disk_that_is_full_on_the_way_fails_a_backup_and_a_restore_and_leaves_nothing() {
    let (source, small) = (large_log(14), new_dir());
    let mount = |args: &[&std::ffi::OsStr], program: &str| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"].map(std::ffi::OsStr::new);
    if !mount(&[&options[..], &[small.path().as_os_str()]].concat(), "mount") {
        return eprintln!("skipped: no file system can be mounted here");
    }
    let stream = stream_of(source.path());
    let restored = restore_stream(small.path(), &stream);
    let left = names_in(small.path());
    let backup =
        tool("backup", source.path(), &["-keep", "2", small.path().to_str().expect("ASCII")]);
    let kept = names_in(small.path());
    let full = Command::new("sh")
        .args([
            "-c",
            &format!("{PROGRAM} backup -wal {}/wal_file - > /dev/full", source.path().display()),
        ])
        .output();
    assert!(mount(&[small.path().as_os_str()], "umount"));
    restored.expect(2, &["nothing was restored", "No space left"]);
    backup.expect(2, &["No space left"]);
    assert!(left.is_empty() && kept.is_empty(), "{left:?}, {kept:?}");
    Said::of(&full.expect("it can be run")).expect(2, &["not complete", "No space left"]);
}

/// Other tools take a reader that has gone, such as `head`, for one that has seen enough.
#[test]
fn a_stream_whose_reader_goes_away_is_a_failed_backup() {
    let source = large_log(14);
    let mut command = Command::new(PROGRAM);
    command.args(["backup", "-wal"]).arg(source.path().join("wal_file")).arg("-");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    let said = Said::of(&child.wait_with_output().expect("our child"));
    said.expect(2, &["not complete", "Broken pipe"]);
}

/// A writer that never stops, and rotations in between: a stream is a moment of the log.
#[test]
fn a_backup_of_a_running_server_can_be_piped_into_restore() {
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| write_until(&stop, &server, &acknowledged));
        for _ in 0..4 {
            let (copy, before) = (new_dir(), acknowledged.load(Ordering::Acquire));
            let line = format!(
                "{PROGRAM} backup -wal {}/wal_file - | {PROGRAM} restore - -wal {}/wal_file",
                dir.path().display(),
                copy.path().display()
            );
            let said = Command::new("sh").args(["-c", &line]).output().expect("a shell");
            copies.push((before, copy, Said::of(&said)));
        }
        stop.store(true, Ordering::Release);
    });
    server.kill9();
    let written = acknowledged.into_inner();
    for (before, copy, said) in copies {
        said.expect(0, &["restored, and read back"]);
        let found = keys_of(copy.path(), "k", written + 1);
        assert!(found.len() >= before, "{} of {before} keys are in the copy", found.len());
        assert_eq!(found, (1..=found.len()).collect::<Vec<_>>(), "there are no gaps");
    }
}

#[test]
fn the_oldest_backups_are_removed_once_a_newer_one_is_complete_and_nothing_else_is() {
    let (source, all) = (small_log(3), new_dir());
    let to = all.path().to_str().expect("ASCII");
    let names = || names_in(all.path());
    tool("backup", source.path(), &["-keep", "2", to]).expect(0, &["3 in 3 batches"]);
    let first = names();
    tool("backup", source.path(), &["-keep", "2", to]).expect(0, &[]);
    assert_eq!(names().len(), 2);

    // Not its own: another name, another log, and one that was put to use.
    let foreign = ["mine", "post-gres-rs-backup", "post-gres-rs-20200101T000000Zx"];
    for name in foreign {
        fs::create_dir(all.path().join(name)).expect("a directory");
    }
    let other = all.path().join("post-gres-rs-20200101T000000Z");
    tool("backup", small_log(1).path(), &[other.to_str().expect("ASCII")]).expect(0, &[]);
    let used = all.path().join("post-gres-rs-20200102T000000Z");
    tool("backup", source.path(), &[used.to_str().expect("ASCII")]).expect(0, &[]);
    fs::write(used.join("notes"), "keep this").expect("a file");
    // What a run has left that was killed.
    let partial = all.path().join("post-gres-rs-20200103T000000Z.partial");
    fs::create_dir(&partial).expect("a directory");
    fs::write(partial.join("wal_file.copying"), "half").expect("a file");

    let said = tool("backup", source.path(), &["-keep", "1", to]);
    let said = said.expect(0, &["other files", &first[0]]);
    let left = names();
    assert_eq!(left.len(), 1 + foreign.len() + 2, "{left:?}: {said:#?}");
    assert!(!partial.exists() && !all.path().join(&first[0]).exists(), "{left:?}");
    assert!(other.join("wal_file").exists() && used.join("notes").exists(), "{left:?}");
    let newest =
        left.iter().filter(|name| name.starts_with("post-gres-rs-2") && name.ends_with('Z'));
    let newest = all.path().join(newest.max().expect("a backup"));
    assert_eq!(keys_of(&newest, "key", 3), [1, 2, 3]);

    // One that fails removes nothing.
    flip(&source.path().join("wal_file"), 8192 + 70);
    let before = names();
    tool("backup", source.path(), &["-keep", "1", to]).expect(2, &["offset 8192"]);
    assert_eq!(names(), before);
    tool("backup", source.path(), &["-keep", "1", "-"]).expect(2, &["in a directory"]);
}

#[test]
fn two_logs_that_are_backed_up_in_turn_each_keep_their_own_newest() {
    let (one, two, all) = (small_log(1), small_log(2), new_dir());
    let to = all.path().to_str().expect("ASCII");
    // The unfinished run of another program, with a file that no log has, holds up neither of them.
    let partial = all.path().join("post-gres-rs-20200103T000000Z.partial");
    fs::create_dir(&partial).expect("a directory");
    fs::write(partial.join("other.copying"), "half").expect("a file");
    let mut made = [Vec::new(), Vec::new()];
    for round in 0..3 {
        for (log, made) in [&one, &two].into_iter().zip(&mut made) {
            let before = names_in(all.path());
            let said = tool("backup", log.path(), &["-keep", "2", "-json", to]).expect(0, &[]);
            let mut new = names_in(all.path());
            new.retain(|name| !before.contains(name));
            let [new] = &new[..] else { panic!("{new:?}: {said:#?}") };
            let path = all.path().join(new).join("wal_file");
            let expected = format!("\"{}\"", path.display());
            assert!(said.out.contains(&expected), "{expected} in round {round}: {said:#?}");
            made.push(new.clone());
        }
    }
    let [ones, twos] = &made;
    let mut expected = [&ones[1..], &twos[1..]].concat();
    expected.push(partial.file_name().expect("a name").to_str().expect("ASCII").to_owned());
    expected.sort();
    assert_eq!(names_in(all.path()), expected);
}

#[test]
fn the_newest_backup_sorts_last_also_after_the_clock_was_set_back() {
    let (source, all) = (small_log(2), new_dir());
    let to = all.path().to_str().expect("ASCII");
    let ahead = "post-gres-rs-21000101T000000Z";
    let path = all.path().join(ahead);
    tool("backup", source.path(), &[path.to_str().expect("ASCII")]).expect(0, &[]);
    tool("backup", source.path(), &["-keep", "2", to]).expect(0, &[]);
    assert_eq!(names_in(all.path()), [ahead, "post-gres-rs-21000101T000001Z"]);
    tool("backup", source.path(), &["-keep", "2", to]).expect(0, &[ahead]);
    let left = ["post-gres-rs-21000101T000001Z", "post-gres-rs-21000101T000002Z"];
    assert_eq!(names_in(all.path()), left);
}
