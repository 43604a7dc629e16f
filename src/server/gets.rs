//! The GETs of a pipeline, answered as one step: their waits for memory overlap, and the clock, the locks of the
//! shards and the counters are asked once for all of them.
//!
//! They are gathered until another command comes, or nothing more has arrived; no request of another kind is begun
//! before they are answered. A step also ends with a long reply: at most one of these is in memory before it is sent.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use smallvec::SmallVec;

use super::direct::{Direct, SEND_BYTES};
use super::outbox::Outbox;
use crate::command::{Answer, Command, CommandId, Dialect, Refusal, Reply, ShortKey};
use crate::engine::{Answered, Engine};
use crate::protocol;

/// The most that are gathered: with more, little more overlaps (see `store::together`), and replies come later.
const MOST: usize = 64;

/// See the head of this file.
///
/// - All are about one database. Those before `answered` are answered.
#[derive(Default)]
pub struct Gets {
    list: Vec<Get>,
    answered: usize,
    database: u16,
    id: Option<CommandId>,
}

/// A GET that waits for its reply.
struct Get {
    command: Command,
    dialect: Dialect,
    is_muted: bool,
}

/// The result of a step.
pub struct Done {
    /// The key of the last one.
    pub last: ShortKey,
    /// The last reply is long, and is to be sent at once.
    pub is_long: bool,
    /// How long the step took.
    pub elapsed: Duration,
}

impl Gets {
    /// Adds one; returns whether there is no room for another.
    pub fn add(&mut self, command: Command, dialect: Dialect, is_muted: bool) -> bool {
        self.list.push(Get { command, dialect, is_muted });
        self.list.len() == MOST
    }

    /// The next ones are about this database, and are counted under this name.
    pub fn begin(&mut self, database: u16, id: Option<CommandId>) {
        debug_assert!(
            self.list.is_empty() || self.database == database,
            "another database is selected after all are answered"
        );
        (self.database, self.id) = (database, id);
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Answers those that wait, as far as their replies are short. Forgets them once all are answered.
    pub fn answer(
        &mut self,
        engine: &Engine,
        (outbox, stopping): (&Arc<Outbox>, &AtomicBool),
        replies: &mut Vec<u8>,
    ) -> Done {
        let waiting = &self.list[self.answered..];
        let keys: SmallVec<[&[u8]; MOST]> = waiting.iter().map(|get| get.command.key()).collect();
        let (start, mut is_long) = (replies.len(), false);
        let mut next = waiting.iter();
        let mut answer = |value: Option<&[u8]>| {
            let get = next.next().expect("no more values than keys");
            let reply = value.map_or(Reply::Null, |value| Reply::Bulk(value.into()));
            let (outcome, long) = get.answer(&reply, (outbox, stopping), replies);
            is_long = long;
            let flow = match is_long || replies.len() >= SEND_BYTES {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            Answered { outcome, flow }
        };
        let (outcome, elapsed) = engine.get_each(&keys, self.database, self.id, &mut answer);
        drop(keys);
        match outcome {
            Ok(answered) => self.answered += answered,
            Err(why) => {
                replies.truncate(start);
                let error = Reply::Error(why.text());
                waiting.iter().for_each(|get| get.refuse(&error, replies));
                self.answered = self.list.len();
            }
        }
        assert!(self.answered <= self.list.len(), "each is answered once");
        let last = self.list[..self.answered].last();
        let last = last.map_or_else(ShortKey::new, |get| ShortKey::from_slice(get.command.key()));
        if self.answered == self.list.len() {
            self.list.clear();
            self.answered = 0;
        }
        Done { last, is_long, elapsed }
    }
}

impl Get {
    /// Writes the reply. Returns why it is refused, if it is, and whether it is long.
    fn answer(
        &self,
        reply: &Reply<'_>,
        (outbox, stopping): (&Arc<Outbox>, &AtomicBool),
        replies: &mut Vec<u8>,
    ) -> (Result<(), Refusal>, bool) {
        let start = replies.len();
        let mut direct = Direct::new(outbox, stopping, &self.command, self.dialect, replies);
        let outcome = direct.put(reply);
        let is_long = direct.end(outcome.clone());
        if self.is_muted {
            replies.truncate(start);
        }
        (outcome, is_long)
    }

    fn refuse(&self, error: &Reply<'_>, replies: &mut Vec<u8>) {
        if !self.is_muted {
            protocol::encode(self.command.key(), self.dialect, error, replies);
        }
    }
}
