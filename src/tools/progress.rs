//! A tool's progress, as one line on stderr: shown on a terminal only, and removed at the end.

use indicatif::{ProgressBar, ProgressStyle};

use crate::wal::reader::Replayed;

/// How much of a log has been read.
pub struct Progress(ProgressBar);

impl Progress {
    /// Nothing yet of `total` bytes.
    pub fn new(what: &'static str, total: u64) -> Progress {
        let style = ProgressStyle::with_template("{msg} {percent:>3} %");
        let bar = ProgressBar::new(total).with_message(what);
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Counts a batch that was read.
    pub fn add(&mut self, batch: &Replayed<'_>) {
        self.0.inc(batch.frame.header.frame_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
