//! The `segments` thread: makes the next segment before it is needed.
//!
//! Zero-filling takes as long as writing, so it happens beside the commits and never in one. One
//! prepared segment is kept at all times; it is also the reserve that lets a full disk be noticed
//! before a commit runs into it. The thread also cuts full segments to their content. It never
//! touches the segment that is being written.
//!
//! A commit's flush takes along what was written beside it, so the zeros come in small pieces with rests between
//! them, as long as there is time. (Without rests, and in pieces of 256 KiB, one in a hundred SETs of 50 clients with
//! pipelines of 16 took 3.0 ms instead of 2.1.)

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::{Access, Disk, DiskFile};
use super::segment::{LARGE_PIECE, Names, SMALL_PIECE, Segment};
use crate::sync::spawn_vital;
use crate::sync::thread::JoinHandle;

/// How long to wait before another attempt where the disk is full: often enough that freed space
/// is found before the running segment ends, seldom enough to be no load.
const RETRY: Duration = Duration::from_secs(1);

/// It rests, and takes small pieces, only while the next segment is that many times as full of zeros as the
/// running one is of batches: so it is ready by the middle of that one's time, and a compaction need not wait
/// until it begins.
const LEAD: u64 = 2;

/// After each piece of zeros it rests so many times as long as that took.
const RESTS: u32 = 4;

/// But not longer than this.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// Handle to the thread.
pub struct Preparer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How much of the running segment is used, in thousandths.
    used: AtomicU64,
}

#[derive(Default)]
struct State {
    /// How long the next segment is to be; `None` when it has been made.
    wanted: Option<u64>,
    prepared: Option<Box<dyn DiskFile>>,
    /// Why the last attempt failed.
    error: Option<io::Error>,
    /// A full segment and the length of its content.
    full: Vec<(PathBuf, u64)>,
    /// Somebody waits for it.
    hurry: bool,
    stop: bool,
}

impl Preparer {
    /// Starts the thread and lets it prepare a segment of `len` bytes.
    pub fn start(
        disk: Arc<dyn Disk>,
        names: Names,
        access: Access,
        len: u64,
    ) -> io::Result<Preparer> {
        let state = State { wanted: Some(len), ..State::default() };
        let (state, changed, used) = (Mutex::new(state), Condvar::new(), 0.into());
        let shared = Arc::new(Shared { state, changed, used });
        let for_thread = shared.clone();
        let run = move || run(&for_thread, &*disk, &names, access);
        let thread = spawn_vital("segments", run)?;
        Ok(Preparer { shared, thread: Some(thread) })
    }

    /// Takes the prepared file, which stands at [`Names::next`]. Waits for one that is being
    /// made; where that has failed it does not wait, but says why.
    pub fn take(&self) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(file) = state.prepared.take() {
                return Ok(file);
            }
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            state.hurry = true;
            self.shared.changed.notify_all();
            self.shared.changed.wait(&mut state);
        }
    }

    /// The committer tells how much of the running segment is used.
    pub fn note_used(&self, end: u64, file_bytes: u64) {
        self.shared.used.store(thousandths(end, file_bytes), Ordering::Relaxed);
    }

    /// Whether [`Preparer::take`] would not wait; why the last attempt failed, if it did.
    pub fn is_ready(&self) -> Result<bool, String> {
        let state = self.shared.state.lock();
        match (&state.prepared, &state.error) {
            (Some(_), _) => Ok(true),
            (None, None) => Ok(false),
            (None, Some(error)) => Err(error.to_string()),
        }
    }

    /// Asks for the next segment, of `len` bytes, and for the one just filled to be cut to its
    /// content.
    pub fn next(&self, len: u64, full: (PathBuf, u64)) {
        self.note_used(0, len);
        let mut state = self.shared.state.lock();
        state.wanted = Some(len);
        state.full.push(full);
        self.shared.changed.notify_all();
    }

    /// Ends the thread, and waits for it.
    pub fn stop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("its panic ends the process");
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, disk: &dyn Disk, names: &Names, access: Access) {
    let mut state = shared.state.lock();
    while !state.stop {
        if let Some((path, content)) = state.full.pop() {
            parking_lot::MutexGuard::unlocked(&mut state, || cut(disk, &path, content));
            continue;
        }
        let Some(len) = state.wanted else {
            shared.changed.wait(&mut state);
            continue;
        };
        let made = parking_lot::MutexGuard::unlocked(&mut state, || {
            let mut began = Instant::now();
            let file = Segment::prepare(disk, &names.next(), access, len, &mut |filled| {
                let piece = shared.pace(began.elapsed(), thousandths(filled, len));
                began = Instant::now();
                piece
            })?;
            disk.sync_directory(names.directory())?;
            Ok::<_, io::Error>(file)
        });
        match made {
            Ok(file) => {
                state.prepared = Some(file);
                state.error = None;
                state.wanted = None;
                state.hurry = false;
                shared.changed.notify_all();
            }
            // Given up half way; the stop removes it.
            Err(_) if state.stop => {}
            Err(error) => {
                log::error!("cannot prepare the next segment, will try again: {error}");
                state.error = Some(error);
                shared.changed.notify_all();
                shared.changed.wait_for(&mut state, RETRY);
            }
        }
    }
}

impl Shared {
    /// Before the next piece, behind one that took so long, when that much is filled: rests if
    /// there is time, and says how large a piece is to be: none at a stop, which does not wait for the rest.
    fn pace(&self, elapsed: Duration, filled: u64) -> usize {
        let mut state = self.state.lock();
        if state.stop {
            return 0;
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

/// Frees the zeros behind the content of a full segment. That saves space and nothing else: the
/// reader finds the end of a segment by its frames.
fn cut(disk: &dyn Disk, path: &std::path::Path, content: u64) {
    let done = disk.open(path, Access::Buffered).and_then(|file| file.set_len(content));
    if let Err(error) = done {
        log::warn!("a full segment keeps its spare zeros: {error}");
    }
}
