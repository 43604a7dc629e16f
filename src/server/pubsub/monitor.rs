//! MONITOR: shows every request to the clients that asked for it, in Redis's form.
//!
//! A request is shown when it is about to be carried out; one that is queued in a transaction when it is queued.
//! Administrative commands are not shown, nor are passwords. While nobody watches, a request costs one atomic load.

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::outbox::Outbox;
use crate::command::{Run, SessionCommand, Spec, Words};
use crate::commands;
use crate::doors::Address;
use crate::entry::now_micros;
use crate::sync::Mutex;

/// The most bytes of words that are shown of a request: more of it helps nobody, and each monitor gets a copy.
const SHOWN_BYTES: usize = 64 * 1024;

/// The clients that watch.
#[derive(Default)]
pub struct Monitors {
    watching: Mutex<Vec<Arc<Outbox>>>,
    count: AtomicUsize,
}

impl Monitors {
    /// Whether anyone watches.
    pub fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// A client watches from now on; `confirm` puts its reply before anything else.
    pub fn add(&self, outbox: &Arc<Outbox>, confirm: impl FnOnce()) {
        let mut watching = self.watching.lock();
        if watching.iter().all(|other| other.id != outbox.id) {
            watching.push(outbox.clone());
        }
        self.count.store(watching.len(), Ordering::Relaxed);
        confirm();
    }

    /// A client watches no more.
    pub fn remove(&self, id: u64) {
        let mut watching = self.watching.lock();
        watching.retain(|other| other.id != id);
        self.count.store(watching.len(), Ordering::Relaxed);
    }

    /// Shows a request of a client, or of a script if there is none.
    pub fn show(
        &self,
        spec: &Spec,
        words: &Words<'_>,
        from: (u16, Option<&Outbox>),
        woken: &mut Vec<Arc<Outbox>>,
    ) {
        // Redis shows a script beside its rules, before what that calls.
        let is_script = matches!(spec.run, Run::Script(_));
        if spec.has("admin") || spec.has("skip_monitor") && !is_script {
            return;
        }
        let (database, asking) = from;
        let line = match asking {
            Some(asking) => match &asking.profile.address {
                Address::Path(path) => {
                    line(spec, words, database, format_args!("unix:{}", path.display()))
                }
                address => line(spec, words, database, address),
            },
            // Redis's word for the address.
            None => line(spec, words, database, "lua"),
        };
        // A client that ends its watching with this has seen enough.
        let leaves = matches!(spec.run, Run::Session(SessionCommand::Reset | SessionCommand::Quit));
        let watching = self.watching.lock();
        let shown = watching
            .iter()
            .filter(|outbox| !(leaves && asking.is_some_and(|asking| outbox.id == asking.id)));
        shown.for_each(|outbox| outbox.push(&line, woken));
    }
}

fn line(spec: &Spec, words: &Words<'_>, database: u16, from: impl Display) -> Vec<u8> {
    let now = now_micros();
    let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
    let mut line = format!("+{seconds}.{micros:06} [{database} {from}]").into_bytes();
    for (place, word) in words.iter().enumerate() {
        let word = if commands::is_secret(spec, words, place) { commands::REDACTED } else { word };
        line.extend_from_slice(b" ");
        let room = SHOWN_BYTES.saturating_sub(line.len());
        quote(&word[..word.len().min(room)], &mut line);
        if word.len() > room {
            line.extend_from_slice(b"...");
            break;
        }
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Appends bytes in double quotes, as Redis's `sdscatrepr` does.
fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        let escaped = match byte {
            b'\\' | b'"' => Some(byte),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            7 => Some(b'a'),
            8 => Some(b'b'),
            _ => None,
        };
        match escaped {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None if (b' '..=b'~').contains(&byte) => out.push(byte),
            None => write!(out, "\\x{byte:02x}").expect("writing to memory cannot fail"),
        }
    }
    out.push(b'"');
}
