//! Where a reply goes while it is formed, piece by piece, and how long it may become.
//!
//! A request of a few bytes can ask for a long value many times, so replies are measured before they are
//! gathered: each piece is shown to an [`Answer`], which refuses it before a copy is made if the reply
//! would be too long (promise 8). The same holds for work: a walk through the keys asks at each step
//! whether it may go on. A refusal becomes the reply, an error, and nothing is put after it.

use crate::command::{Answer, Dialect, Refusal, Reply, TOO_LONG};
use crate::quote;

/// Bytes that an item of a list, or a small reply, takes up beside its own.
pub const ITEM_BYTES: usize = size_of::<Reply<'_>>();

/// Entries that the walks of one transaction may look at. That is done on the commit path, while all other
/// writes wait: 10,000 take a millisecond or two, and are enough for two of the longest SCANs.
const WALKED: usize = 10_000;

const TOO_FAR: Refusal = Refusal::Unanswerable(
    "ERR a transaction may look through no more than 10000 keys; use KEYS or SCAN outside of it",
);

/// How long the replies of a transaction, or to one command, may still become.
pub struct Allowance {
    bytes: usize,
    entries: usize,
    dialect: Dialect,
}

impl Allowance {
    /// Allowance for this many bytes of replies, as this dialect spells them.
    pub fn new(max_reply: usize, dialect: Dialect) -> Allowance {
        Allowance { bytes: max_reply, entries: WALKED, dialect }
    }

    /// Carries out `part` with room for `bytes` of replies that are not sent. What it looks at counts here.
    pub fn aside<T>(&mut self, bytes: usize, part: impl FnOnce(&mut Allowance) -> T) -> T {
        let mut aside = Allowance { bytes, ..*self };
        let result = part(&mut aside);
        self.entries = aside.entries;
        result
    }

    /// Bytes that replies may still take up.
    pub fn bytes_left(&self) -> usize {
        self.bytes
    }

    /// Takes room for a reply.
    pub fn take(&mut self, reply: &Reply<'_>) -> Result<(), Refusal> {
        let bytes = match (self.dialect, reply) {
            // In a line of text a byte may take four.
            (Dialect::Text(_), Reply::Bulk(value)) => quote::most_bytes(value),
            _ => reply.bytes(),
        };
        let left = self.bytes.checked_sub(bytes + ITEM_BYTES);
        self.bytes = left.ok_or(Refusal::Unanswerable(TOO_LONG))?;
        Ok(())
    }
}

/// A reply that is kept until its batch is durable.
pub struct Collected<'a> {
    items: Vec<Reply<'static>>,
    is_list: bool,
    room: &'a mut Allowance,
}

impl<'a> Collected<'a> {
    /// An empty reply, with this much room.
    pub fn new(room: &'a mut Allowance) -> Collected<'a> {
        Collected { items: Vec::new(), is_list: false, room }
    }

    /// The reply that was collected.
    pub fn into_reply(mut self) -> Reply<'static> {
        match self.is_list {
            true => Reply::Array(self.items),
            false => self.items.pop().expect("every command is answered"),
        }
    }
}

impl Answer for Collected<'_> {
    fn put(&mut self, reply: &Reply<'_>) -> Result<(), Refusal> {
        self.room.take(reply)?;
        self.items.push(reply.to_owned_reply());
        Ok(())
    }

    fn expect(&mut self, bytes: usize) -> Result<(), Refusal> {
        match bytes > self.room.bytes {
            true => Err(Refusal::Unanswerable(TOO_LONG)),
            false => Ok(()),
        }
    }

    fn wrap(&mut self) {
        self.is_list = true;
    }

    fn go_on(&mut self, looked_at: usize) -> Result<(), Refusal> {
        let left = self.room.entries.checked_sub(looked_at);
        self.room.entries = left.ok_or(TOO_FAR)?;
        Ok(())
    }
}
