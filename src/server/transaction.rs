//! A transaction while it is gathered, between MULTI and EXEC. It is bounded like a single request.

use super::Shared;
use crate::command::{AskFn, Command, Packed, Reply, Spec, Text};
use crate::metrics::Held;
use crate::protocol::REQUEST_BYTES;

/// The most that the commands of one transaction may take up, as for a single request.
const TRANSACTION_BYTES: usize = REQUEST_BYTES;

/// See the head of this file.
pub struct Transaction<'a> {
    /// In order; in place of a deferred one stands an empty reply.
    pub commands: Vec<Command>,
    /// The commands to be carried out after them.
    pub deferred: Vec<Deferred>,
    held: Held<'a>,
    /// Bytes that commands and deferred take up.
    pub bytes: usize,
    /// CLIENT CACHING is among its commands.
    pub gives_caching: bool,
    /// One of its commands was refused, so none is carried out.
    pub aborted: bool,
    /// What the session's `no_database` will be after the commands so far.
    pub no_database: Option<Text>,
}

/// What a transaction asks of its connection or of the server. It is done after the part about data, and
/// only if that was carried out.
pub struct Deferred {
    /// The place among the commands, which has an empty reply until then.
    pub place: usize,
    pub what: Later,
}

/// What is to be done after the part about data.
pub enum Later {
    /// Calls a row's function with these words.
    Ask(AskFn, Packed),
    /// Subscribes to what these words name, or ends that.
    Hear(&'static Spec, Packed),
    /// The database that the transaction has selected is the connection's from then on.
    Select(u16),
}

impl<'a> Transaction<'a> {
    pub fn new(shared: &'a Shared, no_database: Option<Text>) -> Transaction<'a> {
        let held = Held::new(&shared.metrics.transaction_memory);
        let (commands, deferred) = (Vec::new(), Vec::new());
        let (gives_caching, aborted) = (false, false);
        Transaction { commands, deferred, held, bytes: 0, gives_caching, aborted, no_database }
    }

    /// Makes sure that none of its commands will be carried out.
    pub fn abort(&mut self) {
        self.aborted = true;
        (self.commands, self.deferred) = (Vec::new(), Vec::new());
        self.held.set(0);
    }

    /// Whether it may change or publish something.
    pub fn changes(&self) -> bool {
        self.commands.iter().any(|command| command.is_write() || command.publishes())
    }

    /// Gathers a command, and what is to be done later in its place.
    pub fn gather(&mut self, command: Command, later: Option<Later>) -> Reply<'static> {
        let later_bytes = match &later {
            None => 0,
            Some(Later::Select(_)) => size_of::<Deferred>(),
            Some(Later::Ask(_, words) | Later::Hear(_, words)) => {
                size_of::<Deferred>() + words.bytes()
            }
        };
        self.bytes += command.bytes() + later_bytes;
        if self.bytes > TRANSACTION_BYTES {
            self.abort();
            return Reply::Error("ERR the transaction is too large".into());
        }
        if !self.aborted {
            let place = self.commands.len();
            let is_last = self.deferred.last().is_none_or(|last| last.place < place);
            assert!(is_last, "what is deferred is in the order of the commands");
            self.deferred.extend(later.map(|what| Deferred { place, what }));
            self.commands.push(command);
            self.held.set(self.bytes);
        }
        Reply::Simple("QUEUED")
    }
}
