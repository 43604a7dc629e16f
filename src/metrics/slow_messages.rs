//! Messages about slow commands, beside SLOWLOG: for a log that outlives the server.
//!
//! A message tells how long the command took, whose it was, and its key, shortened; never a value. A flood of slow
//! commands is no flood of messages: a few are told each second, and the next one counts the others.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::quote;

/// Messages in a second: enough to see which clients it is, and no burden.
const MOST_A_SECOND: u32 = 10;

/// What is told of a slow command.
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
    /// What it calls itself.
    pub name: String,
    /// As whom it is logged in, if it is.
    pub user: Option<String>,
}

/// Tells of slow commands at a limited rate.
#[derive(Debug, Default)]
pub struct Teller(Mutex<State>);

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
    /// What to tell from now on.
    pub fn set(&self, what: SlowMessages) {
        self.0.lock().what = what;
    }

    /// Tells of a command, unless enough was told of late.
    pub fn tell(&self, took: Duration, words: &[Vec<u8>], caller: &Caller) {
        let Some((what, untold)) = self.0.lock().admit(Instant::now()) else { return };
        let others = match untold {
            0 => String::new(),
            count => format!("; {count} more since the last message"),
        };
        log::warn!("slow command: {}{others}", sentence(what, took, words, caller));
    }
}

impl State {
    /// What to tell now, and how many were not told before it.
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

fn sentence(what: SlowMessages, took: Duration, words: &[Vec<u8>], caller: &Caller) -> String {
    let command = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let key = key(&command, words).filter(|_| what == SlowMessages::Yes);
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

/// The first key, which is the word after the command, except for scripts, where a number comes between.
fn key<'a>(command: &[u8], words: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    let at = match command.starts_with(b"EVAL") {
        true if words.get(2).is_some_and(|count| count != b"0") => 3,
        true => return None,
        false => 1,
    };
    words.get(at).map(Vec::as_slice)
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
    fn a_message_has_the_key_unless_it_is_redacted_and_never_a_value() {
        let caller = Caller { address: "h:1".into(), name: "a b".into(), user: Some("eve".into()) };
        let said = |what, words: &[&str]| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            sentence(what, Duration::from_micros(12_345), &words, &caller)
        };
        let set = ["set", "k\n", "secret"];
        let expected = r#"SET "k\n" took 12.345 ms; client h:1 ("a b"), user eve"#;
        assert_eq!(said(SlowMessages::Yes, &set), expected);
        let expected = r#"SET took 12.345 ms; client h:1 ("a b"), user eve"#;
        assert_eq!(said(SlowMessages::Redacted, &set), expected);
        let eval = said(SlowMessages::Yes, &["EVAL", "return 1", "1", "key", "value"]);
        assert!(eval.starts_with("EVAL key took "), "{eval}");
        let eval = said(SlowMessages::Yes, &["EVALSHA", "f00", "0", "value"]);
        assert!(eval.starts_with("EVALSHA took "), "{eval}");
    }
}
