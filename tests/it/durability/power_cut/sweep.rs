//! Runs a server on a logged disk, then starts servers on that disk as cuts at many places leave it.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::block_log::{BlockLog, Cutter, Disk};
use super::device::{Mount, Recorder};
use super::history::length;
use crate::common::{Client, Rng, Server, command};

/// How many images are checked at a time: a mount mostly waits.
const WORKERS: usize = 2;

/// A disk before a run, and what the run asked of it.
pub struct Run {
    pub before: Disk,
    pub log: BlockLog,
}

impl Run {
    /// Lets `work` use the image's file system, given the directory and the block log.
    pub fn record(dir: &Path, image: &Path, work: impl FnOnce(&Path, &Path)) -> Run {
        let before = Disk::read(image);
        let recorder = Recorder::start(dir, image).expect("it could before");
        let mount = Mount::new(&recorder.disk(), dir.join("mounted")).expect("ext4 can be mounted");
        work(mount.dir(), recorder.log());
        drop(mount);
        let log = recorder.log().to_owned();
        drop(recorder);
        Run { before, log: BlockLog::read(&log) }
    }

    /// Starts a server after each of these cuts and lets `check` ask it, given the directory and
    /// the length of the block log at the cut. What it finds wrong is a loss, and so is a start
    /// that fails.
    pub fn sweep(&self, dir: &Path, cuts: &[usize], rng: &mut Rng, check: &Check<'_>) -> Outcome {
        let todo = Mutex::new((Cutter::new(&self.log, self.before.clone()), cuts.iter(), rng));
        let outcome = Mutex::new(Outcome::default());
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (todo, outcome) = (&todo, &outcome);
                let (image, mounted) =
                    (dir.join(format!("image{worker}")), dir.join(format!("mounted{worker}")));
                scope.spawn(move || {
                    loop {
                        let mut next = todo.lock().expect("no panic");
                        let (cutter, cuts, rng) = &mut *next;
                        let Some(&cut) = cuts.next() else { return };
                        let chance = rng.clone();
                        cutter.cut(cut, rng, &image);
                        drop(next);
                        let at = self.log.length_at(cut);
                        let checked = start(&image, &mounted, at, check).map_err(|what| {
                            let again = self.once_more(cut, chance, &image, |image| {
                                start(image, &mounted, at, check)
                            });
                            format!("{what}\n{again}")
                        });
                        outcome.lock().expect("no panic").add(cut, checked);
                    }
                });
            }
        });
        outcome.into_inner().expect("no panic")
    }

    /// Keeps the image of a loss, which no seed brings back (the log depends on the threads' pace),
    /// and says whether a second look at it finds the same.
    fn once_more(
        &self,
        cut: usize,
        mut chance: Rng,
        image: &Path,
        look: impl FnOnce(&Path) -> Result<(usize, String), String>,
    ) -> String {
        self.image(cut, &mut chance, image);
        let kept = match std::env::var_os("POWER_CUT_KEEP") {
            Some(place) => {
                let path = Path::new(&place).join(format!("loss-{cut}-{}.image", chance.next()));
                fs::copy(image, &path).expect("room for a copy");
                format!("kept as {}", path.display())
            }
            None => "not kept".to_owned(),
        };
        let again = look(image).map_or_else(|what| what, |_| "it is not lost".to_owned());
        format!("the image was {kept}; looked at once more: {again}")
    }

    /// Makes an image of the disk after one cut.
    pub fn image(&self, cut: usize, rng: &mut Rng, image: &Path) {
        Cutter::new(&self.log, self.before.clone()).cut(cut, rng, image);
    }
}

/// Asks a server that was started after a cut, and says how many answered writes it looked for.
pub type Check<'a> = dyn Fn(&Path, &mut Client, u64) -> Result<usize, String> + Sync + 'a;

/// The same, and says what it was shown as well.
pub type Ask<'a, Shown> =
    dyn Fn(&Path, &mut Client, u64) -> Result<(Shown, usize), String> + Sync + 'a;

/// What became of the images.
#[derive(Default)]
pub struct Outcome {
    pub images: usize,
    pub looked_for: usize,
    /// How many starts had to cut a torn batch, to finish a rotation.
    pub torn: usize,
    pub changes: usize,
    pub losses: Vec<String>,
}

impl Outcome {
    fn add(&mut self, cut: usize, checked: Result<(usize, String), String>) {
        self.images += 1;
        match checked {
            Ok((looked_for, log)) => {
                self.looked_for += looked_for;
                self.torn += usize::from(log.contains("cut a torn batch"));
                self.changes += usize::from(log.contains("finished an interrupted rotation"));
            }
            Err(what) => self.losses.push(format!("cut {cut}: {what}")),
        }
    }

    /// Adds what became of others.
    pub fn join(&mut self, other: Outcome, of: &str) {
        self.images += other.images;
        self.looked_for += other.looked_for;
        self.torn += other.torn;
        self.changes += other.changes;
        self.losses.extend(other.losses.into_iter().map(|loss| format!("{of}, {loss}")));
    }
}

/// What was looked for on one image, and what the server logged.
fn start(
    image: &Path,
    mounted: &Path,
    at: u64,
    check: &Check<'_>,
) -> Result<(usize, String), String> {
    // If it cannot be mounted, that is no loss, but a disk that no cut can leave.
    let mount = Mount::new(image, mounted.to_owned()).expect("ext4 replays its journal");
    let server = try_start(mount.dir())?;
    let checked = check(mount.dir(), &mut Client::connect(&server), at);
    let log = server.log();
    server.kill9();
    match checked {
        Ok(looked_for) => Ok((looked_for, log)),
        Err(what) => Err(format!("{what}\n{log}")),
    }
}

/// A server on the log in `dir`, or why it does not start.
pub fn try_start(dir: &Path) -> Result<Server, String> {
    Server::spawn(&mut command(dir, &[]))
        .map_err(|refusal| format!("the server does not start: {}", refusal.stderr))
}

/// Starts a server after one cut, on a logged disk again, cuts that run as well, and checks all
/// servers that are started after these second cuts. What the first of them showed must stay.
pub fn cut_twice<Shown: PartialEq + Send + Sync>(
    run: &Run,
    dir: &Path,
    (cut, count): (usize, usize),
    rng: &mut Rng,
    ask: &Ask<'_, Shown>,
) -> Outcome {
    let image = dir.join("image");
    let at = run.log.length_at(cut);
    run.image(cut, rng, &image);
    let mut first = Err("the work was not done".to_owned());
    let mut shown_at = u64::MAX;
    let again = Run::record(dir, &image, |mounted, block_log| {
        first = try_start(mounted).and_then(|server| {
            let shown = ask(mounted, &mut Client::connect(&server), at);
            shown_at = length(block_log);
            server.kill9();
            shown
        });
    });
    let first = match first {
        Ok((shown, _)) => shown,
        Err(what) => {
            let mut outcome = Outcome::default();
            outcome.add(cut, Err(what));
            return outcome;
        }
    };
    let check = |mounted: &Path, client: &mut Client, second: u64| {
        let (shown, looked_for) = ask(mounted, client, at)?;
        match second < shown_at || shown == first {
            true => Ok(looked_for),
            false => Err("what was shown before the second cut is gone".to_owned()),
        }
    };
    let cuts = again.log.some_cuts(count, rng);
    let mut outcome = Outcome::default();
    outcome.join(again.sweep(dir, &cuts, rng, &check), &format!("cut {cut}, and again"));
    outcome
}
