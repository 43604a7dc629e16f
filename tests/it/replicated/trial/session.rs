//! A client's way to a server, as an application has it: found by SENTINEL, given up when it is silent, and asked for
//! anew after an error.

use std::thread;
use std::time::Duration;

use super::machines::{NAME, address};
use super::network::{MACHINES, Network, Place};
use crate::common::Client;
use crate::common::wire::{Value, reply, request};

/// A machine that is cut off does not say so.
const CONNECT_TIME: Duration = Duration::from_millis(300);

/// How long a client waits for a reply. One that is not there by then never comes, for this client.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// Longer than etcd needs to replace its leader.
    Short,
    /// Until the server says that it does not know.
    Long,
}

impl Patience {
    fn time(self) -> Duration {
        match self {
            Patience::Short => Duration::from_millis(2500),
            Patience::Long => Duration::from_secs(9),
        }
    }
}

/// After an error: the others need the processor, too.
const REST: Duration = Duration::from_millis(10);

/// Which server a client wants.
#[derive(Clone, Copy, Debug)]
pub enum Wants {
    /// The one that leads, whichever that is, as clients outside do.
    Leader,
    /// That of its own machine, whether it leads or not: the one that others cannot reach may be reached so.
    Own(usize),
}

impl Wants {
    fn place(self) -> Place {
        match self {
            Wants::Leader => Place::Outside,
            Wants::Own(at) => Place::Machine(at),
        }
    }
}

/// What a client was told.
#[derive(Debug)]
pub enum Told {
    Reply(Value),
    /// An error that says that nothing was done; or there was no server to ask.
    Refused(String),
    /// No reply, or one that says that it is not known.
    Unknown,
}

pub struct Session<'a> {
    network: &'a Network,
    wants: Wants,
    patience: Patience,
    client: Option<Client>,
    /// The machine that it asks first for the leader.
    asks: usize,
}

impl Session<'_> {
    pub fn new(network: &Network, wants: Wants, patience: Patience) -> Session<'_> {
        Session { network, wants, patience, client: None, asks: 0 }
    }

    /// One request. It rests after an error.
    pub fn ask(&mut self, request: &[u8]) -> Told {
        let told = self.try_ask(request);
        if !matches!(told, Told::Reply(_)) {
            thread::sleep(REST);
        }
        told
    }

    fn try_ask(&mut self, request: &[u8]) -> Told {
        let Some(mut client) = self.client.take().or_else(|| self.connect()) else {
            return Told::Refused("there is no server".into());
        };
        if client.try_send(request).is_err() {
            return Told::Unknown;
        }
        match reply(&mut client) {
            Ok(Value::Error(text)) if text.contains("it is not known") => Told::Unknown,
            Ok(Value::Error(text)) => {
                if matches!(self.wants, Wants::Own(_)) {
                    self.client = Some(client);
                }
                Told::Refused(text)
            }
            Ok(value) => {
                self.client = Some(client);
                Told::Reply(value)
            }
            Err(_) => Told::Unknown,
        }
    }

    fn connect(&mut self) -> Option<Client> {
        match self.wants {
            Wants::Own(at) => self.connect_to(at),
            Wants::Leader => {
                let found = (0..MACHINES).find_map(|n| self.leader_by((self.asks + n) % MACHINES));
                self.asks = found.unwrap_or(self.asks + 1) % MACHINES;
                self.connect_to(found?)
            }
        }
    }

    /// The machine that leads, as this one says.
    fn leader_by(&self, at: usize) -> Option<usize> {
        let mut client = self.connect_to(at)?;
        client.try_send(request(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])).ok()?;
        let Ok(Value::Array(parts)) = reply(&mut client) else { return None };
        let Some(Value::Bulk(host)) = parts.first() else { panic!("{parts:?} is no address") };
        let is_this = |at: &usize| address(*at).ip().to_string().as_bytes() == host;
        Some((0..MACHINES).find(is_this).expect("one of the machines"))
    }

    fn connect_to(&self, at: usize) -> Option<Client> {
        let stream = self.network.connect(self.wants.place(), address(at), CONNECT_TIME).ok()?;
        stream.set_read_timeout(Some(self.patience.time())).expect("a socket");
        stream.set_write_timeout(Some(self.patience.time())).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Some(Client::of(stream))
    }
}
