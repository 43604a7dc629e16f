//! Requests to the engine, and where the replies go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{Command, CommandId, Dialect, Packed, Reply};
use crate::metrics::Metrics;

/// One request on its way, and its reply on the way back.
#[derive(Debug)]
pub struct Operation {
    /// The command. Once it is carried out a SET's entry is gone: it is in the batch, then in the store.
    pub command: Command,
    /// The number of the database that it is about.
    pub database: u16,
    /// How the reply is to be spelled.
    pub dialect: Dialect,
    /// The answer.
    pub reply: Reply<'static>,
    /// The name that it is counted under.
    pub id: Option<CommandId>,
    /// Its size in memory before it was answered.
    pub bytes: usize,
    /// Whether the client wants to know when something changes that this reads.
    pub is_remembered: bool,
    /// Whether its client does not want the reply.
    pub is_muted: bool,
    /// Its words, if they are kept in case that it is slow.
    pub words: Option<Packed>,
}

impl Operation {
    /// A request about database 0 that is not answered yet.
    pub fn new(command: Command, dialect: Dialect, id: Option<CommandId>) -> Operation {
        let bytes = command.bytes();
        Operation {
            command,
            database: 0,
            dialect,
            reply: Reply::Null,
            id,
            bytes,
            is_remembered: false,
            is_muted: false,
            words: None,
        }
    }

    /// The same about another database.
    pub fn in_database(self, database: u16) -> Operation {
        Operation { database, ..self }
    }
}

/// Where replies go.
pub trait Recipient: Send + Sync {
    /// Takes answered operations, in the order in which they were submitted. It may keep the list, whose memory
    /// then is of use for more of them. Called by the thread that commits: it must not wait for anything.
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>);

    /// The client's number; 0 if it is none.
    fn client(&self) -> u64 {
        0
    }

    /// Notes that an operation of it took long to be carried out.
    fn note_slow(&self, _operation: &Operation, _elapsed: Duration) {}

    /// Whether the client may do nothing any more, because it was killed or its login has ended. Then nothing that it
    /// has queued is carried out.
    fn is_revoked(&self) -> bool {
        false
    }

    /// Whether the client that would read the replies is gone. Then reads need not be carried out.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Some of one client's operations, in order. A client submits again only after all of these have
/// been answered.
pub struct Submission {
    /// Takes the replies.
    pub recipient: Arc<dyn Recipient>,
    /// The requests.
    pub operations: Vec<Operation>,
    /// When it came, if somebody watches.
    pub(super) arrived: Option<Instant>,
}

impl Submission {
    /// These requests, in their order.
    pub fn new(recipient: Arc<dyn Recipient>, operations: Vec<Operation>) -> Submission {
        Submission { recipient, operations, arrived: None }
    }

    /// Whether it comes from a client that may submit again when it is answered: not from the expirer, and
    /// not from a client that has left.
    pub(super) fn is_of_client(&self) -> bool {
        let is_client =
            |first: &Operation| !matches!(first.command, Command::Reclaim(_) | Command::Leave(_));
        self.operations.first().is_some_and(is_client)
    }
}

/// Counts a command and its reply. A command that was `answered_before` it got here was a mistake, or
/// was asked of the connection.
pub(super) fn count(
    metrics: &Metrics,
    id: Option<CommandId>,
    command: &Command,
    answered_before: bool,
    reply: &Reply<'_>,
    elapsed: Duration,
) {
    count_errors(metrics, id, command, answered_before, reply);
    if !(answered_before && matches!(reply, Reply::Error(_))) {
        metrics.commands.count_call(id, elapsed);
    }
}

/// Counts the errors that are answered to a command.
pub(super) fn count_errors(
    metrics: &Metrics,
    id: Option<CommandId>,
    command: &Command,
    answered_before: bool,
    reply: &Reply<'_>,
) {
    if matches!(reply, Reply::Error(_)) {
        metrics.commands.count_error(id, reply, !answered_before);
    }
    // An error within a transaction counts like any other.
    if let (Command::Transaction(commands, _), Reply::Array(items)) = (command, reply) {
        for (command, item) in commands.iter().zip(items) {
            metrics.commands.count_error(None, item, !command.is_answered());
        }
    }
}
