//! How far a tool is, in one line on stderr, if somebody looks: only a terminal gets it.

use std::io::IsTerminal;

use crate::wal::reader::Replayed;

/// A line that is written over again and again, and gone at the end.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    shown: Option<u64>,
    is_watched: bool,
}

impl Progress {
    /// For something that is done when `total` bytes are.
    pub fn new(what: &'static str, total: u64) -> Progress {
        let is_watched = std::io::stderr().is_terminal();
        Progress { what, total, done: 0, shown: None, is_watched }
    }

    /// A batch was read.
    pub fn add(&mut self, batch: &Replayed<'_>) {
        self.done += batch.frame.header.frame_bytes();
        let percent = self.done.min(self.total) * 100 / self.total.max(1);
        if self.is_watched && self.shown != Some(percent) {
            eprint!("\r{} {percent:3} %", self.what);
            self.shown = Some(percent);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
