//! Client-side caching: which client has read which key, and is told when that changes.
//!
//! No invalidation is missed. A key is entered here before it is read, and the committer looks here after a change
//! is visible: a read that finds the value before the change was entered before the change, and the committer
//! finds it. Reads in the queue are entered in their place among the changes of their batch. The price is an
//! invalidation too many now and then, which only costs a read.
//!
//! One lock for all of it; outboxes are locked under it, one at a time. While nobody tracks, a read pays a look
//! at its own session, and a batch one atomic load.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::outbox::Outbox;
use super::spelling::{self, Invalidation};
use crate::command::{ClientKind, TrackingMode, TrackingState};
use crate::sync::Mutex;

/// The most keys that are remembered at first: Redis's default of `tracking-table-max-keys`. Above it one of them is forgotten, and
/// its readers are told that it has changed.
pub const TRACKED_KEYS: usize = 1_000_000;

/// Keys that are forgotten under one lock after the limit was lowered.
const STEP: usize = 1000;

/// The most bytes that they take up: a million keys of usual length.
const TRACKED_BYTES: usize = 256 << 20;

/// Bytes of a key beside its name: an entry of the table, and a list with some clients.
const KEY_BYTES: usize = 100;

/// The most prefixes of all clients together: each change is compared with every one.
pub const PREFIXES: usize = 10_000;

/// See the head of this file.
pub struct Tracking {
    state: Mutex<State>,
    /// How many clients track, to be read without the lock.
    clients: AtomicUsize,
    /// See [`Tracking::most_keys`]; 0 is no limit.
    most_keys: AtomicUsize,
}

/// - `bytes` is what `readers` take up, by [`KEY_BYTES`] and one number for each client.
#[derive(Default)]
struct State {
    trackers: BTreeMap<u64, Tracker>,
    readers: HashMap<Box<[u8]>, Vec<u64>>,
    bytes: usize,
    prefixes: usize,
}

/// A client that tracks.
struct Tracker {
    outbox: Arc<Outbox>,
    /// Who is told in its place.
    redirect: Option<Arc<Outbox>>,
    settings: TrackingState,
}

/// What INFO shows.
pub struct Tracked {
    pub clients: usize,
    pub keys: usize,
    pub items: usize,
    pub prefixes: usize,
}

impl Default for Tracking {
    fn default() -> Tracking {
        let (state, clients, most_keys) = (Mutex::default(), 0.into(), TRACKED_KEYS.into());
        Tracking { state, clients, most_keys }
    }
}

impl Tracking {
    /// The most keys that are remembered.
    pub fn most_keys(&self) -> usize {
        match self.most_keys.load(Ordering::Relaxed) {
            0 => usize::MAX,
            most => most,
        }
    }

    /// Sets it; 0 is no limit but that of memory. What is too much is forgotten with [`Tracking::forget_some`].
    pub fn set_most_keys(&self, most: usize) {
        self.most_keys.store(most, Ordering::Relaxed);
    }

    /// Forgets some of the keys that are too many, and returns whether there may be more of them. Nobody who commits
    /// waits for long, and no key is looked for behind all those that have been forgotten.
    pub fn forget_some(&self, woken: &mut Vec<Arc<Outbox>>) -> bool {
        let mut state = self.state.lock();
        let surplus = state.readers.len().saturating_sub(self.most_keys()).min(STEP);
        let some: Vec<Box<[u8]>> = state.readers.keys().take(surplus).cloned().collect();
        some.iter().for_each(|key| state.forget(key, None, woken));
        surplus == STEP
    }

    /// Whether any client tracks.
    pub fn is_on(&self) -> bool {
        self.clients.load(Ordering::SeqCst) > 0
    }

    /// A client tracks from now on, in this way. False if there would be too many prefixes.
    pub fn begin(
        &self,
        outbox: &Arc<Outbox>,
        settings: &TrackingState,
        redirect: Option<Arc<Outbox>>,
    ) -> bool {
        let mut state = self.state.lock();
        let before = state.trackers.get(&outbox.id).map_or(0, |old| old.settings.prefixes.len());
        let prefixes = state.prefixes - before + settings.prefixes.len();
        if prefixes > PREFIXES {
            return false;
        }
        state.prefixes = prefixes;
        let tracker = Tracker { outbox: outbox.clone(), redirect, settings: settings.clone() };
        state.trackers.insert(outbox.id, tracker);
        self.clients.store(state.trackers.len(), Ordering::SeqCst);
        true
    }

    /// A client tracks no more. What it has read is forgotten when that changes, or nobody tracks.
    pub fn end(&self, id: u64) {
        let mut state = self.state.lock();
        let Some(tracker) = state.trackers.remove(&id) else {
            return;
        };
        state.prefixes -= tracker.settings.prefixes.len();
        self.clients.store(state.trackers.len(), Ordering::SeqCst);
        if state.trackers.is_empty() {
            *state = State::default();
        }
    }

    /// The state of a client that tracks.
    pub fn of(&self, id: u64) -> Option<TrackingState> {
        Some(self.state.lock().trackers.get(&id)?.settings.clone())
    }

    /// A client is about to read a key.
    pub fn remember(&self, id: u64, key: &[u8], woken: &mut Vec<Arc<Outbox>>) {
        let mut state = self.state.lock();
        let is_tracking = state.trackers.get(&id).is_some_and(|tracker| !tracker.is_broadcast());
        if !is_tracking {
            return;
        }
        let mut added = size_of::<u64>();
        match state.readers.get_mut(key) {
            Some(readers) => match readers.binary_search(&id) {
                Ok(_) => return,
                Err(place) => readers.insert(place, id),
            },
            None => {
                added += KEY_BYTES + key.len();
                state.readers.insert(key.into(), vec![id]);
            }
        }
        state.bytes += added;
        let most = self.most_keys();
        while state.readers.len() > most || state.bytes > TRACKED_BYTES {
            let other = state.readers.keys().find(|other| ***other != *key).cloned();
            let Some(other) = other else { break };
            state.forget(&other, None, woken);
        }
    }

    /// Tells those who have read these keys, or asked for their prefixes, that they have changed. Each is with the
    /// client that has changed it; `None` stands for all keys.
    pub fn invalidate(&self, changed: &[(u64, Option<&[u8]>)], woken: &mut Vec<Arc<Outbox>>) {
        let mut state = self.state.lock();
        let mut first = 0;
        for (place, (client, key)) in changed.iter().enumerate() {
            match key {
                Some(key) => state.forget(key, Some(*client), woken),
                None => {
                    state.broadcast(&changed[first..place], woken);
                    first = place + 1;
                    state.forget_all(woken);
                }
            }
        }
        state.broadcast(&changed[first..], woken);
    }

    /// Counts all of it.
    pub fn counts(&self) -> Tracked {
        let state = self.state.lock();
        Tracked {
            clients: state.trackers.len(),
            keys: state.readers.len(),
            items: state.readers.values().map(Vec::len).sum(),
            prefixes: state.prefixes,
        }
    }
}

impl State {
    /// Forgets who has read a key, and tells them. A client that wants no word of its own changes gets none.
    fn forget(&mut self, key: &[u8], by: Option<u64>, woken: &mut Vec<Arc<Outbox>>) {
        let Some(readers) = self.readers.remove(key) else {
            return;
        };
        self.bytes -= KEY_BYTES + key.len() + readers.len() * size_of::<u64>();
        let keys = [key];
        let mut spelled = Invalidation::of(Some(&keys));
        for id in readers {
            if let Some(tracker) = self.trackers.get_mut(&id)
                && !tracker.is_broadcast()
                && !(tracker.settings.skips_own && by == Some(id))
            {
                tracker.tell(&mut spelled, woken);
            }
        }
    }

    /// Has every client forget everything.
    fn forget_all(&mut self, woken: &mut Vec<Arc<Outbox>>) {
        self.readers = HashMap::new();
        self.bytes = 0;
        let mut spelled = Invalidation::of(None);
        self.trackers.values_mut().for_each(|tracker| tracker.tell(&mut spelled, woken));
    }

    /// Tells those who asked for prefixes of these keys, in one message for each prefix, as Redis does.
    fn broadcast(&mut self, changed: &[(u64, Option<&[u8]>)], woken: &mut Vec<Arc<Outbox>>) {
        if self.prefixes == 0 {
            return;
        }
        for tracker in self.trackers.values_mut().filter(|tracker| tracker.is_broadcast()) {
            let (id, skips_own) = (tracker.outbox.id, tracker.settings.skips_own);
            for prefix in tracker.settings.prefixes.clone() {
                let concerns = |client: u64, key: &[u8]| {
                    !(skips_own && client == id) && key.starts_with(&prefix)
                };
                let mut keys: Vec<&[u8]> = changed
                    .iter()
                    .filter_map(|(client, key)| key.filter(|key| concerns(*client, key)))
                    .collect();
                keys.sort_unstable();
                keys.dedup();
                if !keys.is_empty() {
                    tracker.tell(&mut Invalidation::of(Some(&keys)), woken);
                }
            }
        }
    }
}

impl Tracker {
    fn is_broadcast(&self) -> bool {
        self.settings.mode == TrackingMode::Broadcast
    }

    /// Sends an invalidation to the client, or to the one in its place. In RESP2 only a subscriber can hear it.
    fn tell(&mut self, spelled: &mut Invalidation<'_>, woken: &mut Vec<Arc<Outbox>>) {
        use crate::command::RespVersion::V3;
        match &self.redirect {
            None if self.outbox.version() == V3 => self.outbox.push(spelled.pushed(), woken),
            None => {}
            Some(target) if target.has_left() => {
                self.settings.is_broken = true;
                self.outbox.profile.note_tracking(Some(&self.settings));
                if self.outbox.version() == V3 {
                    self.outbox.push(&spelling::broken_redirection(target.id), woken);
                }
            }
            Some(target) if target.version() == V3 => target.push(spelled.pushed(), woken),
            Some(target) if target.profile.kind() == ClientKind::Subscriber => {
                target.push(spelled.as_message(), woken);
            }
            Some(_) => {}
        }
    }
}
