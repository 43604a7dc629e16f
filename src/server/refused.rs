//! The logins and commands that were refused, for ACL LOG.
//!
//! Like ones are one entry with a count, so that a guesser fills the list with his own address once. No password is
//! kept: nothing here ever sees one.

use std::collections::VecDeque;

use crate::command::{Refused as Entry, RefusedFor};
use crate::entry::now_millis;
use crate::sync::Mutex;

/// The most that are kept: Redis's `acllog-max-len`. The oldest are forgotten first.
const MOST: usize = 128;

/// The most bytes of a user's name that are kept.
const NAME_BYTES: usize = 128;

/// An entry counts further logins of its kind for this long: Redis's `ACL_LOG_GROUPING_MAX_TIME_DELTA`.
const SAME_MILLIS: i64 = 60_000;

/// See the head of this file.
#[derive(Default)]
pub struct Refused {
    state: Mutex<State>,
}

/// What is refused.
#[derive(Clone, Copy)]
pub struct Refusing {
    pub reason: RefusedFor,
    /// `toplevel`, or `multi` in a transaction.
    pub context: &'static str,
    pub command: &'static str,
}

/// - `entries` has the latest first, and at most [`MOST`].
#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    next: u64,
}

impl Refused {
    /// This was refused to this user, or as this user, and to the client with this line in CLIENT LIST.
    pub fn note(&self, what: Refusing, user: &[u8], client: String) {
        let Refusing { reason, context, command } = what;
        let user = &user[..user.len().min(NAME_BYTES)];
        let now = now_millis();
        let mut state = self.state.lock();
        let is_same = |entry: &Entry| {
            let kind = (entry.reason, entry.context, entry.command);
            kind == (reason, context, command)
                && entry.user == user
                && now - entry.last <= SAME_MILLIS
        };
        let entry = match state.entries.iter().position(is_same) {
            Some(place) => {
                let entry = state.entries.remove(place).expect("it was just found");
                Entry { count: entry.count + 1, client, last: now, ..entry }
            }
            None => {
                let id = state.next;
                state.next += 1;
                let user = user.to_vec();
                Entry {
                    id,
                    count: 1,
                    reason,
                    context,
                    command,
                    user,
                    client,
                    first: now,
                    last: now,
                }
            }
        };
        state.entries.push_front(entry);
        state.entries.truncate(MOST);
    }

    /// The latest, the last first.
    pub fn latest(&self, most: usize) -> Vec<Entry> {
        self.state.lock().entries.iter().take(most).cloned().collect()
    }

    /// Forgets all.
    pub fn forget(&self) {
        self.state.lock().entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_take_no_more_memory_than_a_few_and_like_ones_are_counted() {
        let refused = Refused::default();
        let what = Refusing { reason: RefusedFor::Login, context: "toplevel", command: "AUTH" };
        for number in 0..1000 {
            let name = [number.to_string().into_bytes(), vec![b'x'; 1000]].concat();
            (0..2).for_each(|_| refused.note(what, &name, "a client".into()));
        }
        let all = refused.latest(usize::MAX);
        assert_eq!(all.len(), MOST);
        assert!(all.iter().all(|entry| entry.count == 2 && entry.user.len() == NAME_BYTES));
        assert_eq!((all[0].id, all[MOST - 1].id), (999, 1000 - MOST as u64));
        refused.forget();
        assert!(refused.latest(10).is_empty());
    }
}
