//! Evaluates commands on a batch: they add changes to it, and get replies that are sent once it is durable.
//!
//! GET, SET and DEL are carried out here; any other command is the function in its row. A refused command, or
//! the transaction that it is in, leaves nothing in the batch.

use std::time::Instant;

use super::answer::{Allowance, Collected};
use super::batch_view::BatchView;
use super::events::cause_of;
use super::submission::count;
use crate::command::{
    Answer, Command, CommandId, Dialect, Edit, Key, Mutation, Parts, Program, Refusal, Reply, Run,
    SetAnswer, SetCondition, SetOptions, Space, Spec, View, Words, look,
};
use crate::entry::Entry;

/// The reply to a command that has no place here. None comes: connections and transactions see to that.
const MISPLACED: &str = "ERR the command cannot be carried out here";

/// A reply, or why the command, and the transaction that it is in, are not carried out.
type Outcome = Result<Reply<'static>, Refusal>;

/// Answers a command that changes nothing. Replies may borrow from the store, whose lock is held while they
/// are put.
pub fn read(
    view: &mut dyn View,
    command: &Command,
    answer: &mut dyn Answer,
) -> Result<(), Refusal> {
    match command {
        Command::Get(key) => {
            let (found, outcome) = look(view, key, |entry| {
                let value = entry.map(|entry| Reply::Bulk(entry.value().into()));
                (entry.is_some(), answer.put(&value.unwrap_or(Reply::Null)))
            });
            view.count_read(key, found);
            outcome
        }
        Command::Call(spec, words) => match spec.run {
            Run::Read(read) | Run::Walk(read) => read(view, &words.list(), answer),
            Run::Say(say) => answer.put(&say(&words.list())?),
            Run::Core(_) | Run::Write(_) | Run::Ask(_) | Run::Session(_) | Run::Script(_) => {
                Err(MISPLACED.into())
            }
        },
        Command::Answered(reply) => answer.put(reply),
        Command::Set(..)
        | Command::Del(_)
        | Command::Reclaim(_)
        | Command::Select(_)
        | Command::Transaction(..)
        | Command::Program(_)
        | Command::Watch(..)
        | Command::Unwatch(..)
        | Command::Leave(_) => Err(MISPLACED.into()),
    }
}

/// Carries out a command or a transaction, unless it would add too much, or its reply, as the dialect spells
/// it, would be longer than `max_reply`. Then nothing of it is done.
pub fn carry_out(
    view: &mut BatchView<'_>,
    command: &mut Command,
    dialect: Dialect,
    max_reply: usize,
) -> Reply<'static> {
    if let Some(reply) = watch(view, command) {
        return reply;
    }
    let room = &mut Allowance::new(max_reply, dialect);
    let has_no_room = view.batch.takes.refusal().is_some() && !command.may_only_remove();
    // Redis checks only here, and there, too, a transaction that would remove more than it adds is refused.
    let has_no_memory = view.batch.is_full() && command.may_grow();
    let outcome = match &mut *command {
        _ if has_no_room => Err(Refusal::NoRoom),
        _ if has_no_memory => Err(Refusal::NoMemory),
        Command::Transaction(commands, _) => {
            let part = |command| part(view, command, room);
            commands.iter_mut().map(part).collect::<Result<_, _>>().map(Reply::Array)
        }
        command => perform(view, command, room),
    };
    match outcome {
        Ok(reply) => {
            view.keep();
            reply
        }
        Err(refusal) => {
            view.batch.forget();
            match (refusal, command, view.batch.takes.refusal()) {
                (Refusal::NoRoom, _, Some(reply)) => reply.clone(),
                (refusal, Command::Transaction(..), _) => {
                    let why = refusal.text();
                    let text = format!("EXECABORT Transaction discarded because of: {why}");
                    Reply::Error(text.into())
                }
                (refusal, _, _) => Reply::Error(refusal.text()),
            }
        }
    }
}

/// Carries out commands about watched keys. `None` if there is more to do: a transaction goes on only if
/// none of its watched keys has changed.
fn watch(view: &mut BatchView<'_>, command: &mut Command) -> Option<Reply<'static>> {
    let now = view.now();
    let reply = match command {
        Command::Watch(keys, watcher) => {
            // Taken out of the batch, because `seen` looks at that meanwhile.
            let mut watches = std::mem::take(&mut view.batch.watches);
            let number = view.database();
            let reply = watches.add(watcher, number, keys, |key| view.seen(key));
            view.batch.watches = watches;
            Some(reply)
        }
        Command::Unwatch(watcher, reply) => {
            view.batch.watches.end(watcher.id, now);
            Some(reply.clone())
        }
        Command::Leave(watcher) => {
            view.batch.watches.end(watcher.id, now);
            Some(Reply::Null)
        }
        Command::Transaction(_, Some(watcher)) => {
            view.batch.watches.end(watcher.id, now).then_some(Reply::NullArray)
        }
        _ => return None,
    };
    view.batch.watches.count(view.metrics);
    reply
}

/// Carries out a command inside a transaction or a program. Its own mistake is its reply, and then nothing of it is in the
/// batch, even if it found the mistake half-way.
fn part(view: &mut BatchView<'_>, command: &mut Command, room: &mut Allowance) -> Outcome {
    // The core's own commands make no mistake once they have changed something.
    let may_fail_late = matches!(command, Command::Call(..) | Command::Program(_));
    if !may_fail_late || !command.is_write() {
        let outcome = perform(view, command, room);
        return within_bounds(view, outcome).or_else(mistake);
    }
    view.batch.begin_part();
    let selected = view.database();
    let outcome = perform(view, command, room);
    let outcome = within_bounds(view, outcome);
    // What a command selects for itself ends with it.
    view.select(selected);
    match outcome {
        Ok(_) => view.batch.keep_part(),
        Err(_) => view.batch.forget_part(),
    }
    outcome.or_else(mistake)
}

/// Refuses a command that had to be shown more values than a transaction may make.
fn within_bounds(view: &BatchView<'_>, outcome: Outcome) -> Outcome {
    if view.batch.is_overdrawn { Err(Refusal::TooMuch) } else { outcome }
}

/// Carries out a command that is no transaction. If it fails, the caller takes back what it has changed.
fn perform(view: &mut BatchView<'_>, command: &mut Command, room: &mut Allowance) -> Outcome {
    if let Command::Program(program) = command {
        return run(view, &**program, room);
    }
    if let Command::Select(number) = command {
        view.select(*number);
        return Ok(Reply::Ok);
    }
    if command.is_write() {
        view.batch.may_grow = command.may_grow();
        view.batch.cause = cause_of(command);
        let reply = write(view, command)?;
        room.take(&reply)?;
        return Ok(reply);
    }
    let mut collected = Collected::new(room);
    read(view, command, &mut collected)?;
    if view.batch.remembers {
        view.note_read(command)?;
    }
    Ok(collected.into_reply())
}

/// Runs a program. If it fails, the caller takes back what it has changed.
fn run(view: &mut BatchView<'_>, program: &dyn Program, room: &mut Allowance) -> Outcome {
    let max_reply = room.bytes_left();
    let reply = program.run(&mut Running { view, room, max_reply })?;
    room.take(&reply)?;
    Ok(reply)
}

/// What a program asks for while it runs. Its commands' replies go to the program, not to its client, and each may
/// be as long as the client's reply.
struct Running<'a, 'b> {
    view: &'a mut BatchView<'b>,
    room: &'a mut Allowance,
    max_reply: usize,
}

impl Parts for Running<'_, '_> {
    fn now(&self) -> i64 {
        self.view.now()
    }

    fn databases(&self) -> u16 {
        self.view.databases()
    }

    fn is_full(&self) -> bool {
        self.view.batch.is_full()
    }

    fn max_reply(&self) -> usize {
        self.max_reply
    }

    fn show(&self, spec: &Spec, words: &Words<'_>) {
        if let Some(audience) = &self.view.batch.audience {
            audience.show_call(spec, words, self.view.database());
        }
    }

    fn carry_out(&mut self, mut command: Command, id: CommandId) -> Outcome {
        let Running { view, room, max_reply } = self;
        let started = Instant::now();
        let outcome = if view.batch.takes.refusal().is_some() && !command.may_only_remove() {
            Err(Refusal::NoRoom)
        } else if view.batch.is_full() && command.may_grow() {
            // Nothing has begun, so the program may go on without it.
            Ok(Reply::Error(Refusal::NoMemory.text()))
        } else {
            room.aside(*max_reply, |room| part(view, &mut command, room))
        };
        if let Ok(reply) = &outcome {
            count(
                view.metrics,
                Some(id),
                &command,
                command.is_answered(),
                reply,
                started.elapsed(),
            );
        }
        outcome
    }
}

fn mistake(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Error(text) => Ok(Reply::Error(text)),
        other => Err(other),
    }
}

/// Carries out one command that changes something. A SET's entry is taken out of it.
fn write(view: &mut BatchView<'_>, command: &mut Command) -> Outcome {
    match command {
        Command::Set(entry, options) => set(view, std::mem::take(entry), options),
        Command::Del(keys) => {
            let mut removed = 0;
            for key in keys {
                removed += i64::from(view.remove(key)?);
            }
            Ok(Reply::Integer(removed))
        }
        Command::Reclaim(keys) => reclaim(view, keys),
        Command::Call(spec, words) => match spec.run {
            Run::Write(write) => write(view, &words.list()),
            Run::Core(_)
            | Run::Read(_)
            | Run::Walk(_)
            | Run::Say(_)
            | Run::Ask(_)
            | Run::Session(_)
            | Run::Script(_) => Err(MISPLACED.into()),
        },
        Command::Get(_)
        | Command::Select(_)
        | Command::Answered(_)
        | Command::Transaction(..)
        | Command::Program(_)
        | Command::Watch(..)
        | Command::Unwatch(..)
        | Command::Leave(_) => Err(MISPLACED.into()),
    }
}

/// Removes those of these keys that have expired. Each is checked again, because it may have been set anew or
/// removed since it was found. The list stays as it is, for a batch that is carried out again.
fn reclaim(view: &mut BatchView<'_>, keys: &[(Space, Key)]) -> Outcome {
    let mut removed = 0;
    for (space, key) in keys {
        view.select_space(*space);
        if view.has_expired(key) {
            view.push(Mutation::Delete(key.clone()))?;
            removed += 1;
        }
    }
    Ok(Reply::Integer(removed))
}

fn set(view: &mut BatchView<'_>, new: Box<Entry>, options: &SetOptions) -> Outcome {
    if options.is_plain() {
        view.push(Mutation::Set(new))?;
        return Ok(Reply::Ok);
    }
    let shape = view.shape(new.key());
    let old = shape.map(|shape| shape.expiry);
    if let SetCondition::Compares(comparison) = &options.condition {
        view.look_through(comparison.looks_at(shape.map_or(0, |shape| shape.length)))?;
    }
    let sets = match &options.condition {
        SetCondition::Always => true,
        SetCondition::New => old.is_none(),
        SetCondition::Existing => old.is_some(),
        SetCondition::Compares(comparison) => {
            look(view, new.key(), |entry| comparison.holds(entry.map(Entry::value)))
        }
    };
    let reply = match (options.answer, sets) {
        (SetAnswer::Ok, true) => Reply::Ok,
        (SetAnswer::Ok, false) => Reply::Null,
        (SetAnswer::OldValue, _) => {
            view.count_read(new.key(), old.is_some());
            let value = |entry: Option<&Entry>| entry.map(|entry| Reply::bulk(entry.value()));
            look(view, new.key(), value).unwrap_or(Reply::Null)
        }
        (SetAnswer::Number, _) => Reply::Integer(sets.into()),
    };
    if sets {
        let kept = old.flatten().filter(|_| options.keep_expiry);
        let new = match kept {
            Some(at) => Entry::expiring(new.key(), new.value(), Some(at)),
            None => new,
        };
        view.push(Mutation::Set(new))?;
    }
    Ok(reply)
}
