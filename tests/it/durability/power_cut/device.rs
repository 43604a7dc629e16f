//! A disk whose every request is logged, and mounted file systems that are unmounted again.
//!
//! An image file is opened by `qemu-storage-daemon`, which logs what it is asked to do and shows the
//! disk as a file (by FUSE). A loop device uses that file, and ext4 is on the device. Each part is a guard:
//! dropping it, also in a panic, undoes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{PATIENCE, eventually};

/// Room for a segment of 1 MiB, one of 4, one of 16 that is prepared, and the journal.
const IMAGE_BYTES: u64 = 64 << 20;

/// A directory for images, in memory if there is such a place.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("power-cut.").tempdir_in(place).expect("a directory")
}

/// Makes an image with an empty ext4 in it, journal included.
pub fn format(image: &Path) -> Result<(), String> {
    format_with(image, IMAGE_BYTES)
}

/// The same for a disk of another size.
pub fn format_with(image: &Path, bytes: u64) -> Result<(), String> {
    let file = File::create(image).expect("an image can be made");
    file.set_len(bytes).expect("room for an image");
    let image = image.to_str().expect("a path in ASCII");
    run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0", image])
}

/// Why none of this can be done on this machine; `None` if it can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount".into());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            return Some(format!("there is no {device}"));
        }
    }
    let dir = directory();
    let image = dir.path().join("image");
    let tried = format(&image).and_then(|()| {
        let recorder = Recorder::start(dir.path(), &image)?;
        Mount::new(&recorder.disk(), dir.path().join("trial")).map(drop)
    });
    tried.err()
}

/// A running `qemu-storage-daemon`.
pub struct Recorder {
    daemon: Child,
    disk: PathBuf,
    log: PathBuf,
}

impl Recorder {
    /// Logs what is done to `image`, which it changes; the log is put into `dir`.
    pub fn start(dir: &Path, image: &Path) -> Result<Recorder, String> {
        let (disk, log) = (dir.join("disk"), dir.join("block_log"));
        // The daemon wants both to be there.
        for path in [&disk, &log] {
            File::create(path).expect("a file can be made");
        }
        let node = |name: &str, path: &Path| {
            format!("driver=file,node-name={name},filename={}", path.display())
        };
        let export = format!(
            "type=fuse,id=export,node-name=logged,writable=on,mountpoint={}",
            disk.display()
        );
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &node("image", image), "--blockdev", &node("log", &log)])
            .args(["--blockdev", "driver=blklogwrites,node-name=logged,file=image,log=log"])
            .args(["--export", &export])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("qemu-storage-daemon: {error}"))?;
        let mut recorder = Recorder { daemon, disk, log };
        let mut ended = None;
        eventually("the daemon shows the disk", || {
            ended = recorder.daemon.try_wait().expect("it is our child");
            ended.is_some() || recorder.disk.metadata().is_ok_and(|disk| disk.len() == IMAGE_BYTES)
        });
        match ended {
            Some(status) => Err(format!("qemu-storage-daemon cannot log writes here: {status}")),
            None => Ok(recorder),
        }
    }

    /// The disk, as a file.
    pub fn disk(&self) -> PathBuf {
        self.disk.clone()
    }

    /// The log that is being written.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // On this signal it unmounts its file and finishes the log.
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
        // Of no use unless the daemon has died by itself.
        let _ = Command::new("umount").arg("-l").arg(&self.disk).stderr(Stdio::null()).status();
    }
}

/// A mounted image.
pub struct Mount {
    image: PathBuf,
    dir: PathBuf,
}

impl Mount {
    /// Mounts the ext4 in `image`; the kernel replays its journal. The loop device goes with it.
    pub fn new(image: &Path, dir: PathBuf) -> Result<Mount, String> {
        fs::create_dir_all(&dir).expect("a directory can be made");
        let (from, to) = (image.to_str().expect("a path"), dir.to_str().expect("a path"));
        run("mount", &["-t", "ext4", "-o", "loop,noatime", from, to])?;
        Ok(Mount { image: image.to_owned(), dir })
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let dir = self.dir.to_str().expect("it was one when it was mounted");
        // A process that another thread is just starting has our files open until it has begun.
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = run("umount", &[dir]) {
            if !why.contains("busy") || Instant::now() > deadline {
                eprintln!("{why}");
                let _ = run("umount", &["-l", dir]);
                return;
            }
        }
        while has_loop_device(&self.image) && Instant::now() < deadline {}
    }
}

/// Whether a loop device still uses `image`. Until it is gone, `mount` would use it for the next image of
/// that name, with its cached content: a file system that was unmounted in order, so that no journal is
/// replayed and data that is only in the journal seems lost.
fn has_loop_device(image: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut backing = devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    backing.any(|path| Path::new(path.trim_end()) == image)
}

/// Runs a program to its end; the error is what it said.
pub fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
