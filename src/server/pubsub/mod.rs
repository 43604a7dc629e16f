//! Messages between clients: who hears what.
//!
//! The [`Hub`] knows the subscribers of every channel and pattern. A message is spelled once for each version of
//! RESP and appended to the outbox of each subscriber; the flusher sends it (see [`super::pushes`]). Nothing
//! here waits for a client, a disk or the engine.
//!
//! One lock for all of it, held for one message or for one channel that a client subscribes to: so all subscribers
//! hear the messages of all publishers in the same order, nothing of a channel comes before the confirmation of
//! its SUBSCRIBE, and nothing after that of its UNSUBSCRIBE. Outboxes are locked under it, one at a time.
//! While nobody has subscribed to anything, a publisher pays one atomic load.

mod channels;
mod monitor;
mod spelling;
mod subscriptions;
mod tracking;

pub use subscriptions::{Say, Subscriptions};

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use super::flusher::Flusher;
use super::outbox::Outbox;
use crate::command::{Command, Events, Key, Scope, Spec, Text, Topic, Words};
use crate::engine::{Audience, News};
use crate::sync::Mutex;
use channels::Tables;
use monitor::Monitors;
use spelling::Spelled;
use tracking::Tracking;

/// The most bytes that the subscriptions of one client may take up in memory: some 100,000 channels with names
/// of usual length. (Redis has no such limit, and may run out of memory.)
pub const CLIENT_BYTES: usize = 32 << 20;

/// The same for all clients together.
const ALL_BYTES: usize = 256 << 20;

/// The most different patterns of all clients together: each is compared with the channel of every message, which
/// takes some microseconds for a hundred.
const PATTERNS: usize = 10_000;

/// Knows the subscribers. See the head of this file.
pub struct Hub {
    tables: Mutex<Tables>,
    /// How many subscriptions there are, to be read without the lock.
    subscriptions: AtomicUsize,
    /// Clients with a subscription.
    clients: AtomicUsize,
    flusher: Arc<Flusher>,
    /// Which changes of keys are told: [`Events`].
    events: AtomicU16,
    pub tracking: Tracking,
    pub monitors: Monitors,
}

/// What INFO shows.
pub struct Counts {
    pub channels: usize,
    pub patterns: usize,
    pub shard_channels: usize,
}

impl Hub {
    /// A hub without subscribers, whose messages this flusher sends.
    pub fn new(flusher: Arc<Flusher>, events: Events) -> Hub {
        Hub {
            tables: Mutex::default(),
            subscriptions: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            flusher,
            events: events.bits().into(),
            tracking: Tracking::default(),
            monitors: Monitors::default(),
        }
    }

    /// Which changes of keys are told from now on.
    pub fn set_events(&self, events: Events) {
        self.events.store(events.bits(), Ordering::Relaxed);
    }

    /// Sets how many keys are remembered of which clients have read them; 0 is no limit.
    pub fn set_tracked_keys(&self, most: usize) {
        self.tracking.set_most_keys(most);
        let mut goes_on = true;
        while goes_on {
            let mut woken = Vec::new();
            goes_on = self.tracking.forget_some(&mut woken);
            self.flusher.take_over(&mut woken);
        }
    }

    /// Shows a request to those who watch.
    pub fn show(&self, spec: &Spec, words: &Words<'_>, database: u16, outbox: &Outbox) {
        let mut woken = Vec::new();
        self.monitors.show(spec, words, (database, Some(outbox)), &mut woken);
        self.flusher.take_over(&mut woken);
    }

    /// Shows a command of a script to those who watch.
    fn show_of_script(&self, spec: &Spec, words: &Words<'_>, database: u16) {
        if self.monitors.is_on() {
            let mut woken = Vec::new();
            self.monitors.show(spec, words, (database, None), &mut woken);
            self.flusher.take_over(&mut woken);
        }
    }

    /// A client is about to carry out a read of which it wants to know when its keys change.
    pub fn remember(&self, id: u64, command: &Command) {
        let mut woken = Vec::new();
        command.read_keys(&mut |key| self.tracking.remember(id, key, &mut woken));
        self.flusher.take_over(&mut woken);
    }

    /// Nothing is left of a client, except its subscriptions.
    pub fn forget(&self, id: u64) {
        if self.tracking.is_on() {
            self.tracking.end(id);
        }
        if self.monitors.is_on() {
            self.monitors.remove(id);
        }
    }

    /// Tells what has happened to a key, on its channel and on that of the event.
    fn send_event(&self, name: &str, key: &[u8], database: u16, woken: &mut Vec<Arc<Outbox>>) {
        let events = self.events();
        let channel =
            |kind: &str, of: &[u8]| [format!("__{kind}@{database}__:").as_bytes(), of].concat();
        if events.on_key() {
            self.send(Scope::All, &channel("keyspace", key), name.as_bytes(), woken);
        }
        if events.on_event() {
            self.send(Scope::All, &channel("keyevent", name.as_bytes()), key, woken);
        }
    }

    /// Tells those who track that these keys have changed, and empties the list.
    fn invalidate(&self, changed: &mut Vec<(u64, Option<Key>)>, woken: &mut Vec<Arc<Outbox>>) {
        if !changed.is_empty() {
            let keys: Vec<_> = changed.iter().map(|(id, key)| (*id, key.as_deref())).collect();
            self.tracking.invalidate(&keys, woken);
            changed.clear();
        }
    }

    /// Adds a subscription that is not there yet, and has `confirm` put the confirmation before any message.
    fn add(
        &self,
        topic: Topic,
        name: &Arc<[u8]>,
        outbox: &Arc<Outbox>,
        confirm: impl FnOnce(),
    ) -> Result<(), Text> {
        let mut tables = self.tables.lock();
        let is_known_pattern = || tables.patterns.contains_key(name);
        if topic == Topic::Pattern && tables.patterns.len() >= PATTERNS && !is_known_pattern() {
            let text = format!("ERR all clients together may subscribe to {PATTERNS} patterns");
            return Err(text.into());
        }
        if tables.bytes + channels::bytes_of(topic, name) > ALL_BYTES {
            let text = format!(
                "ERR the subscriptions of all clients together may take up {ALL_BYTES} bytes"
            );
            return Err(text.into());
        }
        tables.add(topic, name, outbox);
        self.subscriptions.fetch_add(1, Ordering::SeqCst);
        confirm();
        Ok(())
    }

    /// Removes a subscription that is there, and has `confirm` put the confirmation after every message.
    fn remove(&self, topic: Topic, name: &[u8], id: u64, confirm: impl FnOnce()) {
        let mut tables = self.tables.lock();
        tables.remove(topic, name, id);
        self.subscriptions.fetch_sub(1, Ordering::SeqCst);
        confirm();
    }

    /// The channels that have subscribers and that fit; `None` if they take up more than `most` bytes.
    pub fn channels(
        &self,
        scope: Scope,
        most: usize,
        fits: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Option<Vec<Box<[u8]>>> {
        let tables = self.tables.lock();
        let (mut bytes, mut found) = (0, Vec::new());
        for name in tables.of_scope(scope).keys().filter(|name| fits(name)) {
            bytes += channels::SUBSCRIPTION_BYTES + name.len();
            if bytes > most {
                return None;
            }
            found.push(name[..].into());
        }
        Some(found)
    }

    /// How many clients have subscribed to this.
    pub fn subscribers(&self, topic: Topic, name: &[u8]) -> usize {
        self.tables.lock().subscribers(topic, name)
    }

    /// How many different patterns there are.
    pub fn patterns(&self) -> usize {
        self.tables.lock().patterns.len()
    }

    /// How many clients have a subscription, read without the lock.
    pub fn subscribed_clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts all of it.
    pub fn counts(&self) -> Counts {
        let tables = self.tables.lock();
        Counts {
            channels: tables.channels.len(),
            patterns: tables.patterns.len(),
            shard_channels: tables.shard_channels.len(),
        }
    }

    /// Appends a message to the outbox of each subscriber. `woken` gets those that the flusher has to be told of.
    fn send(
        &self,
        scope: Scope,
        channel: &[u8],
        message: &[u8],
        woken: &mut Vec<Arc<Outbox>>,
    ) -> usize {
        if self.subscriptions.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        let kind: &[u8] = match scope {
            Scope::All => b"message",
            Scope::Shard => b"smessage",
        };
        let (mut tables, mut heard) = (self.tables.lock(), 0);
        if let Some(subscribers) = tables.of_scope(scope).get(channel) {
            let mut spelled = Spelled::new([kind, channel, message]);
            for outbox in subscribers {
                outbox.push(spelled.in_version(outbox.version()), woken);
            }
            heard += subscribers.len();
        }
        if scope == Scope::All {
            tables.for_patterns_of(channel, |pattern, subscribers| {
                let mut spelled = Spelled::new([b"pmessage", pattern, channel, message]);
                for outbox in subscribers {
                    outbox.push(spelled.in_version(outbox.version()), woken);
                }
                heard += subscribers.len();
            });
        }
        heard
    }
}

impl Audience for Hub {
    fn show_call(&self, spec: &Spec, words: &Words<'_>, database: u16) {
        self.show_of_script(spec, words, database);
    }

    fn publish(&self, scope: Scope, channel: &[u8], message: &[u8]) -> usize {
        let mut woken = Vec::new();
        let heard = self.send(scope, channel, message, &mut woken);
        self.flusher.take_over(&mut woken);
        heard
    }

    fn hearers(&self, scope: Scope, channel: &[u8]) -> usize {
        if self.subscriptions.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        let mut tables = self.tables.lock();
        let mut hearers = tables.of_scope(scope).get(channel).map_or(0, Vec::len);
        if scope == Scope::All {
            tables.for_patterns_of(channel, |_, subscribers| hearers += subscribers.len());
        }
        hearers
    }

    fn events(&self) -> Events {
        Events::from_bits(self.events.load(Ordering::Relaxed))
    }

    fn tracks(&self) -> bool {
        self.tracking.is_on()
    }

    fn invalidate_all(&self) {
        let mut woken = Vec::new();
        self.invalidate(&mut vec![(0, None)], &mut woken);
        self.flusher.take_over(&mut woken);
    }

    fn tell(&self, news: &mut Vec<News>) {
        let (mut woken, mut changed) = (Vec::new(), Vec::new());
        for news in news.drain(..) {
            match news {
                News::Message { scope, channel, message } => {
                    self.send(scope, &channel, &message, &mut woken);
                }
                News::Event { name, key, database } => {
                    if self.subscriptions.load(Ordering::SeqCst) > 0 {
                        self.send_event(name, &key, database, &mut woken);
                    }
                }
                // Changes before it are told before it is entered, those after it afterwards.
                News::Read { client, key } => {
                    self.invalidate(&mut changed, &mut woken);
                    self.tracking.remember(client, &key, &mut woken);
                }
                News::Changed { client, key } => changed.push((client, key)),
            }
        }
        self.invalidate(&mut changed, &mut woken);
        self.flusher.take_over(&mut woken);
    }
}
