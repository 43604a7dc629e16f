//! A batch being evaluated: the changes that are to be logged and applied, and what they add up to.
//!
//! Commands are evaluated one after the other against the store plus what the batch has changed so far,
//! by the one thread on the commit path, so that no lock is needed. The result is a list of absolute
//! [changes](Changed); the commands see it through a [`BatchView`](super::batch_view::BatchView).
//!
//! The changes of one command, or of one transaction, gather on top of the others until all of it is
//! evaluated. Then they are kept, of each key only the last one, or forgotten as if they had never been:
//! a command that would exceed the memory limit is refused before it takes the memory (promise 8), and as a
//! whole (promise 7). A command inside a transaction is a part of it: its changes lie on top of the
//! transaction's, so that one that fails half-way takes back its own and the transaction goes on. A program inside a
//! transaction is such a part, and a command of the program's a part of that.

use std::sync::Arc;

use super::audience::{Audience, Gathered};
use super::events::Cause;
use super::layer::Layer;
use super::watches::Watches;
use crate::command::{Changed, Events, Mutation, Order, Reply, Space};

/// The layers of changes on top of the store: those of the commands that are evaluated,
const KEPT: usize = 0;
/// those of the command, or the transaction, that is being evaluated,
const RUNNING: usize = 1;
/// those of a part of it,
const PART: usize = 2;
/// and those of a part of that.
const PART_OF_PART: usize = 3;

/// Changes on top of a store.
///
/// - Every layer above the `top` one is empty. Between two commands only the `KEPT` layer may have changes, and
///   `sums` equal `sums_kept`.
pub struct Batch {
    /// The time at which it is evaluated.
    pub now: i64,
    /// The longest value.
    pub max_value: usize,
    /// Whether readers have to see all of it at once, because some command changes several keys.
    pub together: bool,
    /// WATCH flags by key. Only the committing thread touches them, so that setting one cannot race with
    /// EXEC looking at it.
    pub watches: Watches,
    /// What there is to tell once it is durable.
    pub news: Gathered,
    /// Those who are told, if there is a server.
    pub audience: Option<Arc<dyn Audience>>,
    /// Which changes of keys are told.
    pub events: Events,
    /// Whether changed keys are noted for clients that have read them.
    pub tracks: bool,
    /// The client whose command is running, and whether it wants to know when something changes that it reads.
    pub client: u64,
    pub remembers: bool,
    /// The command that is running, as events name it.
    pub cause: Cause,
    /// Whether the running command may be refused for what it adds.
    pub may_grow: bool,
    /// Which changes may be added.
    pub takes: Takes,
    /// Each lies on the one before it.
    pub(super) layers: [Layer; PART_OF_PART + 1],
    /// The kept changes, on their way into log and store.
    changed: Changed,
    /// Which space each number stands for in the store. Only the committing thread changes that.
    order: Order,
    /// How many databases there are.
    pub databases: u16,
    /// The layer to which changes are added: `RUNNING`, or one above it within a part.
    top: usize,
    /// Of all layers.
    pub(super) sums: Sums,
    /// Of what is kept.
    sums_kept: Sums,
    /// Of all that was there when the part of this layer began.
    sums_before: [Sums; PART_OF_PART + 1],
    /// Bytes of all values that the running command has made out of existing ones. Those of a part that is
    /// forgotten stay counted, because this also bounds the time that they took.
    pub(super) made_bytes: usize,
    /// Whether it had to be shown values that were made for it, after as much as it may make.
    pub is_overdrawn: bool,
    /// Bytes that the store may take up, if that is limited.
    pub(super) most_memory: Option<i64>,
}

/// Which changes a batch takes, as the log has room for them.
#[derive(Clone, Debug)]
pub enum Takes {
    /// All.
    Everything,
    /// Removals; the reply is that to a command which does more.
    Removals(Reply<'static>),
    /// None, because nothing will be written; the reply is that to a command which turns out to change something.
    Nothing(Reply<'static>),
}

impl Takes {
    /// The reply to a command that is refused.
    pub fn refusal(&self) -> Option<&Reply<'static>> {
        match self {
            Takes::Everything => None,
            Takes::Removals(reply) | Takes::Nothing(reply) => Some(reply),
        }
    }

    pub(super) fn allows(&self, mutation: &Mutation) -> bool {
        match self {
            Takes::Everything => true,
            Takes::Removals(_) => !mutation.keeps_key(),
            Takes::Nothing(_) => false,
        }
    }

    /// Whether everything may be removed.
    pub(super) fn allows_clear(&self) -> bool {
        self.allows(&Mutation::Clear)
    }

    /// Whether the order of the databases may change, which frees nothing.
    pub(super) fn allows_swap(&self) -> bool {
        self.refusal().is_none()
    }
}

/// What changes add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Bytes of the entries that were set.
    pub bytes: usize,
    /// Bytes that the store takes up after them; kept only if memory is limited.
    pub used: i64,
}

impl Batch {
    /// An empty batch.
    pub fn new(max_value: usize, databases: u16, order: Order) -> Batch {
        Batch {
            now: 0,
            max_value,
            together: false,
            watches: Watches::default(),
            news: Gathered::default(),
            audience: None,
            events: Events::default(),
            tracks: false,
            client: 0,
            remembers: false,
            cause: "",
            may_grow: false,
            takes: Takes::Everything,
            layers: Default::default(),
            changed: Changed::default(),
            order,
            databases,
            top: RUNNING,
            sums: Sums::default(),
            sums_kept: Sums::default(),
            sums_before: Default::default(),
            made_bytes: 0,
            is_overdrawn: false,
            most_memory: None,
        }
    }

    /// Begins anew at this time, on a store with these bytes in use and allowed. Watches stay.
    pub fn begin(&mut self, now: i64, used_and_most: Option<(usize, usize)>) {
        self.clear();
        debug_assert!(self.layers.iter().all(Layer::is_empty), "a batch begins empty");
        self.now = now;
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (used, most) = used_and_most.unzip();
        self.most_memory = most.map(signed);
        self.sums_kept.used = used.map_or(0, signed);
        self.sums = self.sums_kept;
    }

    /// Forgets everything but the watches and the audience.
    pub fn clear(&mut self) {
        self.layers.iter_mut().for_each(Layer::clear);
        self.layers[KEPT].give_back(&mut self.changed);
        self.top = RUNNING;
        self.news.clear();
        self.together = false;
        (self.sums, self.sums_kept) = (Sums::default(), Sums::default());
        (self.made_bytes, self.is_overdrawn) = (0, false);
        self.most_memory = None;
    }

    /// Those who are told of this batch from now on, and what they want to know.
    pub fn attend(&mut self, audience: Option<&Arc<dyn Audience>>) {
        self.audience = audience.cloned();
        self.events = audience.map_or(Events::default(), |audience| audience.events());
        self.tracks = audience.is_some_and(|audience| audience.tracks());
    }

    /// The changes to be logged. No command can be evaluated from here on, until the batch is applied or
    /// cleared.
    pub fn changed(&mut self) -> &Changed {
        if !self.layers[KEPT].is_empty() {
            self.layers[KEPT].hand_over(&mut self.changed);
            // Two SWAPDBs may have changed nothing.
            self.changed.order.take_if(|order| *order == self.order);
        }
        &self.changed
    }

    /// Hands over the changes to be applied, with whether readers have to see all of them at once.
    pub fn apply(&mut self, apply: impl FnOnce(&mut Changed, bool)) {
        if let Some(order) = &self.changed.order {
            self.order.clone_from(order);
        }
        apply(&mut self.changed, self.together);
        assert!(self.changed.is_empty(), "the store has taken every change");
        self.layers[KEPT].give_back(&mut self.changed);
    }

    /// Which space each number stands for after all changes so far.
    pub fn order(&self) -> &Order {
        self.layers.iter().rev().find_map(Layer::order).unwrap_or(&self.order)
    }

    /// Which space each number stands for in the store, if something else than a batch has changed that.
    pub fn set_order(&mut self, order: Order) {
        debug_assert!(self.layers.iter().all(Layer::is_empty), "only between two batches");
        self.order = order;
    }

    /// The same before the running command.
    pub fn order_before(&self) -> &Order {
        self.layers[KEPT].order().unwrap_or(&self.order)
    }

    /// Bytes of all entries that its commands have set.
    pub fn bytes(&self) -> usize {
        self.sums.bytes
    }

    /// The layer to which changes are added, after which all of them add up to `sums`.
    pub(super) fn add(&mut self, sums: Sums) -> &mut Layer {
        self.sums = sums;
        &mut self.layers[self.top]
    }

    /// Bytes that a database takes up of `stored` bytes in the store; kept only if memory is limited.
    pub(super) fn used_by(&self, space: Space, stored: impl FnOnce() -> i64) -> i64 {
        let mut grown = 0;
        for layer in self.layers.iter().rev() {
            grown += layer.grown(space);
            if layer.hides(space) {
                return grown;
            }
        }
        grown + stored()
    }

    /// Keeps the changes of the running command.
    pub fn keep(&mut self) {
        debug_assert_eq!(self.top, RUNNING, "a part ends before its command");
        if !self.layers[RUNNING].is_empty() {
            self.together |= !self.layers[RUNNING].is_about_one_key();
            self.touch();
            if self.tracks {
                self.note_changed();
            }
            let [kept, running, ..] = &mut self.layers;
            kept.append(running);
        }
        self.news.keep();
        self.sums_kept = self.sums;
        (self.made_bytes, self.is_overdrawn) = (0, false);
    }

    /// Lets those know who watch what the running command changes.
    fn touch(&mut self) {
        if self.watches.is_empty() {
            return;
        }
        let mut watches = std::mem::take(&mut self.watches);
        let running = &self.layers[RUNNING];
        if running.clears_all() {
            watches.touch_all();
        }
        for (space, mutations) in running.changed() {
            watches.touch(self.order().number_of(space), mutations);
        }
        self.watches = watches;
    }

    /// Notes the changed keys for those who have read them: by name, whatever the database, as in Redis.
    fn note_changed(&mut self) {
        let running = &self.layers[RUNNING];
        if running.clears_all() || running.order().is_some() {
            self.news.note_changed(self.client, &[Mutation::Clear]);
        }
        for (_, mutations) in running.changed() {
            self.news.note_changed(self.client, mutations);
        }
    }

    /// Forgets the changes of the running command, with those of its parts.
    pub fn forget(&mut self) {
        self.layers[RUNNING..].iter_mut().for_each(Layer::clear);
        self.top = RUNNING;
        self.sums = self.sums_kept;
        self.news.forget();
        (self.made_bytes, self.is_overdrawn) = (0, false);
    }

    /// From now on changes belong to a part of the running command, or to a part of that part, which alone may be
    /// taken back.
    pub fn begin_part(&mut self) {
        assert!(self.top < PART_OF_PART, "a part of a part has no parts");
        self.top += 1;
        self.sums_before[self.top] = self.sums;
        self.news.begin_part();
    }

    /// Ends the part that began last; its changes belong to what it is a part of.
    pub fn keep_part(&mut self) {
        assert!(self.top >= PART, "a part was begun");
        let (below, part) = self.layers.split_at_mut(self.top);
        self.top -= 1;
        if !part[0].is_empty() {
            below[self.top].absorb(&mut part[0]);
        }
        self.news.keep_part();
    }

    /// Ends the part that began last as if it had changed nothing.
    pub fn forget_part(&mut self) {
        assert!(self.top >= PART, "a part was begun");
        self.layers[self.top].clear();
        self.sums = self.sums_before[self.top];
        self.news.forget_part();
        self.top -= 1;
    }

    /// Counts a value of this length that was made to be shown. A read cannot be refused for that: the transaction is,
    /// after it.
    pub(super) fn note_made(&mut self, length: usize, most: usize) {
        self.sums.bytes += length;
        let made_bytes = self.made_bytes.saturating_add(length);
        self.is_overdrawn |= self.made_bytes > 0 && made_bytes > most;
        self.made_bytes = made_bytes;
    }

    /// Bytes that the running command's partial changes of a key add to the log.
    pub(super) fn altered_bytes(&self, space: Space, key: &[u8]) -> usize {
        self.layers[RUNNING..].iter().map(|layer| layer.altered_bytes(space, key)).sum()
    }

    /// Whether nothing may be added.
    pub fn is_full(&self) -> bool {
        self.most_memory.is_some_and(|most| self.sums.used > most)
    }
}
