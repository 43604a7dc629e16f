//! Who is connected: for CLIENT LIST and KILL, for the limit, and to wait for all at the end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use crate::protocol::ClientChoice;
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex};

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

/// What is known of a client beside its replies.
pub struct Profile {
    /// Where it is.
    pub address: SocketAddr,
    /// Where it has connected to.
    pub local: Option<SocketAddr>,
    since: Instant,
    told: Mutex<Told>,
}

/// What a client tells of itself, and what it does.
#[derive(Clone, Default)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Its library.
    pub lib_name: String,
    /// That one's version.
    pub lib_version: String,
    /// The version of RESP it speaks.
    pub resp: u8,
    /// What it asked last.
    pub command: &'static str,
    /// When.
    pub active: Option<Instant>,
}

impl Profile {
    /// The profile of a new client.
    pub fn new(address: SocketAddr, local: Option<SocketAddr>) -> Profile {
        let told = Mutex::new(Told { resp: 2, command: "NULL", ..Told::default() });
        Profile { address, local, since: Instant::now(), told }
    }

    /// What it has told.
    pub fn told(&self) -> Told {
        self.told.lock().clone()
    }

    /// Lets it tell something.
    pub fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock());
    }

    /// Its line in CLIENT LIST.
    pub fn line(&self, id: u64) -> String {
        let Told { name, lib_name, lib_version, resp, command, active } = self.told();
        let age = self.since.elapsed().as_secs();
        let idle = active.map_or(age, |active| active.elapsed().as_secs());
        let local = self.local.map(|local| local.to_string()).unwrap_or_default();
        format!(
            "id={id} addr={} laddr={local} fd=0 name={name} age={age} idle={idle} flags=N db=0 \
             sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 obl=0 oll=0 \
             omem=0 tot-mem=0 events=r cmd={command} user=default redir=-1 resp={resp} \
             lib-name={lib_name} lib-ver={lib_version}\n",
            self.address
        )
    }
}

impl Clients {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.registry.lock().connected.len()
    }

    /// Adds a client whose thread `start` starts. Nobody can leave before he has come.
    pub fn admit<E>(
        &self,
        outbox: &Arc<Outbox>,
        start: impl FnOnce() -> Result<JoinHandle<()>, E>,
    ) -> Result<(), E> {
        let mut registry = self.registry.lock();
        let thread = start()?;
        registry.connected.insert(outbox.id, outbox.clone());
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

    /// A line for each, in the order in which they came.
    pub fn list(&self) -> String {
        let registry = self.registry.lock();
        let mut clients: Vec<_> = registry.connected.values().collect();
        clients.sort_unstable_by_key(|client| client.id);
        clients.iter().map(|client| client.profile.line(client.id)).collect()
    }

    /// Closes the clients that are meant, but for `asking`, who is to get a reply first. Says
    /// whether there were any, and whether `asking` is one of them.
    pub fn kill(&self, choice: &ClientChoice, asking: u64) -> (bool, bool) {
        let registry = self.registry.lock();
        let is_meant = |client: &&Arc<Outbox>| match choice {
            ClientChoice::Id(id) => client.id == *id,
            ClientChoice::Address(address) => client.profile.address.to_string() == *address,
        };
        let Some(client) = registry.connected.values().find(is_meant) else {
            return (false, false);
        };
        if client.id != asking {
            client.abandon();
        }
        (true, client.id == asking)
    }

    /// No more requests are read. Who has replies coming gets them within `patience`; who does not
    /// read them is cut off. Then every client's thread has ended.
    pub fn stop(&self, patience: Duration) {
        let mut registry = self.registry.lock();
        log::info!("stopping with {} clients", registry.connected.len());
        for outbox in registry.connected.values() {
            if let Err(error) = outbox.socket().shutdown(std::net::Shutdown::Read) {
                log::debug!("client {}: {error}", outbox.id);
            }
        }
        let deadline = Instant::now() + patience;
        let all_left = |registry: &Registry| registry.connected.is_empty();
        while !all_left(&registry) && !self.left.wait_until(&mut registry, deadline).timed_out() {}
        for outbox in registry.connected.values() {
            log::info!("client {}: cut off, it does not read its replies", outbox.id);
            outbox.abandon();
        }
        let threads: Vec<_> = registry.threads.drain().collect();
        drop(registry);
        threads.into_iter().for_each(join);
    }
}

fn join((id, thread): (u64, JoinHandle<()>)) {
    if thread.join().is_err() {
        log::error!("client {id}: its thread ended by a panic");
    }
}
