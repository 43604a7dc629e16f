//! A device that fails while the page cache still has the bytes: what a restart serves must be what
//! the device holds.
//!
//! Seen with other servers (PostgreSQL, 2018): write-back fails, the kernel reports it once and
//! calls the pages clean, the next sync succeeds, and a restart reads from the cache what no disk
//! has. Here the device is real: an ext4 on a loop device whose file is on a small tmpfs. When the log
//! is prepared, the zeros in that file are turned into holes again, and the tmpfs is filled up: reads
//! stay the same, but a block that is a hole cannot be written. Before the restart there is
//! room again, so that a later sync succeeds. Needs root and loop devices.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Client, Server, eventually};

/// The device, and what it stands on: enough for the first two segments, and too little for it all.
const DEVICE_BYTES: u64 = 64 << 20;
const BACKING: &str = "size=24m";

/// The length of the segment that a fresh server prepares.
const PREPARED_BYTES: u64 = 4 << 20;

/// A record of less than a page: the loop driver reports a request cut short by a full tmpfs as done, so a
/// request must be written as a whole or not at all.
const VALUE_BYTES: usize = 3000;

/// More writes than there is room for.
const WRITES: usize = 20_000;

#[test]
#[ignore = "needs root and loop devices; for CI"]
fn after_a_lost_write_a_restart_shows_what_the_device_holds() {
    for flags in [&[][..], &["-fsync", "no"]] {
        let device = match Device::new() {
            Ok(device) => device,
            Err(why) => return println!("skipped: {why}"),
        };
        check(&device, flags);
    }
}

fn check(device: &Device, flags: &[&str]) {
    let dir = device.mounted.join("log");
    fs::create_dir(&dir).expect("a new directory");
    let server = Server::start(&dir, flags);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&format!("SET 0 {}", value(0))), "+OK");
    eventually("the next segment is prepared", || {
        fs::metadata(dir.join("wal_file.next")).is_ok_and(|next| next.len() == PREPARED_BYTES)
    });
    device.fill();
    let (acknowledged, refusal) = write_until_refused(&mut client);
    println!("{flags:?}: {acknowledged} writes acknowledged, then {refusal}");
    assert_eq!(client.ask("SET other value"), refusal, "it is never tried again");
    assert_eq!(client.ask("GET 0"), format!("+OK {}", value(0)), "reads go on");
    let shown = shown(&mut client, acknowledged);
    assert!(shown == acknowledged, "{shown} of {acknowledged} are shown");
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(1), "a log that could not be closed is no ordered stop");

    // The caches are as the failure left them.
    device.make_room();
    let cached = start_and_count(&dir, flags, acknowledged);
    device.forget_cached();
    let held = start_and_count(&dir, flags, acknowledged);
    println!("{flags:?}: a restart showed {cached}, the device holds {held}");
    assert_eq!(cached, held, "a restart showed what the device does not hold");
    // Without a sync after each write, nothing more is promised.
    assert!(!flags.is_empty() || held >= acknowledged, "{held} of {acknowledged} are left");
}

/// Sets one key after the other, until that is refused: how many were acknowledged, and the refusal.
fn write_until_refused(client: &mut Client) -> (usize, String) {
    for number in 1..WRITES {
        let reply = client.ask(&format!("SET {number} {}", value(number)));
        if reply != "+OK" {
            assert!(reply.contains("no more writes"), "{reply}");
            return (number, reply);
        }
    }
    panic!("{WRITES} writes went to a device that has no room for them");
}

fn value(number: usize) -> String {
    let piece = format!("{number};");
    piece.repeat(VALUE_BYTES / piece.len())
}

/// How many of the writes a fresh server shows, none of them in part.
fn start_and_count(dir: &Path, flags: &[&str], acknowledged: usize) -> usize {
    let server = Server::start(dir, flags);
    let count = shown(&mut Client::connect(&server), acknowledged);
    server.kill9();
    count
}

/// How many of the writes can be read: the first ones, without a gap.
fn shown(client: &mut Client, acknowledged: usize) -> usize {
    // One more was sent and refused.
    let mut replies =
        (0..=acknowledged).map(|number| (number, client.ask(&format!("GET {number}"))));
    let is_there = |(number, reply): &(usize, String)| *reply == format!("+OK {}", value(*number));
    let count = replies.by_ref().take_while(is_there).count();
    for (number, reply) in replies {
        assert_eq!(reply, format!("-GET could not find {number} in store"), "behind a gap");
    }
    count
}

/// An ext4 on a loop device on a tmpfs. Dropping it takes it all apart.
struct Device {
    backing: PathBuf,
    mounted: PathBuf,
    device: String,
    _place: tempfile::TempDir,
}

impl Device {
    fn new() -> Result<Device, String> {
        let place = tempfile::tempdir().expect("a directory");
        let (backing, mounted) = (place.path().join("backing"), place.path().join("mounted"));
        fs::create_dir(&backing).expect("a new directory");
        fs::create_dir(&mounted).expect("a new directory");
        // From here on it is taken apart however this ends.
        let mut built = Device { backing, mounted, device: String::new(), _place: place };
        let file = built.backing.join("device");
        let backing = built.backing.as_os_str();
        run("mount", &["-t", "tmpfs", "-o", BACKING, "tmpfs"].map(OsStr::new), &[backing])?;
        let opened = File::create(&file).expect("a file on an empty tmpfs");
        opened.set_len(DEVICE_BYTES).expect("a file of holes");
        // A journal would fail as well, and close the whole file system.
        let made = ["-q", "-F", "-b", "4096", "-O", "^has_journal"];
        run("mkfs.ext4", &made.map(OsStr::new), &[file.as_os_str()])?;
        let options = ["--find", "--show"].map(OsStr::new);
        built.device = run("losetup", &options, &[file.as_os_str()])?.trim().to_owned();
        built.mount()?;
        Ok(built)
    }

    fn mount(&self) -> Result<(), String> {
        let device = OsStr::new(&self.device);
        run("mount", &["-t", "ext4"].map(OsStr::new), &[device, self.mounted.as_os_str()])?;
        Ok(())
    }

    /// Takes away the room for every block that holds nothing but zeros.
    fn fill(&self) {
        run("sync", &[OsStr::new("-f")], &[self.mounted.as_os_str()]).expect("there is room");
        let file = self.backing.join("device");
        run("fallocate", &[OsStr::new("--dig-holes")], &[file.as_os_str()]).expect("holes");
        let mut ballast = File::create(self.ballast()).expect("a file without a byte");
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it is there");
    }

    fn ballast(&self) -> PathBuf {
        self.backing.join("ballast")
    }

    /// Drops every page that the kernel keeps of the file system.
    fn forget_cached(&self) {
        run("umount", &[], &[self.mounted.as_os_str()]).expect("nobody uses it");
        self.mount().expect("it was mounted before");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Each fails if the setup did not get that far.
        let _ = run("umount", &[], &[self.mounted.as_os_str()]);
        if !self.device.is_empty() {
            let _ = run("losetup", &[OsStr::new("-d")], &[OsStr::new(&self.device)]);
        }
        let _ = run("umount", &[], &[self.backing.as_os_str()]);
    }
}

/// What a program prints, or why it failed.
fn run(program: &str, options: &[&OsStr], operands: &[&OsStr]) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(options).args(operands).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
