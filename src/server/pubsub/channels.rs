//! Channels and patterns with their subscribers. Decides nothing and sends nothing.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::outbox::Outbox;
use crate::command::{Scope, Topic};
use crate::glob::{Glob, PATTERN_BYTES};

/// Bytes that a subscription takes up beside the channel's name: an entry of the client's set, one of the
/// table, and its list with one subscriber.
pub const SUBSCRIPTION_BYTES: usize = 200;

/// Bytes that a pattern takes up for each of the bits of a [`Glob`]'s rows: one row for each byte.
const PATTERN_ROWS: usize = 256 + 2;

/// Bytes that a subscription counts as. Each counts as if nobody else had it.
pub fn bytes_of(topic: Topic, name: &[u8]) -> usize {
    let compared = match topic {
        Topic::Pattern => PATTERN_ROWS * size_of::<u64>() * (name.len() / 64 + 1),
        Topic::Channel | Topic::Shard => 0,
    };
    SUBSCRIPTION_BYTES + name.len() + compared
}

/// Subscribers, in the order of their numbers.
pub type Subscribers = Vec<Arc<Outbox>>;

/// See the head of this file.
///
/// - Nothing has an empty list of subscribers.
/// - `bytes` is the sum of [`bytes_of`] of all subscriptions.
#[derive(Default)]
pub struct Tables {
    pub channels: HashMap<Arc<[u8]>, Subscribers>,
    pub shard_channels: HashMap<Arc<[u8]>, Subscribers>,
    pub patterns: HashMap<Arc<[u8]>, Pattern>,
    pub bytes: usize,
}

/// A pattern that someone has subscribed to.
pub struct Pattern {
    glob: Glob,
    /// How many bytes at its front stand for themselves: most channels are told from it by these.
    plain: usize,
    subscribers: Subscribers,
}

impl Pattern {
    fn new(pattern: &[u8]) -> Pattern {
        debug_assert!(pattern.len() <= PATTERN_BYTES, "longer ones are refused");
        let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let plain = pattern.iter().position(special).unwrap_or(pattern.len());
        Pattern { glob: Glob::new(pattern), plain, subscribers: Vec::new() }
    }
}

impl Tables {
    /// The channels of a scope.
    pub fn of_scope(&self, scope: Scope) -> &HashMap<Arc<[u8]>, Subscribers> {
        match scope {
            Scope::All => &self.channels,
            Scope::Shard => &self.shard_channels,
        }
    }

    /// Adds a subscription.
    pub fn add(&mut self, topic: Topic, name: &Arc<[u8]>, outbox: &Arc<Outbox>) {
        let list = match topic {
            Topic::Channel => self.channels.entry(name.clone()).or_default(),
            Topic::Shard => self.shard_channels.entry(name.clone()).or_default(),
            Topic::Pattern => {
                let pattern =
                    self.patterns.entry(name.clone()).or_insert_with(|| Pattern::new(name));
                &mut pattern.subscribers
            }
        };
        let place = list.binary_search_by_key(&outbox.id, |other| other.id);
        assert!(place.is_err(), "a client subscribes once");
        list.insert(place.unwrap_or_else(|place| place), outbox.clone());
        self.bytes += bytes_of(topic, name);
    }

    /// Removes a subscription of the client with this number.
    pub fn remove(&mut self, topic: Topic, name: &[u8], id: u64) {
        let without = |list: &mut Subscribers| {
            let place = list.binary_search_by_key(&id, |other| other.id);
            list.remove(place.expect("only what is there is removed"));
            list.is_empty()
        };
        match topic {
            Topic::Channel => remove_from(&mut self.channels, name, without),
            Topic::Shard => remove_from(&mut self.shard_channels, name, without),
            Topic::Pattern => {
                remove_from(&mut self.patterns, name, |pattern| without(&mut pattern.subscribers))
            }
        }
        self.bytes -= bytes_of(topic, name);
    }

    /// How many clients have subscribed to this.
    pub fn subscribers(&self, topic: Topic, name: &[u8]) -> usize {
        match topic {
            Topic::Channel => self.channels.get(name).map_or(0, Vec::len),
            Topic::Shard => self.shard_channels.get(name).map_or(0, Vec::len),
            Topic::Pattern => self.patterns.get(name).map_or(0, |found| found.subscribers.len()),
        }
    }

    /// Calls `hear` with each pattern that a channel fits, and its subscribers.
    pub fn for_patterns_of(&mut self, channel: &[u8], mut hear: impl FnMut(&[u8], &Subscribers)) {
        for (name, pattern) in &mut self.patterns {
            let is_alike = channel.starts_with(&name[..pattern.plain]);
            if is_alike && pattern.glob.matches(channel) {
                hear(name, &pattern.subscribers);
            }
        }
    }
}

/// Changes the entry of a name, and removes it if `is_empty_after` says so.
fn remove_from<T>(
    table: &mut HashMap<Arc<[u8]>, T>,
    name: &[u8],
    is_empty_after: impl FnOnce(&mut T) -> bool,
) {
    let entry = table.get_mut(name).expect("only what is there is removed");
    if is_empty_after(entry) {
        table.remove(name);
        if table.len() < table.capacity() / 4 {
            table.shrink_to(table.len() * 2);
        }
    }
}
