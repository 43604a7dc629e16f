//! The `flusher` thread: finishes the replies that a socket did not take at once, and sends the messages that
//! clients publish.
//!
//! It waits for all such sockets together (`epoll`), so that neither the committer nor a reader is
//! ever held up by a client that reads slowly. It knows only sockets with something left to send.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::outbox::Outbox;
use crate::sync::Mutex;

/// The key of the event that ends the thread; clients are numbered from 1.
const STOP: u64 = 0;

/// The key of the event that tells of outboxes handed over.
const HANDED_OVER: u64 = u64::MAX;

/// How often it looks for clients that leave many messages unread for too long.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The most sockets that are served in one round.
const EVENTS: usize = 64;

/// The sockets with something left to send.
pub struct Flusher {
    epoll: OwnedFd,
    stop: OwnedFd,
    wake: OwnedFd,
    /// Outboxes with something to send that nobody has tried to send yet.
    handed_over: Mutex<Vec<Arc<Outbox>>>,
    /// Some client may leave many messages unread.
    has_heavy: AtomicBool,
    watched: Mutex<HashMap<u64, Arc<Outbox>>>,
    /// What clients may leave unread.
    pub limits: UnreadLimits,
    /// Bytes that all clients together have not taken, or that are reserved for replies being formed.
    unread: AtomicUsize,
}

/// How many bytes clients may leave unread.
#[derive(Clone, Copy, Debug)]
pub struct UnreadLimits {
    /// The longest reply, and all that one client may leave unread: Redis's
    /// `client-output-buffer-limit`.
    pub one: usize,
    /// All clients together: Redis's `maxmemory-clients`.
    pub all: usize,
}

impl Default for UnreadLimits {
    /// Redis has no such limits for ordinary clients, and may run out of memory. A client library may send a
    /// whole pipeline before it reads the first reply: 256 MiB is more than any that we know of needs, and
    /// four clients may need it at a time.
    fn default() -> UnreadLimits {
        UnreadLimits { one: 256 << 20, all: 1 << 30 }
    }
}

impl Flusher {
    /// A flusher without its thread.
    pub fn new(limits: UnreadLimits) -> io::Result<Flusher> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(HANDED_OVER), EventFlags::IN)?;
        let (watched, unread) = (Mutex::default(), AtomicUsize::new(0));
        let (handed_over, has_heavy) = (Mutex::default(), AtomicBool::new(false));
        Ok(Flusher { epoll, stop, wake, handed_over, has_heavy, watched, limits, unread })
    }

    /// Bytes that all clients together have not read.
    pub fn unread_bytes(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    /// Updates the sum over all clients: one had `before` bytes and has `now`.
    pub fn account(&self, before: usize, now: usize) {
        self.unread.fetch_add(now, Ordering::Relaxed);
        self.unread.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether all clients may leave this much more unread.
    pub fn has_room(&self, more: usize) -> bool {
        self.unread_bytes().saturating_add(more) <= self.limits.all
    }

    /// Closes the clients that leave most unread until all together, with this much `more`, are within the limit,
    /// as Redis evicts clients, and never those that said CLIENT NO-EVICT. False if the next one has less unread than `asking`. No outbox may be locked.
    pub fn make_room(&self, asking: &Outbox, more: usize) -> bool {
        while !self.has_room(more) {
            let watched = self.watched.lock();
            let is_kept = |other: &Outbox| other.profile.is_kept.load(Ordering::Relaxed);
            let others = watched.values().filter(|other| other.id != asking.id && !is_kept(other));
            let largest = others.max_by_key(|other| other.unread_bytes()).cloned();
            drop(watched);
            // At least one: a client that is closed already has nothing.
            let least = asking.unread_bytes().max(1);
            match largest.filter(|other| other.unread_bytes() >= least) {
                Some(largest) => largest.evict(),
                None => return false,
            }
        }
        true
    }

    /// Takes over outboxes with messages to send, all by one system call at most, and empties the list.
    pub fn take_over(&self, outboxes: &mut Vec<Arc<Outbox>>) {
        if outboxes.is_empty() {
            return;
        }
        let mut handed_over = self.handed_over.lock();
        let is_awake = !handed_over.is_empty();
        handed_over.append(outboxes);
        drop(handed_over);
        if !is_awake {
            notify(&self.wake);
        }
    }

    /// Notes that a client leaves many messages unread: the thread looks after it from now on.
    pub fn note_heavy(&self) {
        if !self.has_heavy.swap(true, Ordering::Relaxed) {
            notify(&self.wake);
        }
    }

    /// Takes over an outbox until all of it is sent.
    pub fn watch(&self, outbox: &Arc<Outbox>) -> io::Result<()> {
        let before = self.watched.lock().insert(outbox.id, outbox.clone());
        debug_assert!(before.is_none(), "an outbox is watched once at a time");
        let flags = EventFlags::OUT | EventFlags::ONESHOT;
        let data = EventData::new_u64(outbox.id);
        epoll::add(&self.epoll, outbox.wire(), data, flags).map_err(|errno| {
            self.watched.lock().remove(&outbox.id);
            errno.into()
        })
    }

    /// The thread's loop.
    pub fn run(&self) {
        let interval = Timespec { tv_sec: LOOK_INTERVAL.as_secs() as i64, tv_nsec: 0 };
        let mut looked_at = Instant::now();
        let has_heavy = || self.has_heavy.load(Ordering::Relaxed);
        while self.round(has_heavy().then_some(&interval)) {
            if has_heavy() && looked_at.elapsed() >= LOOK_INTERVAL {
                self.look_for_heavy();
                looked_at = Instant::now();
            }
        }
    }

    /// Closes the clients that leave many messages unread for too long.
    fn look_for_heavy(&self) {
        // Before the look: a client that becomes one meanwhile is noted again.
        self.has_heavy.store(false, Ordering::Relaxed);
        let watched: Vec<_> = self.watched.lock().values().cloned().collect();
        let heavy = watched.iter().filter(|outbox| outbox.look_for_heavy()).count();
        if heavy > 0 {
            self.has_heavy.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for sockets that take something, and serves them; false if the thread is to end.
    pub fn round(&self, at_most: Option<&Timespec>) -> bool {
        let mut events =
            [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let ready = match epoll::wait(&self.epoll, &mut events, at_most) {
            Ok(count) => &events[..count],
            Err(Errno::INTR) => return true,
            Err(errno) => panic!("epoll_wait fails only by a wrong argument: {errno}"),
        };
        for event in ready {
            match event.data.u64() {
                STOP => return false,
                HANDED_OVER => self.flush_handed_over(),
                id => self.flush(id),
            }
        }
        true
    }

    /// Ends the thread.
    pub fn stop(&self) {
        notify(&self.stop);
    }

    /// Sends what was handed over, once for each outbox, however many messages are in it by now.
    fn flush_handed_over(&self) {
        // Read before the list is taken: what is handed over later wakes the thread again.
        if let Err(errno) = rustix::io::read(&self.wake, &mut [0; 8]) {
            debug_assert_eq!(errno, Errno::AGAIN, "an eventfd can be read");
        }
        let handed_over = std::mem::take(&mut *self.handed_over.lock());
        handed_over.iter().for_each(|outbox| self.finish(outbox));
    }

    /// Sends what the socket takes, and watches it if something is left.
    fn finish(&self, outbox: &Arc<Outbox>) {
        if outbox.flush()
            && let Err(error) = self.watch(outbox)
        {
            log::error!("client {}: closed, cannot watch its socket: {error}", outbox.id);
            outbox.abandon();
        }
    }

    fn flush(&self, id: u64) {
        let Some(outbox) = self.watched.lock().get(&id).cloned() else {
            return;
        };
        // Removed before the flush: as soon as the outbox is empty, it may be handed over anew.
        self.watched.lock().remove(&id);
        let removed = epoll::delete(&self.epoll, outbox.wire());
        if let Err(error) = removed {
            log::debug!("client {id}: was not watched: {error}");
        }
        self.finish(&outbox);
    }
}

fn notify(event: &OwnedFd) {
    // An eventfd takes eight bytes; any number but zero wakes the thread.
    if let Err(errno) = rustix::io::write(event, &[1; 8]) {
        log::error!("cannot wake the flusher: {errno}");
    }
}
