//! Commands, changes and replies: the types that all layers share.
//!
//! Only a [`Mutation`] can reach the log and the store, and only the committer makes one, so a
//! read cannot be logged and a change cannot bypass the log. The core carries out GET, SET and DEL itself;
//! any other command is a row of the commands' table, a [`Spec`], with its words.

mod change;
mod client;
mod comparison;
mod double;
mod events;
mod group;
mod news;
mod program;
mod reply;
mod space;
mod switch;
mod tracking;
mod user;
mod view;
mod watcher;
mod words;

use std::sync::Arc;

pub use change::{Change, Changed, Expiry, Key, Logged, Mutation, OwnPatch, Patch, ShortKey};
pub use client::{
    Calls, Client, ClientKind, KillFilter, Label, Listed, REDIS_VERSION, Refused, RefusedFor, Slow,
};
pub use comparison::{Comparison, Expected, Wanted, digest};
pub use double::shortest;
pub use events::{EventClass, Events};
pub use group::{Group, Keeper, KeeperStatus, Node, Nodes, Passing, Role};
pub use news::{Scope, Topic};
pub use program::{Parts, Program};
pub use reply::{Dialect, LineEnd, Reply, RespVersion};
pub use space::{Database, FIRST, MOST_DATABASES, Order, Space};
pub use switch::{Mark, Paused, Replying, Switch};
pub use tracking::{TrackingMode, TrackingState};
pub use user::{Access, Digest, Rights, USER, User, Users};
pub use view::{Answer, Edit, Refusal, Shape, TOO_LONG, Text, View, look};
pub use watcher::Watcher;
pub use words::{Packed, Words, integer, is, memory_amount, number_between};

use crate::entry::Entry;

/// A lookup of this many keys takes some hundred microseconds at most.
const FEW_KEYS: usize = 1000;

/// The place of a command in the commands' table, under which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandId(pub usize);

/// A row of the commands' table: all that is known of a command. A subcommand has a row of its own.
#[derive(Debug)]
pub struct Spec {
    /// The command's name, in lower case; that of a subcommand after its container's and a bar.
    pub name: &'static str,
    /// Its number of words with its name; a negative one is the least number.
    pub arity: i32,
    /// Redis's flags for it.
    pub flags: &'static [&'static str],
    /// Its categories, except those that follow from its flags.
    pub groups: &'static [&'static str],
    /// Where its keys stand among the words.
    pub keys: Keys,
    /// Carries it out.
    pub run: Run,
    /// Its place in the table.
    pub id: CommandId,
    /// The place of its container, if it is a subcommand.
    pub parent: Option<usize>,
    /// Its subcommands are the rows after it, this many.
    pub children: usize,
}

/// Where the keys of a command stand among its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// First, last (from the end if negative), step; zeros if there are none.
    Range(i32, i32, i32),
    /// As many as the word at this place says, after it, the next one this many words further on.
    Counted(usize, usize),
}

impl Keys {
    /// Of a command without any.
    pub const NONE: Keys = Keys::Range(0, 0, 0);
}

/// Reads, and puts the reply into the [`Answer`].
pub type ReadFn = fn(&mut dyn View, &Words<'_>, &mut dyn Answer) -> Result<(), Refusal>;

/// Adds changes, and returns the reply for when they are durable. It checks its words before it adds any.
pub type WriteFn = fn(&mut dyn Edit, &Words<'_>) -> Result<Reply<'static>, Refusal>;

/// Asks something of a connection or of the server.
pub type AskFn = fn(&mut dyn Client, &Words<'_>) -> Result<Reply<'static>, Text>;

/// How a command is carried out.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// By the core itself; the function makes its command from the words.
    Core(fn(&Words<'_>) -> Result<Command, Text>),
    /// As a read: on the client's own thread, if nothing of the client is queued before it.
    Read(ReadFn),
    /// As a read that may look through many keys: kept away from the commit path.
    Walk(ReadFn),
    /// As a write, by the committer.
    Write(WriteFn),
    /// At once, because it is about neither data nor connection.
    Say(fn(&Words<'_>) -> Result<Reply<'static>, Text>),
    /// By the client's own thread; in a transaction, after the part about data.
    Ask(AskFn),
    /// By the session, at once even in a transaction.
    Session(SessionCommand),
    /// By the room of scripts, as a program.
    Script(ScriptCommand),
}

/// Commands about scripts that take their place among the commands on data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptCommand {
    /// Runs the script that is given.
    Eval,
    /// Runs the script with this name.
    EvalSha,
    /// Runs the script that is given, which may write nothing.
    EvalRo,
    /// Runs the script with this name, which may write nothing.
    EvalShaRo,
    /// Keeps a script for later.
    Load,
    /// Tells which scripts are kept.
    Exists,
    /// Forgets all scripts.
    Flush,
}

/// Commands that the session carries out, because they change how it treats later requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// Begins a transaction.
    Multi,
    /// Carries the transaction out.
    Exec,
    /// Forgets the transaction.
    Discard,
    /// Has the next transaction fail if one of these keys changes.
    Watch,
    /// Ends all watching.
    Unwatch,
    /// Chooses a database.
    Select,
    /// Has the client hear of these.
    Subscribe(Topic),
    /// Ends that, for these or for all of the kind.
    Unsubscribe(Topic),
    /// Has the client see every request.
    Monitor,
    /// Makes the session as it was when the client connected.
    Reset,
    /// Ends the connection.
    Quit,
}

impl Spec {
    /// Whether Redis has this flag for it.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether it sends messages to other clients.
    pub fn publishes(&self) -> bool {
        matches!(self.run, Run::Read(_)) && self.has("pubsub")
    }

    /// Whether a request may have this many words.
    pub fn takes(&self, words: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { words >= least } else { words == least }
    }

    /// Those of a request's words that are keys, for a request that [`Spec::takes`] allows.
    pub fn keys_among<'a>(&self, words: &'a Words<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (first, end, step) = match self.keys {
            Keys::Range(first, last, step) => {
                let last = if last < 0 { words.len() as i32 + last } else { last };
                (first.max(1) as usize, (last + 1).max(0) as usize, step.max(1) as usize)
            }
            // No keys if the number makes no sense.
            Keys::Counted(place, step) => {
                let count = words.get(place).and_then(|word| integer(word));
                let count = count.and_then(|count| usize::try_from(count).ok());
                let room = words.len().saturating_sub(place + 1);
                let count = count.filter(|count| count.saturating_mul(step) <= room).unwrap_or(0);
                (place + 1, place + 1 + count * step, step)
            }
        };
        words.get(first..end.min(words.len())).unwrap_or_default().iter().step_by(step).copied()
    }

    /// Whether it depends on the selected database.
    pub fn is_about_data(&self) -> bool {
        match self.run {
            Run::Core(_) | Run::Read(_) | Run::Walk(_) | Run::Write(_) => true,
            Run::Script(_) => self.has("movablekeys"),
            Run::Say(_) | Run::Ask(_) => false,
            Run::Session(command) => command == SessionCommand::Watch,
        }
    }
}

/// A request about data, or one that takes its place among those.
#[derive(Clone, Debug)]
pub enum Command {
    /// The value of a key.
    Get(ShortKey),
    /// Sets a key to a value.
    Set(Box<Entry>, SetOptions),
    /// Removes keys.
    Del(Vec<Key>),
    /// Anything else that reads or changes the data, with its words.
    Call(&'static Spec, Packed),
    /// Carries out several commands as one, unless a watched key has changed.
    Transaction(Vec<Command>, Option<Arc<Watcher>>),
    /// Runs a program, which is one command whatever it carries out.
    Program(Arc<dyn Program>),
    /// Begins to watch keys, each listed once.
    Watch(Vec<Key>, Arc<Watcher>),
    /// Ends all watching of a connection; the reply is given.
    Unwatch(Arc<Watcher>, Reply<'static>),
    /// The same for a connection that has ended, and waits for no answer.
    Leave(Arc<Watcher>),
    /// Removes those of these keys that have expired; only the server itself asks for it.
    Reclaim(Vec<(Space, Key)>),
    /// Inside a transaction: the commands after it are about the database with this number.
    Select(u16),
    /// Has its reply already, and only takes its place among the other replies.
    Answered(Reply<'static>),
}

/// The options of SET.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// When to set at all.
    pub condition: SetCondition,
    /// Keep the expiry that the key has.
    pub keep_expiry: bool,
    /// What to answer.
    pub answer: SetAnswer,
}

/// When SET sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// In any case.
    #[default]
    Always,
    /// Only a key that is not there.
    New,
    /// Only one that is.
    Existing,
    /// Only one whose value is as it is wanted. (A box, so that no other SET is longer for it.)
    Compares(Box<Comparison>),
}

impl SetOptions {
    /// Whether there is nothing to look up before the key is set.
    pub fn is_plain(&self) -> bool {
        let SetOptions { condition, keep_expiry, answer } = self;
        matches!((condition, answer), (SetCondition::Always, SetAnswer::Ok)) && !keep_expiry
    }

    fn bytes(&self) -> usize {
        match &self.condition {
            SetCondition::Compares(comparison) => comparison.bytes(),
            SetCondition::Always | SetCondition::New | SetCondition::Existing => 0,
        }
    }
}

/// What SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetAnswer {
    /// OK, or null if the condition was not met.
    #[default]
    Ok,
    /// The value before, or null.
    OldValue,
    /// 1 or 0.
    Number,
}

impl Command {
    /// Whether it has to go through the queue, because it may change something, or is about watched keys.
    pub fn is_write(&self) -> bool {
        match self {
            Command::Get(_) | Command::Select(_) | Command::Answered(_) => false,
            Command::Call(spec, _) => matches!(spec.run, Run::Write(_)),
            Command::Set(..)
            | Command::Del(_)
            | Command::Reclaim(_)
            | Command::Transaction(..)
            | Command::Program(_)
            | Command::Watch(..)
            | Command::Unwatch(..)
            | Command::Leave(_) => true,
        }
    }

    /// Whether it may leave more in the store than before: Redis's flag `denyoom`.
    pub fn may_grow(&self) -> bool {
        match self {
            Command::Set(..) => true,
            Command::Call(spec, _) => spec.has("denyoom"),
            Command::Transaction(commands, _) => commands.iter().any(Command::may_grow),
            _ => false,
        }
    }

    /// Whether it is a read that may take long: it is kept away from the commit path.
    pub fn is_long_read(&self) -> bool {
        match self {
            Command::Call(spec, words) => match spec.run {
                Run::Walk(_) => true,
                Run::Read(_) => words.count() > 1 + FEW_KEYS,
                Run::Core(_)
                | Run::Write(_)
                | Run::Say(_)
                | Run::Ask(_)
                | Run::Session(_)
                | Run::Script(_) => false,
            },
            _ => false,
        }
    }

    /// Whether it may turn out to log only removals, which may use the last room of a disk. For a
    /// [`Command::Call`] or a program that is known only when it is carried out.
    pub fn may_only_remove(&self) -> bool {
        match self {
            Command::Set(..) => false,
            Command::Transaction(commands, _) => commands.iter().all(Command::may_only_remove),
            _ => true,
        }
    }

    /// Whether nothing is left to do but to answer.
    pub fn is_answered(&self) -> bool {
        matches!(self, Command::Answered(_))
    }

    /// Whether it cannot be carried out without the log; of a program that is known once it has run.
    pub fn needs_log(&self) -> bool {
        match self {
            Command::Watch(..) | Command::Unwatch(..) | Command::Leave(_) => false,
            Command::Transaction(commands, _) => commands.iter().any(Command::needs_log),
            Command::Program(program) => program.has_written(),
            // In the queue a message comes after a write, and may tell of it.
            Command::Call(spec, _) if spec.publishes() => true,
            other => other.is_write(),
        }
    }

    /// Whether its reply shows something of the data, or that something was changed.
    pub fn shows_data(&self) -> bool {
        match self {
            Command::Answered(_) | Command::Unwatch(..) | Command::Leave(_) => false,
            Command::Call(spec, _) => !matches!(spec.run, Run::Say(_)),
            _ => true,
        }
    }

    /// Whether it alone is a message to other clients.
    pub fn publishes(&self) -> bool {
        matches!(self, Command::Call(spec, _) if spec.publishes())
    }

    /// Calls `look` with each key whose value it reads, if it changes nothing.
    pub fn read_keys(&self, look: &mut dyn FnMut(&[u8])) {
        match self {
            Command::Get(key) => look(key),
            Command::Call(spec, words) if spec.has("readonly") => {
                spec.keys_among(&words.list()).for_each(look);
            }
            _ => {}
        }
    }

    /// The key that a GET asks for, because its reply may name it; empty for other commands.
    pub fn key(&self) -> &[u8] {
        match self {
            Command::Get(key) => key,
            _ => &[],
        }
    }

    /// The words of it that are still known; a SET that is carried out has given its own away.
    pub fn words(&self) -> Vec<&[u8]> {
        match self {
            Command::Get(key) => vec![b"get", key],
            Command::Set(..) => vec![b"set"],
            Command::Del(keys) => {
                std::iter::once(&b"del"[..]).chain(keys.iter().map(|key| &**key)).collect()
            }
            Command::Call(_, words) => words.list(),
            Command::Transaction(..) => vec![b"exec"],
            _ => Vec::new(),
        }
    }

    /// Roughly what it takes up in memory.
    pub fn bytes(&self) -> usize {
        let keys = |keys: &[Key]| keys.iter().map(|key| key.len() + size_of::<Key>()).sum();
        size_of::<Command>()
            + match self {
                Command::Get(key) => key.len(),
                Command::Set(entry, options) => entry.bytes() + options.bytes(),
                Command::Del(list) | Command::Watch(list, _) => keys(list),
                Command::Reclaim(list) => {
                    list.iter().map(|(_, key)| key.len() + size_of::<(Space, Key)>()).sum()
                }
                Command::Call(_, words) => words.bytes(),
                Command::Transaction(commands, _) => commands.iter().map(Command::bytes).sum(),
                Command::Program(program) => program.bytes(),
                Command::Answered(reply) | Command::Unwatch(_, reply) => reply.bytes(),
                Command::Leave(_) | Command::Select(_) => 0,
            }
    }
}
