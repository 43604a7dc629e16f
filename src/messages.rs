//! The server's messages on their way to stderr.
//!
//! Whoever has something to say leaves it here and goes on; the `messages` thread writes it. So a pipe that
//! nobody reads, or a terminal that somebody has stopped, holds up no client, no commit and no stop. What
//! does not fit meanwhile is dropped and counted, and the count is a message itself. What was said last is
//! waited for at the end of the process, but not for long: an end is not to hang on a full pipe either.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use env_logger::{Env, Logger, Target};
use log::{Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};

/// Messages that wait to be written: some two thousand, as after a burst beside a slow terminal.
const WAITING_BYTES: usize = 256 << 10;

/// How long the end of the process waits for the last messages to be taken.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread has taken some and is not done with them.
    writing: bool,
    /// Messages that did not fit since the last report.
    dropped: u64,
}

/// Sends messages of `level` and above, or of what `RUST_LOG` says, to stderr from now on; panics, too.
pub fn start(level: &str) -> io::Result<()> {
    let shared = Arc::<Shared>::default();
    let for_thread = shared.clone();
    // Nobody waits for this thread longer than LAST_WORDS, so that it need not end the process with it.
    let thread = std::thread::Builder::new().name("messages".into());
    thread.spawn(move || for_thread.write_all(&mut io::stderr()))?;

    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let style = if colours { "always" } else { "never" };
    let env = Env::default().default_filter_or(level).default_write_style_or(style);
    let target = Target::Pipe(Box::new(Entrance(shared.clone())));
    let logger = env_logger::Builder::from_env(env).target(target).build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(Messages { logger, shared })).map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("thread {}: {panic}", thread.name().unwrap_or("without a name"));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            log::error!("{trace}");
        }
        log::logger().flush();
    }));
    Ok(())
}

/// What the `log` crate is given: the form of a message is env_logger's.
struct Messages {
    logger: Logger,
    shared: Arc<Shared>,
}

impl Log for Messages {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.logger.log(record);
    }

    /// Waits until everything is written, but not longer than [`LAST_WORDS`].
    fn flush(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut state = self.shared.state.lock();
        while state.writing || !state.waiting.is_empty() {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

/// Where env_logger puts a message, whole and in one call.
struct Entrance(Arc<Shared>);

impl Write for Entrance {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        match state.waiting.len() + message.len() <= WAITING_BYTES {
            true => state.waiting.extend_from_slice(message),
            false => state.dropped += 1,
        }
        self.0.changed.notify_all();
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// What the thread does, for ever.
    fn write_all(&self, stderr: &mut dyn Write) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.state.lock();
            state.writing = false;
            self.changed.notify_all();
            while state.waiting.is_empty() {
                self.changed.wait(&mut state);
            }
            state.writing = true;
            std::mem::swap(&mut state.waiting, &mut taken);
            drop(state);
            let written = stderr.write_all(&taken);
            let lost = match written {
                Ok(()) => 0,
                // Closed, or not to be waited for. Part of it may have been taken.
                Err(_) => taken.iter().filter(|&&byte| byte == b'\n').count() as u64,
            };
            taken.clear();
            // Those that found no room came while this was being written.
            let dropped = lost + std::mem::take(&mut self.state.lock().dropped);
            if written.is_ok() && dropped > 0 {
                log::warn!("{dropped} messages were dropped: stderr did not take them in time");
            } else {
                self.state.lock().dropped += dropped;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_finds_no_room_is_dropped_and_counted_and_holds_up_nobody() {
        let shared = Arc::<Shared>::default();
        let mut entrance = Entrance(shared.clone());
        let message = vec![b'x'; WAITING_BYTES / 2];
        for dropped in [0, 0, 1, 2] {
            assert_eq!(entrance.write(&message).expect("it is taken"), message.len());
            assert_eq!(shared.state.lock().dropped, dropped);
        }
        assert_eq!(shared.state.lock().waiting.len(), WAITING_BYTES);
    }
}
