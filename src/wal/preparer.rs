//! The `segments` thread: makes the next segment before it is needed.
//!
//! Zero-filling takes as long as writing, so it happens beside the commits and never in one. One
//! prepared segment is kept at all times, so that a full disk is noticed before a commit runs into
//! it. If none can be made, the unfinished file is removed at once, and the thread tries again
//! while the log reports that it is short of room. The thread also cuts full segments to their
//! content, and keeps the reserve ([`super::guard::reserve`]). It never touches the active
//! segment, the one that is being written.
//!
//! A commit's flush also flushes what was written beside it, so the zeros come in small pieces with
//! rests between them, as long as there is time. (Without rests, and in pieces of 256 KiB, one in a
//! hundred SETs of 50 clients with pipelines of 16 took 3.0 ms instead of 2.1.)

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::disk::{Access, Disk, DiskFile};
use super::guard::reserve::Reserve;
use super::health::Health;
use super::names::Names;
use super::options::Options;
use super::segment::{LARGE_PIECE, SMALL_PIECE};
use crate::sync::{Stop, Worker};

/// How long to wait between attempts on a full disk: short enough that a client does not notice,
/// and four attempts a second are no load.
const RETRY: Duration = Duration::from_millis(250);

/// How often the thread checks for room for the reserve, if there was none or the reserve was given
/// up.
const RESERVE_RETRY: Duration = Duration::from_secs(1);

/// The thread rests, and writes small pieces, only while the next segment is at least `LEAD` times
/// as full of zeros as the active one is of batches: so it is ready when the active one is half
/// full, and a compaction need not wait until that is full. (With values of 64 KiB: 50 clients write 1.14 to
/// 1.25 times as much as without it, and the longest SET of 8 clients takes 10 ms instead of 118 to 235 ms.)
const LEAD: u64 = 2;

/// After each piece of zeros the thread rests `RESTS` times as long as the piece took.
const RESTS: u32 = 4;

/// But never longer than this.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// What the log and the thread share.
pub struct Preparer {
    state: Mutex<State>,
    changed: Condvar,
    /// How much of the active segment is used, in thousandths.
    used: AtomicU64,
    health: Arc<Health>,
}

/// Where segments are made, and how.
pub struct Site {
    /// Where the log is.
    pub disk: Arc<dyn Disk>,
    /// What it is called.
    pub names: Names,
    /// How it is kept.
    pub options: Options,
    /// What it leaves free.
    pub reserve: Arc<Reserve>,
    /// Whether it takes writes.
    pub health: Arc<Health>,
}

#[derive(Default)]
struct State {
    /// How long the next segment is to be; `None` once it has been made.
    wanted: Option<u64>,
    prepared: Option<Box<dyn DiskFile>>,
    /// The segment being made has its space, so only a failing disk can prevent it.
    has_space: bool,
    /// Why the last attempt failed. A segment prepared nevertheless is the last one: made in the
    /// room left for a snapshot, and for removals only.
    error: Option<Arc<str>>,
    /// Full segments, each with the length of its content.
    full: Vec<(PathBuf, u64)>,
    /// The committer or the compactor waits for it.
    hurry: bool,
    /// The committer has used up the last segment, and needs another for removals.
    needs_last: bool,
    stop: bool,
}

impl State {
    /// No other is made until the rotation is done: it would have the same name, and overwrite this
    /// file.
    fn take(&mut self) -> Option<Box<dyn DiskFile>> {
        let file = self.prepared.take()?;
        (self.wanted, self.needs_last) = (None, false);
        Some(file)
    }
}

impl Preparer {
    /// Starts the thread and lets it prepare a segment of `len` bytes.
    pub fn start(site: Site, len: u64) -> io::Result<Worker<Preparer>> {
        let state = Mutex::new(State { wanted: Some(len), ..State::default() });
        let health = site.health.clone();
        let preparer = Preparer { state, changed: Condvar::new(), used: 0.into(), health };
        Worker::start("segments", preparer, move |preparer| preparer.run(&site))
    }

    /// Takes the prepared file, which stands at [`Names::next`]. Waits for one that is being made.
    /// If the last attempt failed, waits for one more, which may use the space of the reserve; if
    /// that fails, returns why: the log is full.
    pub fn take(&self) -> Result<Box<dyn DiskFile>, Arc<str>> {
        let mut state = self.wait_for_next()?;
        let file = state.take().expect("waited for");
        Ok(file)
    }

    /// The length of the segment that [`Preparer::take`] will return. Waits for it in the same way.
    pub fn next_bytes(&self) -> Result<u64, Arc<str>> {
        let state = self.wait_for_next()?;
        let len = state.prepared.as_ref().map_or(Ok(0), |file| file.len());
        len.map_err(|error| error.to_string().into())
    }

    fn wait_for_next(&self) -> Result<MutexGuard<'_, State>, Arc<str>> {
        let mut state = self.state.lock();
        let mut has_asked = false;
        while state.prepared.is_none() {
            if state.error.is_some() && state.wanted.is_some() && !has_asked {
                (has_asked, state.needs_last) = (true, true);
            }
            if !state.needs_last {
                self.check(&state)?;
            }
            self.wait_for_change(&mut state);
        }
        Ok(state)
    }

    /// Takes it without waiting; `None` if it is being made.
    pub fn try_take(&self) -> Result<Option<Box<dyn DiskFile>>, Arc<str>> {
        let mut state = self.state.lock();
        match (state.take(), &state.error) {
            (None, Some(why)) => Err(why.clone()),
            (prepared, _) => Ok(prepared),
        }
    }

    /// Waits until it is known whether another segment will follow: until that has its space, which
    /// it gets before its zeros. Fails if none can be made: the log is full.
    pub fn expect(&self) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        while state.prepared.is_none() && state.error.is_none() && !state.has_space {
            self.wait_for_change(&mut state);
        }
        self.check(&state)
    }

    /// Waits until the next segment is there after all, but not longer than `time`.
    pub fn wait(&self, time: Duration) {
        let mut state = self.state.lock();
        if state.prepared.is_none() {
            state.hurry = true;
            self.changed.notify_all();
            self.changed.wait_for(&mut state, time);
        }
    }

    /// Notes how much of the active segment is used.
    pub fn note_used(&self, end: u64, file_bytes: u64) {
        self.used.store(thousandths(end, file_bytes), Ordering::Relaxed);
    }

    /// Asks for the next segment, of `len` bytes, and for the one just filled to be cut to its
    /// content.
    pub fn next(&self, len: u64, full: (PathBuf, u64)) {
        self.note_used(0, len);
        let mut state = self.state.lock();
        (state.wanted, state.has_space) = (Some(len), false);
        state.full.push(full);
        self.changed.notify_all();
    }

    /// Notes that a batch had room after one that was too large: so room is no longer short, unless
    /// no segment can be made.
    pub fn note_room(&self) {
        let state = self.state.lock();
        if state.error.is_none() {
            self.health.has_room();
        }
    }

    /// Wakes the thread: there may be room where there was none.
    pub fn look_again(&self) {
        self.changed.notify_all();
    }

    /// Asks for a segment again: the one that was taken was not used.
    pub fn again(&self, len: u64) {
        let mut state = self.state.lock();
        (state.wanted, state.has_space) = (Some(len), false);
        self.changed.notify_all();
    }
}

impl Preparer {
    fn run(&self, site: &Site) {
        site.reserve.adopt(&*site.disk, &site.names);
        let mut state = self.state.lock();
        loop {
            // Also at a stop: it takes no time, and a start does not do it.
            if let Some((path, content)) = state.full.pop() {
                MutexGuard::unlocked(&mut state, || cut(&*site.disk, &path, content));
                continue;
            }
            if state.stop {
                return;
            }
            match state.wanted {
                _ if state.error.is_some() && state.prepared.is_some() => {
                    self.look_for_room(&mut state, site);
                }
                Some(len) => self.prepare(&mut state, site, len),
                None => self.keep_reserve(&mut state, site),
            }
        }
    }

    /// The prepared segment is the last one. It becomes an ordinary one as soon as there is room
    /// for more.
    fn look_for_room(&self, state: &mut MutexGuard<'_, State>, site: &Site) {
        let Site { disk, names, reserve, health, .. } = site;
        let spendable = MutexGuard::unlocked(state, || reserve.spendable(&**disk, names));
        let has_room = spendable.is_ok_and(|(free, _)| free > 0);
        if has_room && state.prepared.is_some() {
            (state.wanted, state.error) = (None, None);
            health.has_room();
            self.changed.notify_all();
        } else if state.prepared.is_some() && !state.stop {
            self.changed.wait_for(state, RETRY);
        }
    }

    /// No segment is wanted: makes the reserve if there is none, and waits.
    fn keep_reserve(&self, state: &mut MutexGuard<'_, State>, site: &Site) {
        let Site { disk, names, options, reserve, .. } = site;
        MutexGuard::unlocked(state, || reserve.make(&**disk, names, options));
        if state.wanted.is_none() && state.full.is_empty() && !state.stop {
            match reserve.stands() {
                true => self.changed.wait(state),
                false => drop(self.changed.wait_for(state, RESERVE_RETRY)),
            }
        }
    }

    fn prepare(&self, state: &mut MutexGuard<'_, State>, site: &Site, len: u64) {
        let made = MutexGuard::unlocked(state, || self.make(site, len));
        state.hurry = false;
        match made {
            Ok(file) => {
                assert!(state.prepared.is_none(), "one segment is prepared at a time");
                state.prepared = Some(file);
                state.error = None;
                (state.wanted, state.needs_last) = (None, false);
                site.health.has_room();
                self.changed.notify_all();
            }
            // Given up half way at a stop, which removes it.
            Err(_) if state.stop => {}
            Err(error) => self.prepare_last(state, site, &error),
        }
    }

    fn make(&self, site: &Site, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let Site { disk, names, options, reserve, .. } = site;
        let mut began = Instant::now();
        let mut pace = |filled, len| {
            let piece = self.pace(began.elapsed(), thousandths(filled, len));
            began = Instant::now();
            piece
        };
        let next = names.next();
        let file = reserve.prepare_segment(&**disk, names, &next, options, len, &mut pace)?;
        disk.sync_directory(names.directory())?;
        Ok(file)
    }

    /// No ordinary segment could be made because of `error`: makes the last one, in the room left
    /// for a snapshot, and in that of the reserve if the committer needs it.
    fn prepare_last(&self, state: &mut MutexGuard<'_, State>, site: &Site, error: &io::Error) {
        let Site { disk, names, options, reserve, health } = site;
        let why = Arc::from(error.to_string());
        health.is_short(&why);
        (state.error, state.has_space) = (Some(why), false);
        let is_needed = state.needs_last;
        let last = MutexGuard::unlocked(state, || {
            let prepare = || reserve.prepare_last(&**disk, names, &names.next(), options);
            match prepare() {
                Err(_) if is_needed && reserve.give_up(&**disk, names) => {
                    log::info!("the reserve is given up, so that keys can be removed");
                    prepare()
                }
                last => last,
            }
        });
        assert!(state.prepared.is_none(), "one segment is prepared at a time");
        state.prepared = last.ok();
        state.needs_last &= !is_needed;
        self.changed.notify_all();
        if !state.stop && !state.needs_last {
            self.changed.wait_for(state, RETRY);
        }
    }
}

impl Stop for Preparer {
    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }
}

impl Preparer {
    fn wait_for_change(&self, state: &mut MutexGuard<'_, State>) {
        state.hurry = true;
        self.changed.notify_all();
        self.changed.wait(state);
    }

    /// Called with the lock held, so that an attempt that succeeds comes before or after.
    fn check(&self, state: &State) -> Result<(), Arc<str>> {
        match &state.error {
            None => Ok(()),
            Some(why) => {
                self.health.is_full(why);
                Err(why.clone())
            }
        }
    }

    /// Called between pieces, after one that took `elapsed`, with `filled` thousandths done: rests
    /// if there is time, and returns the next piece's size in blocks: 0 at a stop, which does not
    /// wait for the rest.
    fn pace(&self, elapsed: Duration, filled: u64) -> usize {
        let mut state = self.state.lock();
        if state.stop {
            return 0;
        }
        if !state.has_space {
            state.has_space = true;
            self.changed.notify_all();
        }
        if filled < LEAD * self.used.load(Ordering::Relaxed) || state.hurry {
            return LARGE_PIECE;
        }
        self.changed.wait_for(&mut state, (elapsed * RESTS).min(LONGEST_REST));
        if state.stop { 0 } else { SMALL_PIECE }
    }
}

fn thousandths(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000) / whole.max(1)
}

/// Frees the zeros after the content of a full segment. That saves space and nothing else: the
/// reader finds the end of a segment by its frames.
fn cut(disk: &dyn Disk, path: &std::path::Path, content: u64) {
    let done = disk.open(path, Access::Buffered).and_then(|file| file.set_len(content));
    if let Err(error) = done {
        log::warn!("cannot cut the zeros off a full segment: {error}");
    }
}
