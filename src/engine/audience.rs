//! Those who hear of messages, and what the running batch has to tell them.
//!
//! A message that is published in a batch, after a write of its connection, in a transaction or in a script, is
//! gathered here. It is kept or forgotten with the changes of its command, and told after the batch is durable
//! and visible, before the batch's replies: nobody hears of what a crash could take back, and whoever hears of a
//! change finds it. The engine knows no more of those who hear than this trait.

use crate::command::{Events, Key, Mutation, Refusal, Scope, Spec, Words};

/// Bytes of messages that one transaction may send: as much as a client may send for one. It bounds what a
/// script publishes.
const GATHERED_BYTES: usize = 1 << 30;

/// Those who hear.
pub trait Audience: Send + Sync {
    /// Has a message heard at once, and returns by how many.
    fn publish(&self, scope: Scope, channel: &[u8], message: &[u8]) -> usize;
    /// How many would hear a message on this channel.
    fn hearers(&self, scope: Scope, channel: &[u8]) -> usize;
    /// Which changes of keys are told.
    fn events(&self) -> Events;
    /// Whether some client wants to know of every change of what it has read.
    fn tracks(&self) -> bool;
    /// Has every client forget all values that it has read: the changed keys are not known.
    fn invalidate_all(&self);
    /// Shows a command of a program to those who watch all requests. `database` is the selected one.
    fn show_call(&self, spec: &Spec, words: &Words<'_>, database: u16);
    /// Tells all of this in order, and empties the list. Called by the thread that commits, or by that of a client that
    /// has missed a key: it must not wait for a client.
    fn tell(&self, news: &mut Vec<News>);
}

/// Something to be told.
#[derive(Debug)]
pub enum News {
    /// A message.
    Message {
        /// Where it is heard.
        scope: Scope,
        /// On this channel.
        channel: Box<[u8]>,
        /// The message itself.
        message: Box<[u8]>,
    },
    /// Something has happened to a key.
    Event {
        /// Its name.
        name: &'static str,
        /// The key.
        key: Key,
        /// The number of the key's database.
        database: u16,
    },
    /// A client has read a key, and wants to know when that changes.
    Read {
        /// The client's number.
        client: u64,
        /// The key.
        key: Key,
    },
    /// A client has changed a key; the server itself is number 0.
    Changed {
        /// The client's number.
        client: u64,
        /// The key; `None` stands for all.
        key: Option<Key>,
    },
}

impl News {
    /// A read has not found a key.
    pub fn missed(key: &[u8], database: u16) -> News {
        News::Event { name: "keymiss", key: key.into(), database }
    }

    fn bytes(&self) -> usize {
        match self {
            News::Message { channel, message, .. } => channel.len() + message.len(),
            News::Event { key, .. } | News::Read { key, .. } => key.len(),
            News::Changed { key, .. } => key.as_ref().map_or(0, |key| key.len()),
        }
    }
}

/// What a batch has to tell, in order.
///
/// - `news[running..]` is of the running command or transaction, and its messages have had `running_bytes` bytes.
/// - `parts` has, for each part that is running, how much there was before it.
#[derive(Debug, Default)]
pub struct Gathered {
    news: Vec<News>,
    running: usize,
    running_bytes: usize,
    parts: Vec<usize>,
}

impl Gathered {
    /// Adds something of the running command.
    pub fn push(&mut self, news: News) -> Result<(), Refusal> {
        let bytes = self.running_bytes + news.bytes();
        if bytes > GATHERED_BYTES {
            return Err(Refusal::TooMuch);
        }
        self.running_bytes = bytes;
        self.news.push(news);
        Ok(())
    }

    /// Adds that a client has changed these keys.
    pub fn note_changed(&mut self, client: u64, mutations: &[Mutation]) {
        self.news.extend(mutations.iter().map(|mutation| {
            let key = match mutation {
                Mutation::Clear => None,
                _ => Some(mutation.key().into()),
            };
            News::Changed { client, key }
        }));
    }

    /// Keeps what the running command has to tell.
    pub fn keep(&mut self) {
        (self.running, self.running_bytes) = (self.news.len(), 0);
    }

    /// Forgets what the running command has to tell.
    pub fn forget(&mut self) {
        self.news.truncate(self.running);
        self.running_bytes = 0;
        self.parts.clear();
    }

    /// A part of the running command begins, which alone may be taken back.
    pub fn begin_part(&mut self) {
        self.parts.push(self.news.len());
    }

    /// Ends the part that began last; what it has to tell belongs to what it is a part of.
    pub fn keep_part(&mut self) {
        self.parts.pop().expect("a part was begun");
    }

    /// Ends the part that began last as if it had nothing to tell. Its bytes stay counted.
    pub fn forget_part(&mut self) {
        self.news.truncate(self.parts.pop().expect("a part was begun"));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        (self.running, self.running_bytes) = (0, 0);
        self.parts.clear();
        self.news.clear();
    }

    /// Tells all that was kept.
    pub fn tell(&mut self, audience: &dyn Audience) {
        debug_assert_eq!(self.running, self.news.len(), "every command is kept or forgotten");
        if !self.news.is_empty() {
            audience.tell(&mut self.news);
        }
        self.clear();
    }
}
