//! The `flusher` thread: finishes the replies that a socket did not take at once.
//!
//! It waits for all such sockets together (`epoll`), so that neither the committer nor a reader is
//! ever held up by a client that reads slowly. It knows only sockets with something left to send.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::outbox::Outbox;
use crate::sync::Mutex;

/// The key of the event that ends the thread; clients are numbered from 1.
const STOP: u64 = 0;

/// The most sockets that are served in one round.
const EVENTS: usize = 64;

/// The sockets with something left to send.
pub struct Flusher {
    epoll: OwnedFd,
    stop: OwnedFd,
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
        let (watched, unread) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Flusher { epoll, stop, watched, limits, unread })
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

    /// Closes the clients that leave most unread until all together are within the limit, as Redis evicts
    /// clients. False if the next one has less unread than `asking`. No outbox may be locked.
    pub fn make_room(&self, asking: &Outbox) -> bool {
        while self.unread_bytes() > self.limits.all {
            let watched = self.watched.lock();
            let others = watched.values().filter(|other| other.id != asking.id);
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

    /// Takes over an outbox until all of it is sent.
    pub fn watch(&self, outbox: &Arc<Outbox>) -> io::Result<()> {
        let before = self.watched.lock().insert(outbox.id, outbox.clone());
        debug_assert!(before.is_none(), "an outbox is watched once at a time");
        let flags = EventFlags::OUT | EventFlags::ONESHOT;
        let data = EventData::new_u64(outbox.id);
        epoll::add(&self.epoll, outbox.socket(), data, flags).map_err(|errno| {
            self.watched.lock().remove(&outbox.id);
            errno.into()
        })
    }

    /// The thread's loop.
    pub fn run(&self) {
        while self.round(None) {}
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
                id => self.flush(id),
            }
        }
        true
    }

    /// Ends the thread.
    pub fn stop(&self) {
        // An eventfd takes eight bytes; any number but zero wakes the thread.
        if let Err(errno) = rustix::io::write(&self.stop, &[1; 8]) {
            log::error!("cannot stop the flusher: {errno}");
        }
    }

    fn flush(&self, id: u64) {
        let Some(outbox) = self.watched.lock().get(&id).cloned() else {
            return;
        };
        // Removed before the flush: as soon as the outbox is empty, it may be handed over anew.
        self.watched.lock().remove(&id);
        let removed = epoll::delete(&self.epoll, outbox.socket());
        if let Err(error) = removed {
            log::debug!("client {id}: was not watched: {error}");
        }
        if outbox.flush()
            && let Err(error) = self.watch(&outbox)
        {
            log::error!("client {id}: closed, cannot watch its socket: {error}");
            outbox.abandon();
        }
    }
}
