//! The server's messages on their way to stderr.
//!
//! A thread leaves its message here and goes on; the `messages` thread writes it. So a full pipe, or a
//! terminal that is stopped, holds up no client, no commit and no stop. A message that does not fit is
//! dropped, and a later one says how many were. The end of the process waits for the last messages, but no
//! longer than `LAST_WORDS`.

mod form;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use env_logger::{Env, Logger, Target};
use log::{Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};

pub use form::Form;

/// Bytes of messages that wait to be written: some two thousand messages, a burst on a slow terminal.
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
    /// Whether the thread has taken messages that it has not finished writing.
    writing: bool,
    /// Messages dropped since the last report.
    dropped: u64,
}

/// Sends messages of `level` and above, or of what `RUST_LOG` says, to stderr from now on; panics, too.
pub fn start(level: log::LevelFilter, form: Form) -> io::Result<()> {
    let shared = Arc::<Shared>::default();
    let for_thread = shared.clone();
    // No thread waits for this one longer than LAST_WORDS, so its panic need not end the process.
    let thread = std::thread::Builder::new().name("messages".into());
    thread.spawn(move || for_thread.write_all(&mut io::stderr()))?;

    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let style = if colours { "always" } else { "never" };
    // CONFIG SET loglevel may let more through later. What rustls warns of, a client can cause without end; what matters
    // of it is told by the server, now and then.
    let env = Env::default().default_filter_or("trace,rustls=off").default_write_style_or(style);
    let target = Target::Pipe(Box::new(Entrance(shared.clone())));
    let mut builder = env_logger::Builder::from_env(env);
    form.apply(&mut builder);
    let logger = builder.target(target).build();
    log::set_max_level(match std::env::var_os("RUST_LOG") {
        Some(_) => logger.filter(),
        None => level,
    });
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

/// The logger of the `log` crate; env_logger gives a message its form.
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

/// Takes messages from env_logger, each whole and in one call.
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
    /// Writes messages as they come, for ever.
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
                // stderr is closed, or would block. It may have taken a part.
                Err(_) => taken.iter().filter(|&&byte| byte == b'\n').count() as u64,
            };
            taken.clear();
            // Messages were dropped while these were being written.
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
    fn a_message_without_room_is_dropped_and_counted_and_blocks_no_thread() {
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
