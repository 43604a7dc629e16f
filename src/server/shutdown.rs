//! The order to stop, from a signal or from a test; and the other signals: SIGUSR1 asks for a compaction of
//! the log, SIGHUP has files read anew, the rest do nothing.
//!
//! The first SIGINT or SIGTERM stops the server in order. Another one within [`SAME_WISH`] is the same
//! wish; a later one ends the process at once, which loses nothing that was acknowledged. Signals in
//! [`SURVIVED`] would end a program by default, but a server may get them for other reasons.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{EventfdFlags, eventfd};
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

use crate::sync::{Condvar, Mutex, spawn_vital};

/// The exit code of a process that was told twice to stop: what a shell reports after SIGINT.
const IMPATIENT_EXIT: i32 = 130;

/// `timeout` signals its child and then the group that the child is in, and a shell may do the same: so
/// two signals come for one wish, microseconds apart. A person who presses twice takes longer than this.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Sent for a closed terminal, a timer, a closed pipe, or a limit; a file that has become too large makes the write
/// fail (EFBIG) like any other error. SIGHUP is waited for once the server runs.
const SURVIVED: &[i32] =
    &[SIGHUP, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPIPE, SIGXCPU, SIGXFSZ];

/// What a signal wishes, other than an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGUSR1: compact the log.
    Compact,
    /// SIGHUP: read passwords, users and certificates anew.
    Reload,
}

impl Wish {
    fn of(signal: i32) -> Option<Wish> {
        match signal {
            SIGUSR1 => Some(Wish::Compact),
            SIGHUP => Some(Wish::Reload),
            _ => None,
        }
    }

    fn told(self) -> &'static str {
        match self {
            Wish::Compact => "a compaction is asked for",
            Wish::Reload => "passwords and certificates are read anew",
        }
    }
}

/// Whether the server is to stop. Shared by all threads that ask for it or have to know.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    /// Has something to read once it is asked for.
    wake: OwnedFd,
    flag: AtomicBool,
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// One that nobody has asked for.
    pub fn new() -> anyhow::Result<Shutdown> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
        let (flag, asked, changed) = (AtomicBool::new(false), Mutex::default(), Condvar::new());
        Ok(Shutdown(Arc::new(Inner { wake, flag, asked, changed })))
    }

    /// Whether the server is to stop.
    pub fn is_asked(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed)
    }

    /// The same, for a thread that looks often.
    pub fn flag(&self) -> &AtomicBool {
        &self.0.flag
    }

    /// Asks the server to stop.
    pub fn ask(&self) {
        self.0.flag.store(true, Ordering::Relaxed);
        *self.0.asked.lock() = true;
        self.0.changed.notify_all();
        // An eventfd takes eight bytes; any number but zero can be read.
        if let Err(error) = rustix::io::write(&self.0.wake, &[1; 8]) {
            log::error!("cannot wake the thread that accepts: {error}");
        }
    }

    /// Waits for a while, or until the server is asked to stop.
    pub fn wait(&self, at_most: Duration) {
        let mut asked = self.0.asked.lock();
        if !*asked {
            self.0.changed.wait_for(&mut asked, at_most);
        }
    }

    /// Lets the process survive the signals in `SURVIVED`. To be called before any file is written, and for tools too.
    pub fn survive_signals() -> anyhow::Result<()> {
        for &signal in SURVIVED {
            // A handler that does nothing of interest; no system call is interrupted by it (SA_RESTART).
            signal_hook::flag::register(signal, Arc::default())
                .with_context(|| format!("cannot survive signal {signal}"))?;
        }
        Ok(())
    }

    /// Starts the `signals` thread, which asks at the first SIGINT or SIGTERM, and calls `obey` for what other
    /// signals wish.
    pub fn on_signals(&self, obey: impl Fn(Wish) + Send + 'static) -> anyhow::Result<()> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP]).context("cannot wait for signals")?;
        let shutdown = self.clone();
        spawn_vital("signals", move || {
            let mut asked_at: Option<Instant> = None;
            for signal in signals.forever() {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
                if let Some(wish) = Wish::of(signal) {
                    log::info!("{name}: {}", wish.told());
                    obey(wish);
                    continue;
                }
                match asked_at {
                    None => {
                        log::info!("{name}: stopping");
                        shutdown.ask();
                        asked_at = Some(Instant::now());
                    }
                    Some(at) if at.elapsed() < SAME_WISH => log::debug!("{name} again: stopping"),
                    Some(_) => {
                        log::warn!("{name} again: ending at once");
                        log::logger().flush();
                        std::process::exit(IMPATIENT_EXIT);
                    }
                }
            }
        })
        .context("cannot start the signals thread")?;
        Ok(())
    }
}

/// To be waited for.
impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}
