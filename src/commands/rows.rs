//! How rows of a table of commands are found and told apart.
//!
//! Nothing here knows the table, so that a command may ask about it whose row is in it.

use crate::command::{CommandId, Spec, Words, is};

/// The categories that commands here are in, in Redis's order.
pub const CATEGORIES: &[&str] = &[
    "@keyspace",
    "@read",
    "@write",
    "@string",
    "@bitmap",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

/// All commands except subcommands.
pub fn commands(table: &'static [Spec]) -> impl Iterator<Item = &'static Spec> {
    table.iter().filter(|spec| spec.parent.is_none())
}

/// The command or subcommand of this name, in any case.
pub fn named(table: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    let order = |spec: &Spec| {
        let letters = name.iter().map(u8::to_ascii_lowercase);
        spec.name.bytes().cmp(letters)
    };
    table.binary_search_by(order).ok().map(|place| &table[place])
}

/// The commands of a table as requests name them: every request is looked up, so that costs a comparison or two.
///
/// - Each command, without subcommands, is in the list of its [`Index::place`].
pub struct Index {
    table: &'static [Spec],
    lists: Vec<Vec<&'static Spec>>,
}

/// Letters whose lowest five bits differ are told apart, and so are lengths.
const LISTS: usize = 1 << (5 + 5);

impl Index {
    /// The index of a table.
    pub fn new(table: &'static [Spec]) -> Index {
        let mut lists = vec![Vec::new(); LISTS];
        commands(table).for_each(|spec| lists[Index::place(spec.name.as_bytes())].push(spec));
        Index { table, lists }
    }

    /// The command that a request names, or the subcommand if its name is a container's. An unknown subcommand is
    /// an error with its container. No words name none: a slow script has none that are known.
    pub fn find(&self, words: &Words<'_>) -> Result<&'static Spec, Option<&'static Spec>> {
        let name = words.first().ok_or(None)?;
        let list = &self.lists[Index::place(name)];
        let spec = *list.iter().find(|spec| is(name, spec.name)).ok_or(None)?;
        match words {
            [_, name, ..] if spec.children > 0 => {
                let named = |spec: &&Spec| is(name, short_name(spec));
                subcommands(self.table, spec).iter().find(named).ok_or(Some(spec))
            }
            _ => Ok(spec),
        }
    }

    /// By length and first letter, in any case.
    fn place(name: &[u8]) -> usize {
        let letter = name.first().map_or(0, |letter| usize::from(letter & 31));
        (name.len() & 31) << 5 | letter
    }
}

/// The subcommands of a command.
pub fn subcommands(table: &'static [Spec], spec: &Spec) -> &'static [Spec] {
    let CommandId(place) = spec.id;
    &table[place + 1..][..spec.children]
}

/// A command's name without that of its container.
pub fn short_name(spec: &Spec) -> &'static str {
    spec.name.split_once('|').map_or(spec.name, |(_, name)| name)
}

/// Whether a command is in a category, by its groups or, as Redis derives them, by its flags.
pub fn is_in(spec: &Spec, category: &str) -> bool {
    let category = category.trim_start_matches('@');
    spec.groups.contains(&category)
        || match category {
            "read" => spec.has("readonly"),
            "pubsub" => spec.has("pubsub"),
            "write" => spec.has("write"),
            "admin" | "dangerous" => spec.has("admin"),
            "fast" => spec.has("fast"),
            "slow" => !spec.has("fast"),
            _ => false,
        }
}
