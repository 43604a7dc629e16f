//! The `flusher` thread: finishes the replies that a socket did not take at once.
//!
//! It waits for all such sockets together (`epoll`), so that neither the committer nor a reader is
//! ever held up by a client that reads slowly. It knows only sockets with something left to send.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::outbox::Outbox;
use crate::sync::Mutex;

/// The key of the event that ends the thread; clients are numbered from 1.
const STOP: u64 = 0;
/// Sockets that are looked after in one round.
const EVENTS: usize = 64;

/// The sockets that are waited for.
pub struct Flusher {
    epoll: OwnedFd,
    stop: OwnedFd,
    watched: Mutex<HashMap<u64, Arc<Outbox>>>,
    /// Bytes that all clients together have not taken.
    pub unsent: AtomicUsize,
}

impl Flusher {
    /// A flusher without its thread.
    pub fn new() -> io::Result<Flusher> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Flusher { epoll, stop, watched: Mutex::default(), unsent: AtomicUsize::new(0) })
    }

    /// Takes over an outbox until all of it is sent.
    pub fn watch(&self, outbox: &Arc<Outbox>) -> io::Result<()> {
        self.watched.lock().insert(outbox.id, outbox.clone());
        let flags = EventFlags::OUT | EventFlags::ONESHOT;
        let data = EventData::new_u64(outbox.id);
        epoll::add(&self.epoll, outbox.socket(), data, flags).map_err(|errno| {
            self.watched.lock().remove(&outbox.id);
            errno.into()
        })
    }

    /// What the thread does.
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
        // Before the flush: as soon as the outbox is empty, it may be handed over anew.
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
