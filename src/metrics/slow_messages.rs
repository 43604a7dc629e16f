//! Messages about slow commands, beside SLOWLOG: for a log that outlives the server.
//!
//! A message tells how long the command took, whose it was, and its first key, shortened; never a value. A flood of slow
//! commands is no flood of messages: a few are told each second, and the next one counts the others.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::command::Words;
use crate::quote;

/// Messages in a second: enough to see which clients it is, and no burden.
const MOST_A_SECOND: u32 = 10;

/// How much a message tells of a slow command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SlowMessages {
    /// Nothing.
    #[default]
    No,
    /// The command and its key.
    Yes,
    /// The command without its key.
    Redacted,
}

/// Whose command it was.
pub struct Caller {
    /// Its address.
    pub address: String,
    /// The name that it has given itself.
    pub name: String,
    /// As whom it is logged in, if it is.
    pub user: Option<String>,
}

/// Tells of slow commands at a limited rate.
#[derive(Debug, Default)]
pub struct Teller {
    state: Mutex<State>,
    /// Without it no key is told.
    first_key: OnceLock<FirstKey>,
}

/// The first of a request's words that is a key, if any is.
pub type FirstKey = for<'a> fn(&'a Words<'a>) -> Option<&'a [u8]>;

#[derive(Debug, Default)]
struct State {
    what: SlowMessages,
    /// When the running second began.
    began: Option<Instant>,
    /// Messages in it.
    told: u32,
    /// Commands since the last message.
    untold: u64,
}

impl Teller {
    /// How much to tell from now on.
    pub fn set(&self, what: SlowMessages) {
        self.state.lock().what = what;
    }

    /// Has keys told from other words by this function, once: metrics know no command.
    pub fn find_keys_by(&self, first_key: FirstKey) {
        self.first_key.get_or_init(|| first_key);
    }

    /// The key to tell of a request.
    pub fn key_of<'a>(&self, words: &'a Words<'a>) -> Option<&'a [u8]> {
        self.first_key.get().and_then(|first_key| first_key(words))
    }

    /// Tells of a command, with its first key if it has any, unless enough was told of late.
    pub fn tell(&self, took: Duration, command: &[u8], key: Option<&[u8]>, caller: &Caller) {
        let Some((what, untold)) = self.state.lock().admit(Instant::now()) else { return };
        let others = match untold {
            0 => String::new(),
            count => format!("; {count} more since the last message"),
        };
        log::warn!("slow command: {}{others}", sentence(what, took, command, key, caller));
    }
}

impl State {
    /// How much to tell now, and how many were not told before it.
    fn admit(&mut self, now: Instant) -> Option<(SlowMessages, u64)> {
        if self.what == SlowMessages::No {
            return None;
        }
        let is_over = |began| now.saturating_duration_since(began) >= Duration::from_secs(1);
        if self.began.is_none_or(is_over) {
            (self.began, self.told) = (Some(now), 0);
        }
        if self.told == MOST_A_SECOND {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some((self.what, std::mem::take(&mut self.untold)))
    }
}

fn sentence(
    what: SlowMessages,
    took: Duration,
    command: &[u8],
    key: Option<&[u8]>,
    caller: &Caller,
) -> String {
    let command = command.to_ascii_uppercase();
    let key = key.filter(|_| what == SlowMessages::Yes);
    let key = key.map(|key| format!(" {}", quoted(key))).unwrap_or_default();
    let Caller { address, name, user } = caller;
    let name = if name.is_empty() { "" } else { &format!(" ({})", quoted(name.as_bytes())) };
    let user = user.as_ref().map(|user| format!(", user {}", quoted(user.as_bytes())));
    format!(
        "{}{key} took {:.3} ms; client {address}{name}{}",
        quoted(&command),
        took.as_secs_f64() * 1000.0,
        user.unwrap_or_default()
    )
}

fn quoted(word: &[u8]) -> String {
    let mut shown = Vec::new();
    quote::print(word, &mut shown);
    String::from_utf8_lossy(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_ten_times_a_second_and_then_counted() {
        let mut state = State { what: SlowMessages::Yes, ..State::default() };
        let began = Instant::now();
        let told = (0..1000).filter_map(|_| state.admit(began)).count();
        assert_eq!(told, 10);
        let later = began + Duration::from_secs(1);
        assert_eq!(state.admit(later), Some((SlowMessages::Yes, 990)));
        assert_eq!(state.admit(later), Some((SlowMessages::Yes, 0)));
        let mut silent = State::default();
        assert_eq!(silent.admit(began), None);
    }

    #[test]
    fn a_message_has_the_key_unless_it_is_redacted() {
        let caller = Caller { address: "h:1".into(), name: "a b".into(), user: Some("eve".into()) };
        let said = |what, key: Option<&str>| {
            let took = Duration::from_micros(12_345);
            sentence(what, took, b"set", key.map(str::as_bytes), &caller)
        };
        let expected = r#"SET "k\n" took 12.345 ms; client h:1 ("a b"), user eve"#;
        assert_eq!(said(SlowMessages::Yes, Some("k\n")), expected);
        let expected = r#"SET took 12.345 ms; client h:1 ("a b"), user eve"#;
        assert_eq!(said(SlowMessages::Redacted, Some("k\n")), expected);
        assert_eq!(said(SlowMessages::Yes, None), expected);
    }
}
