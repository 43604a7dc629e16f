//! The connected clients: for CLIENT LIST and KILL, for the limit, and to wait for all of them at a stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use super::accounts::Accounts;
use super::outbox::Outbox;
use crate::command::{KillFilter, Listed};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex};

/// How long the threads of clients that were cut off have to notice it. With `STOP_PATIENCE` before that, a
/// stop waits three seconds for clients at most.
const CUT_OFF_PATIENCE: Duration = Duration::from_secs(1);

/// How long the thread of a client that is closed to make room has to end. Until then no other client is accepted.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// All connected clients.
#[derive(Default)]
pub struct Clients {
    registry: Mutex<Registry>,
    left: Condvar,
}

#[derive(Default)]
struct Registry {
    connected: HashMap<u64, Arc<Outbox>>,
    threads: HashMap<u64, JoinHandle<()>>,
    /// Threads that have nothing left to do but end.
    finished: Vec<u64>,
}

impl Clients {
    /// The client with this number.
    pub fn find(&self, id: u64) -> Option<Arc<Outbox>> {
        self.registry.lock().connected.get(&id).cloned()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.registry.lock().connected.len()
    }

    /// The most bytes that any one of them has not read.
    pub fn largest_unread(&self) -> usize {
        let registry = self.registry.lock();
        registry.connected.values().map(|client| client.unread_bytes()).max().unwrap_or(0)
    }

    /// Adds a client whose thread `start` starts. The lock is held meanwhile, so that no client leaves before it
    /// is added.
    pub fn admit<E>(
        &self,
        outbox: &Arc<Outbox>,
        start: impl FnOnce() -> Result<JoinHandle<()>, E>,
    ) -> Result<(), E> {
        let mut registry = self.registry.lock();
        let thread = start()?;
        let before = registry.connected.insert(outbox.id, outbox.clone());
        assert!(before.is_none(), "each client has a number of its own");
        registry.threads.insert(outbox.id, thread);
        Ok(())
    }

    /// Removes a client; its thread is about to end.
    pub fn leave(&self, id: u64) {
        let mut registry = self.registry.lock();
        registry.connected.remove(&id);
        registry.finished.push(id);
        self.left.notify_all();
    }

    /// Waits for the threads that are about to end.
    pub fn join_finished(&self) {
        let mut registry = self.registry.lock();
        let finished = std::mem::take(&mut registry.finished);
        let threads: Vec<_> =
            finished.iter().filter_map(|id| registry.threads.remove_entry(id)).collect();
        drop(registry);
        threads.into_iter().for_each(join);
    }

    /// A line for each of these clients, in the order in which they came or their numbers are listed. Leaves out closed clients whose threads have not ended yet. `None` if there are more than `most` bytes.
    pub fn list(&self, listed: &Listed, most: usize) -> Option<String> {
        let clients = match listed {
            Listed::All => self.all(),
            Listed::Of(kind) => {
                let mut clients = self.all();
                clients.retain(|client| client.profile.kind() == *kind);
                clients
            }
            Listed::With(ids) => {
                let registry = self.registry.lock();
                ids.iter().filter_map(|id| registry.connected.get(id).cloned()).collect()
            }
        };
        let there = clients.iter().filter(|client| !client.is_broken());
        let mut lines = String::new();
        for client in there {
            lines.push_str(&client.line());
            if lines.len() > most {
                return None;
            }
        }
        Some(lines)
    }

    /// Closes the clients that fit, except `asking`, which is to get a reply first. Returns how many fit, and
    /// whether `asking` is one of them.
    pub fn kill(&self, filter: &KillFilter, asking: u64) -> (usize, bool) {
        let is_meant = |client: &Arc<Outbox>| {
            filter.id.is_none_or(|id| client.id == id)
                && !(filter.skips_asking && client.id == asking)
                && client.profile.fits(filter)
                && !client.is_broken()
        };
        let mut meant = self.all();
        meant.retain(is_meant);
        let others = meant.iter().filter(|client| client.id != asking);
        others.for_each(|client| client.revoke());
        (meant.len(), meant.iter().any(|client| client.id == asking))
    }

    /// Closes the clients that have asked nothing for this long.
    pub fn close_idle(&self, longest: Duration) {
        for client in self.all() {
            if !client.is_broken() && client.is_idle(longest) {
                log::debug!("client {}: closed, it has asked nothing for {longest:?}", client.id);
                client.abandon();
            }
        }
    }

    /// Closes the clients that have been connected this long and have not logged in.
    pub fn close_strangers(&self, longest: Duration) {
        for client in self.all() {
            if client.profile.waits_for_login().is_some_and(|waits| waits >= longest)
                && !client.is_broken()
            {
                log::debug!("client {}: closed, it has not logged in for {longest:?}", client.id);
                client.abandon();
            }
        }
    }

    /// Makes room for one more client by closing the one that has not logged in for longest, if there is one: clients
    /// without a password cannot take all places. Waits until a client has left, for
    /// [`ROOM_PATIENCE`] at most.
    pub fn make_room(&self) -> bool {
        let registry = self.registry.lock();
        let there = registry.connected.values().filter(|client| !client.is_broken());
        let strangers =
            there.filter_map(|client| Some((client.profile.waits_for_login()?, client)));
        let longest = strangers.max_by_key(|(waits, _)| *waits).map(|(_, client)| client.clone());
        drop(registry);
        let Some(stranger) = longest else { return false };
        log::debug!("client {}: closed before its login, another one needs its place", stranger.id);
        stranger.abandon();
        let mut registry = self.registry.lock();
        while registry.connected.contains_key(&stranger.id) {
            if self.left.wait_for(&mut registry, ROOM_PATIENCE).timed_out() {
                return false;
            }
        }
        true
    }

    /// Closes the clients whose login does not hold any more, and returns how many they were.
    pub fn end_stale_logins(&self, accounts: &Accounts) -> usize {
        let mut stale = self.all();
        stale.retain(|client| {
            let login = client.profile.info().login;
            login.is_some_and(|login| !accounts.holds(&login)) && !client.is_broken()
        });
        stale.iter().for_each(|client| client.revoke());
        stale.len()
    }

    /// Reads no more requests of any client; each is closed once it has the replies to those before.
    pub fn end_all(&self) {
        self.all().iter().for_each(|client| end(client));
    }

    /// All clients, in the order in which they came.
    fn all(&self) -> Vec<Arc<Outbox>> {
        let mut clients: Vec<_> = self.registry.lock().connected.values().cloned().collect();
        clients.sort_unstable_by_key(|client| client.id);
        clients
    }

    /// Stops reading requests. Clients have `patience` to take their replies, and are cut off after that. When this
    /// returns every client's thread has ended, unless it is in the middle of something long, like KEYS over a large
    /// store: such a thread can change nothing any more, and no other waits for it.
    pub fn stop(&self, patience: Duration) {
        let mut registry = self.registry.lock();
        log::info!("stopping with {} clients", registry.connected.len());
        registry.connected.values().for_each(|client| end(client));
        let deadline = Instant::now() + patience;
        let all_left = |registry: &Registry| registry.connected.is_empty();
        while !all_left(&registry) && !self.left.wait_until(&mut registry, deadline).timed_out() {}
        if !registry.connected.is_empty() {
            log::info!("{} clients are cut off", registry.connected.len());
        }
        for outbox in registry.connected.values() {
            log::debug!("client {}: cut off, it does not read its replies", outbox.id);
            outbox.abandon();
        }
        let deadline = Instant::now() + CUT_OFF_PATIENCE;
        while !all_left(&registry) && !self.left.wait_until(&mut registry, deadline).timed_out() {}
        let Registry { connected, threads, .. } = &mut *registry;
        if !connected.is_empty() {
            log::warn!(
                "{} clients' threads are still at work, and end with the process",
                connected.len()
            );
        }
        let ended: Vec<_> = threads.drain().filter(|(id, _)| !connected.contains_key(id)).collect();
        drop(registry);
        ended.into_iter().for_each(join);
    }
}

/// Has the client's thread find the end of its requests.
fn end(client: &Outbox) {
    if let Err(error) = client.wire().shut(Shutdown::Read) {
        log::debug!("client {}: {error}", client.id);
    }
}

fn join((id, thread): (u64, JoinHandle<()>)) {
    if thread.join().is_err() {
        log::error!("client {id}: its thread ended by a panic");
    }
}
