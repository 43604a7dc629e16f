//! What one client has subscribed to. Only its own thread changes it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::outbox::Outbox;
use super::{CLIENT_BYTES, Hub, channels, spelling};
use crate::command::{Reply, Text, Topic};
use crate::commands;
use crate::protocol;

/// See the head of this file. When it is dropped, all of it ends.
pub struct Subscriptions<'a> {
    hub: &'a Hub,
    outbox: &'a Arc<Outbox>,
    channels: HashSet<Arc<[u8]>>,
    patterns: HashSet<Arc<[u8]>>,
    shard_channels: HashSet<Arc<[u8]>>,
    bytes: usize,
}

/// Takes what is to be sent to the client.
pub type Say<'a> = dyn FnMut(&[u8]) + 'a;

impl<'a> Subscriptions<'a> {
    /// None.
    pub fn new(hub: &'a Hub, outbox: &'a Arc<Outbox>) -> Subscriptions<'a> {
        let (channels, patterns, shard_channels) = Default::default();
        Subscriptions { hub, outbox, channels, patterns, shard_channels, bytes: 0 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shard_channels.is_empty()
    }

    /// Subscribes to each of these names, and says so after each. What is over a limit is refused, and all names
    /// after it.
    pub fn subscribe(&mut self, topic: Topic, names: &[&[u8]], say: &mut Say<'_>) {
        for name in names {
            if let Err(text) = self.add(topic, name, say) {
                let mut spelled = Vec::new();
                let version = self.outbox.version();
                protocol::encode_resp(version, &Reply::Error(text), &mut spelled);
                return say(&spelled);
            }
        }
    }

    fn add(&mut self, topic: Topic, name: &[u8], say: &mut Say<'_>) -> Result<(), Text> {
        let name = commands::topic(topic, name)?;
        let what = match topic {
            Topic::Channel => "subscribe",
            Topic::Pattern => "psubscribe",
            Topic::Shard => "ssubscribe",
        };
        let (version, mut spelled) = (self.outbox.version(), Vec::new());
        if self.of(topic).contains(name) {
            spelling::confirm(version, what, Some(name), self.count(topic), &mut spelled);
            say(&spelled);
            return Ok(());
        }
        let bytes = channels::bytes_of(topic, name);
        if self.bytes + bytes > CLIENT_BYTES {
            let text =
                format!("ERR the subscriptions of a client may take up {CLIENT_BYTES} bytes");
            return Err(text.into());
        }
        let is_first = self.is_empty();
        let count = self.count(topic) + 1;
        spelling::confirm(version, what, Some(name), count, &mut spelled);
        let name: Arc<[u8]> = name.into();
        self.hub.add(topic, &name, self.outbox, || say(&spelled))?;
        self.of(topic).insert(name);
        self.bytes += bytes;
        self.hub.clients.fetch_add(usize::from(is_first), Ordering::Relaxed);
        self.note();
        Ok(())
    }

    /// Ends the subscriptions to these names, or to all of the kind, and says so after each.
    pub fn unsubscribe(&mut self, topic: Topic, names: &[&[u8]], say: &mut Say<'_>) {
        if !names.is_empty() {
            return names.iter().for_each(|name| self.remove(topic, Some(name), say));
        }
        let all: Vec<Arc<[u8]>> = self.of(topic).iter().cloned().collect();
        if all.is_empty() {
            self.remove(topic, None, say);
        }
        all.iter().for_each(|name| self.remove(topic, Some(name), say));
    }

    fn remove(&mut self, topic: Topic, name: Option<&[u8]>, say: &mut Say<'_>) {
        let what = match topic {
            Topic::Channel => "unsubscribe",
            Topic::Pattern => "punsubscribe",
            Topic::Shard => "sunsubscribe",
        };
        let removed = name.is_some_and(|name| self.of(topic).remove(name));
        let mut spelled = Vec::new();
        let count = self.count(topic);
        spelling::confirm(self.outbox.version(), what, name, count, &mut spelled);
        match name.filter(|_| removed) {
            None => say(&spelled),
            Some(name) => {
                self.hub.remove(topic, name, self.outbox.id, || say(&spelled));
                self.bytes -= channels::bytes_of(topic, name);
                self.hub.clients.fetch_sub(usize::from(self.is_empty()), Ordering::Relaxed);
                self.note();
            }
        }
    }

    /// Ends all, and says nothing.
    pub fn end(&mut self) {
        for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
            if !self.of(topic).is_empty() {
                self.unsubscribe(topic, &[], &mut |_| {});
            }
        }
    }

    fn of(&mut self, topic: Topic) -> &mut HashSet<Arc<[u8]>> {
        match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
            Topic::Shard => &mut self.shard_channels,
        }
    }

    /// The number in a confirmation: shard channels are counted apart, as in Redis.
    fn count(&self, topic: Topic) -> usize {
        match topic {
            Topic::Channel | Topic::Pattern => self.channels.len() + self.patterns.len(),
            Topic::Shard => self.shard_channels.len(),
        }
    }

    /// Tells CLIENT LIST.
    fn note(&self) {
        let subscribed = &self.outbox.profile.subscribed;
        subscribed.channels.store(self.channels.len(), Ordering::Relaxed);
        subscribed.patterns.store(self.patterns.len(), Ordering::Relaxed);
        subscribed.shard_channels.store(self.shard_channels.len(), Ordering::Relaxed);
        subscribed.bytes.store(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Subscriptions<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
