//! A tool's progress, as one line on stderr: shown on a terminal only, and removed at the end.

use indicatif::{ProgressBar, ProgressStyle};

use crate::wal::reader::Replayed;

/// How much there is to read, in whatever is known beforehand.
#[derive(Clone, Copy)]
pub enum Amount {
    /// Bytes of files.
    Bytes(u64),
    /// Records of a log elsewhere.
    Records(u64),
}

/// How much of a log has been read.
pub struct Progress(ProgressBar, Amount);

impl Progress {
    /// Nothing yet.
    pub fn new(what: &'static str, all: Amount) -> Progress {
        let style = ProgressStyle::with_template("{msg} {percent:>3} %");
        let (Amount::Bytes(total) | Amount::Records(total)) = all;
        let bar = ProgressBar::new(total).with_message(what);
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())), all)
    }

    /// Counts a batch that was read.
    pub fn add(&mut self, batch: &Replayed<'_>) {
        self.0.inc(match self.1 {
            Amount::Bytes(_) => batch.frame.header.frame_bytes(),
            Amount::Records(_) => batch.records().into(),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
