//! The real server on a real ext4, whose disk loses power: no acknowledged write is lost.
//!
//! The disk logs every request (`device`), and from that log disks are built as a cut at any moment
//! could leave them (`block_log`). Each is mounted, so that the kernel replays its journal, and the
//! server is started on it and asked for everything that was acknowledged by then (`history`).
//!
//! This needs root, FUSE, loop devices and `qemu-storage-daemon`; if one is missing, the tests say
//! that they were skipped. POWER_CUT_IMAGES says how many disks to build, if there are as many places
//! to cut, but never fewer than there are places next to a flush. POWER_CUT_KEEP names a directory for
//! the images on which something was lost (64 MiB each, and the last test makes hundreds).

mod block_log;
pub mod device;
mod history;
mod sweep;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::Signal;

use crate::common::wire::{Value, ask, say};
use crate::common::{Client, Rng, Server, command, seed};
use history::Clients;
use sweep::{Outcome, Run, cut_twice};

/// How many disks the first test builds, in a minute; the others build a part of that.
const DEFAULT_IMAGES: usize = 1000;

/// What each client does: some 1 to 2 MiB for all of them, mostly more than the first segment.
const OPERATIONS: usize = 70;

/// A quarter of that is done again, at most this often, until the first segment is full.
const ROUNDS: usize = 20;

/// Keys in the log that is imported.
const IMPORTED: usize = 300;

#[test]
#[ignore = "takes a minute and wants root; for CI"]
fn no_acknowledged_write_is_lost_to_a_power_cut_nor_to_a_second_one_in_the_recovery() {
    let Some(proof) = Proof::begin() else { return };
    let mut rng = Rng::new(proof.seed);
    let (run, history) = proof.work(&mut rng, None);
    let check = |_: &Path, client: &mut Client, at: u64| {
        history.shown(client, at)?;
        Ok(history.acknowledged(at))
    };
    let cuts = run.log.cuts(proof.images, &mut rng);
    let once = run.sweep(proof.dir(), &cuts, &mut rng, &check);
    proof.report("power cuts", &once);

    let ask = |_: &Path, client: &mut Client, at: u64| {
        Ok((history.shown(client, at)?, history.acknowledged(at)))
    };
    let mut twice = Outcome::default();
    for _ in 0..20 {
        let cut = cuts[rng.below(cuts.len())];
        let count = proof.images / 80;
        twice.join(cut_twice(&run, proof.dir(), (cut, count), &mut rng, &ask), "twice");
    }
    proof.report("second cuts in the recovery", &twice);
    none_lost(&[once, twice]);
}

#[test]
#[ignore = "takes a quarter of a minute and wants root; for CI"]
fn an_import_that_loses_power_is_whole_after_the_next_start() {
    let Some(proof) = Proof::begin() else { return };
    let mut rng = Rng::new(proof.seed);
    let old: Vec<(String, String)> = (0..IMPORTED)
        .map(|index| (format!("old{index}.key"), format!("v{}", "x".repeat(rng.below(500)))))
        .collect();
    let lines: String = old
        .iter()
        .map(|(key, value)| format!("3SET{}{key}{}{value}\n", key.len(), value.len()))
        .collect();
    let image = proof.dir().join("image");
    let mount = device::Mount::new(&image, proof.dir().join("mounted")).expect("ext4");
    fs::write(mount.dir().join("wal_file"), &lines).expect("room for a log");
    drop(mount);

    let mut history = Clients::new(proof.seed);
    let run = Run::record(proof.dir(), &image, |dir, block_log| {
        let server = Server::start(dir, &[]);
        history.write(&server, block_log, 2, &mut rng);
        server.kill9();
    });
    let ask = |dir: &Path, client: &mut Client, at: u64| {
        let keys = old.iter().map(|(key, _)| key.as_str());
        let words: Vec<&str> = std::iter::once("MGET").chain(keys).collect();
        let values = old.iter().map(|(_, value)| Value::bulk(value)).collect();
        if ask(client, words) != Value::Array(values) {
            return Err("the import is not whole".into());
        }
        if fs::read(dir.join("wal_file.imported")).ok().as_deref() != Some(lines.as_bytes()) {
            return Err("the imported file was not kept".into());
        }
        // Nothing else is there, if nothing else was sent.
        let shown = history.shown(client, at)?;
        if shown.iter().all(|&number| number == 0)
            && say(client, "DBSIZE") != Value::Integer(IMPORTED as i64)
        {
            return Err("there are keys that nobody wrote".into());
        }
        Ok((shown, IMPORTED + history.acknowledged(at)))
    };
    let check =
        |dir: &Path, client: &mut Client, at: u64| ask(dir, client, at).map(|found| found.1);
    let cuts = run.log.cuts(proof.images / 8, &mut rng);
    let once = run.sweep(proof.dir(), &cuts, &mut rng, &check);
    proof.report("cuts of an import", &once);

    let mut twice = Outcome::default();
    for _ in 0..8 {
        let cut = cuts[rng.below(cuts.len())];
        let count = proof.images / 80;
        twice.join(cut_twice(&run, proof.dir(), (cut, count), &mut rng, &ask), "twice");
    }
    proof.report("second cuts of an import", &twice);
    none_lost(&[once, twice]);
}

/// The proof of the proof: a server whose syncs do nothing must be found out.
#[test]
#[ignore = "takes a few seconds and wants root; for CI"]
fn a_server_that_skips_its_syncs_is_noticed_by_these_tests() {
    for define in ["-DALL", "-DONLY_COMMITS"] {
        let Some(proof) = Proof::begin() else { return };
        let mut rng = Rng::new(proof.seed);
        // Not beside the images: their directory may forbid executables.
        let library_dir = tempfile::tempdir().expect("a directory");
        let library = library_dir.path().join("skip_sync.so");
        let source =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/durability/power_cut/skip_sync.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", define, source, "-o"])
            .arg(&library)
            .status();
        match compiled {
            Ok(status) => assert!(status.success(), "cc: {status}"),
            Err(error) => return eprintln!("skipped: cc: {error}"),
        }
        let (run, history) = proof.work(&mut rng, Some(&library));
        let check = |_: &Path, client: &mut Client, at: u64| {
            history.shown(client, at)?;
            Ok(history.acknowledged(at))
        };
        let cuts = run.log.some_cuts(proof.images / 16, &mut rng);
        let outcome = run.sweep(proof.dir(), &cuts, &mut rng, &check);
        proof.report(&format!("without syncs ({define}; losses expected)"), &outcome);
        if let Some(loss) = outcome.losses.last() {
            eprintln!("such as {loss}");
        }
        assert!(!outcome.losses.is_empty(), "{define}: the loss was not noticed");
    }
}

/// One test at a time: the machine has a limited number of loop devices.
struct Proof {
    dir: tempfile::TempDir,
    seed: u64,
    images: usize,
    started: Instant,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Proof {
    /// An empty file system in `image`; `None` if that cannot be made here.
    fn begin() -> Option<Proof> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = device::missing() {
            eprintln!("skipped: {why}");
            return None;
        }
        let images = match std::env::var("POWER_CUT_IMAGES") {
            Ok(images) => images.parse().expect("POWER_CUT_IMAGES is a number"),
            Err(_) => DEFAULT_IMAGES,
        };
        let dir = device::directory();
        device::format(&dir.path().join("image")).expect("it could before");
        Some(Proof { dir, seed: seed(), images, started: Instant::now(), _alone: alone })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Clients write to a server that is stopped and started once, grows a second segment, and compacts
    /// its log.
    fn work(&self, rng: &mut Rng, library: Option<&Path>) -> (Run, Clients) {
        let mut history = Clients::new(self.seed);
        let run = Run::record(self.dir(), &self.dir().join("image"), |dir, block_log| {
            let start = || {
                let mut command = command(dir, &[]);
                command.envs(library.map(|library| ("LD_PRELOAD", library)));
                Server::spawn(&mut command).expect("the server starts")
            };
            let server = start();
            history.write(&server, block_log, OPERATIONS / 4, rng);
            server.stop();
            let server = start();
            history.write(&server, block_log, OPERATIONS, rng);
            // How much was written depends on chance and the disk: values may be short, batches shared.
            let full = dir.join("wal_file.0000000001.log");
            let more = (0..ROUNDS).take_while(|_| !full.exists());
            more.for_each(|_| history.write(&server, block_log, OPERATIONS / 4, rng));
            assert!(full.exists(), "enough was written for a second segment");
            server.signal(Signal::USR1);
            history.write(&server, block_log, OPERATIONS / 4, rng);
            server.wait_for_log("compacted the log");
            history.write(&server, block_log, OPERATIONS / 8, rng);
            server.kill9();
        });
        (run, history)
    }

    fn report(&self, what: &str, outcome: &Outcome) {
        let Outcome { images, looked_for, torn, changes, losses } = outcome;
        eprintln!(
            "{what}: {images} images built, mounted and checked ({torn} with a torn batch, \
             {changes} in a change of segment), {looked_for} acknowledged writes looked for, {} \
             losses; seed {}, {:.1} s",
            losses.len(),
            self.seed,
            self.started.elapsed().as_secs_f64()
        );
    }
}

fn none_lost(outcomes: &[Outcome]) {
    let losses: Vec<&str> =
        outcomes.iter().flat_map(|outcome| &outcome.losses).map(String::as_str).collect();
    assert!(losses.is_empty(), "{} losses:\n{}", losses.len(), losses.join("\n"));
}
