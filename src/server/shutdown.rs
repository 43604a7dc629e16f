//! The order to stop, from a signal or from a test; and the other signal, SIGUSR1, which asks for a
//! compaction of the log.
//!
//! The first SIGINT or SIGTERM stops the server in order; the second ends the process at once,
//! which loses nothing that was acknowledged.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::sync::{Condvar, Mutex};

/// The exit code of a process that was told twice to stop: that of one ended by SIGINT in a shell.
const IMPATIENT_EXIT: i32 = 130;

/// Shared by everyone who asks or has to know.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Default)]
struct Inner {
    flag: AtomicBool,
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// Whether the server is to stop.
    pub fn is_asked(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed)
    }

    /// The same, for those who look often.
    pub fn flag(&self) -> &AtomicBool {
        &self.0.flag
    }

    /// Asks the server to stop. `listener` is the one it accepts from, which is woken up.
    pub fn ask(&self, listener: &TcpListener) {
        self.0.flag.store(true, Ordering::Relaxed);
        *self.0.asked.lock() = true;
        self.0.changed.notify_all();
        if let Err(error) = rustix::net::shutdown(listener, rustix::net::Shutdown::Read) {
            log::error!("cannot stop listening: {error}");
        }
    }

    /// Waits for a while, or until the server is asked to stop.
    pub fn wait(&self, at_most: Duration) {
        let mut asked = self.0.asked.lock();
        if !*asked {
            self.0.changed.wait_for(&mut asked, at_most);
        }
    }

    /// Starts the `signals` thread, which asks at the first SIGINT or SIGTERM, and calls `compact` at
    /// SIGUSR1.
    pub fn on_signals(
        &self,
        listener: &TcpListener,
        compact: impl Fn() + Send + 'static,
    ) -> anyhow::Result<()> {
        let listener = listener.try_clone().context("cannot share the listener")?;
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGUSR1]).context("cannot wait for signals")?;
        let shutdown = self.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
                    if signal == SIGUSR1 {
                        log::info!("{name}: a compaction is asked for");
                        compact();
                        continue;
                    }
                    if shutdown.is_asked() {
                        log::warn!("{name} again: ending at once");
                        std::process::exit(IMPATIENT_EXIT);
                    }
                    log::info!("{name}: stopping");
                    shutdown.ask(&listener);
                }
            })
            .context("cannot start the signals thread")?;
        Ok(())
    }
}
