//! A client's thread, from start to end: it is counted, serves its client, and leaves.
//!
//! A panic in it closes this client and no other.

use std::sync::Arc;

use super::outbox::Outbox;
use super::{Shared, Shutdown, connection};
use crate::sync::thread;

/// What a client's thread owns.
pub struct Client {
    pub outbox: Arc<Outbox>,
    pub shared: Arc<Shared>,
    pub stopping: Shutdown,
}

impl Client {
    /// Serves the client until it leaves, or the server stops.
    pub fn run(self) {
        self.shared.metrics.connected_clients.add(1);
        self.report("connected");
        // Made on the thread: if that cannot be started, there is no client that could leave.
        let Connected(client) = &Connected(self);
        connection::serve(&client.shared, &client.outbox, client.stopping.flag());
    }

    fn report(&self, what: &str) {
        let now = self.shared.metrics.connected_clients.get();
        let Outbox { id, profile, .. } = &*self.outbox;
        log::debug!("client {id} {what} from {}, {now} clients", profile.address);
    }
}

/// A client that is counted, until this is dropped. That closes its connection, even after a panic.
struct Connected(Client);

impl Drop for Connected {
    fn drop(&mut self) {
        let client = &self.0;
        let id = client.outbox.id;
        if thread::panicking() {
            log::error!("client {id}: its thread panicked; only this client is closed");
        }
        client.outbox.abandon();
        client.shared.metrics.connected_clients.subtract(1);
        client.report("closed");
        client.shared.clients.leave(id);
    }
}
