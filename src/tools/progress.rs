//! How far a tool is, in one line on stderr: only a terminal gets it, and it is gone at the end.

use indicatif::{ProgressBar, ProgressStyle};

use crate::wal::reader::Replayed;

/// Reading of a log, done when its bytes are.
pub struct Progress(ProgressBar);

impl Progress {
    /// For something that is done when `total` bytes are.
    pub fn new(what: &'static str, total: u64) -> Progress {
        let style = ProgressStyle::with_template("{msg} {percent:>3} %");
        let bar = ProgressBar::new(total).with_message(what);
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// A batch was read.
    pub fn add(&mut self, batch: &Replayed<'_>) {
        self.0.inc(batch.frame.header.frame_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
