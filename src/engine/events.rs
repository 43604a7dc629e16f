//! The names of events, by the command that changes a key: those of Redis, which applications match.

use crate::command::{Command, EventClass, Mutation};

/// The command that makes the changes, by its name.
pub type Cause = &'static str;

/// SET that keeps the expiry, which is told otherwise.
const KEEPS_EXPIRY: Cause = "set keepttl";

/// The server itself, that removes what has expired.
const RECLAIM: Cause = "reclaim";

/// The cause of what a command is about to change.
pub fn cause_of(command: &Command) -> Cause {
    match command {
        Command::Set(_, options) if options.keep_expiry => KEEPS_EXPIRY,
        Command::Set(..) => "set",
        Command::Del(_) => "del",
        Command::Reclaim(_) => RECLAIM,
        Command::Call(spec, _) => spec.name,
        Command::Get(_)
        | Command::Select(_)
        | Command::Transaction(..)
        | Command::Program(_)
        | Command::Watch(..)
        | Command::Unwatch(..)
        | Command::Leave(_)
        | Command::Answered(_) => "",
    }
}

/// Calls `tell` with each event of a change that has this cause. Removing everything is none, as in Redis.
pub fn of_change(
    cause: Cause,
    mutation: &Mutation,
    mut tell: impl FnMut(EventClass, &'static str),
) {
    use EventClass::{Expired, Generic, String};
    match mutation {
        Mutation::Set(_) | Mutation::Patch(_) | Mutation::Expire(_) => {
            let expires = match mutation {
                Mutation::Set(entry) => entry.expiry().is_some(),
                Mutation::Expire(expiry) => expiry.at.is_some(),
                // No event of a change of bytes depends on it.
                _ => false,
            };
            let (class, name) = match cause {
                "incr" | "decr" | "incrby" | "decrby" => (String, "incrby"),
                "incrbyfloat" | "append" | "setrange" | "setbit" => (String, cause),
                "bitfield" => (String, "setbit"),
                "expire" | "pexpire" | "expireat" | "pexpireat" => (Generic, "expire"),
                "getex" if expires => (Generic, "expire"),
                "getex" | "persist" => (Generic, "persist"),
                "rename" | "renamenx" => (Generic, "rename_to"),
                "copy" => (Generic, "copy_to"),
                "move" => (Generic, "move_to"),
                "restore" => (Generic, "restore"),
                _ => (String, "set"),
            };
            tell(class, name);
            if expires && matches!(cause, "set" | "msetex") {
                tell(Generic, "expire");
            }
        }
        Mutation::Delete(_) => match cause {
            RECLAIM => tell(Expired, "expired"),
            "rename" | "renamenx" => tell(Generic, "rename_from"),
            "move" => tell(Generic, "move_from"),
            _ => tell(Generic, "del"),
        },
        Mutation::Clear => {}
    }
}

/// Whether the change itself tells that the key has expired.
pub fn is_reclaim(cause: Cause) -> bool {
    cause == RECLAIM
}
