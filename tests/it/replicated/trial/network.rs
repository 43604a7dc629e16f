//! Three machines and the world outside, each a network namespace, and two networks between them: one for etcd, one
//! for clients.
//!
//! The world outside has a bridge for each network, and a machine's port of a bridge can be made deaf (nothing gets
//! to the machine), mute (nothing leaves it), or both. Packets are lost without a word then, as by a broken switch;
//! nothing is refused. The bridges learn no addresses, so that this holds from the first packet on.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, id};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::durability::power_cut::device::run;

pub const MACHINES: usize = 3;

/// Where something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Outside,
    Machine(usize),
}

/// One of the two networks.
#[derive(Clone, Copy, Debug)]
pub enum Net {
    /// Between etcd's members, and from the servers to them.
    Inner,
    /// From clients to the servers.
    Outer,
}

pub const NETS: [Net; 2] = [Net::Inner, Net::Outer];

/// What a machine's port lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Open,
    /// Nothing gets to the machine.
    Deaf,
    /// Nothing leaves it.
    Mute,
    Cut,
}

/// See the head of this file. Dropping it removes all of it.
pub struct Network {
    prefix: String,
}

impl Network {
    /// Makes the namespaces. The error says why that cannot be done here.
    pub fn start() -> Result<Network, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make network namespaces".into());
        }
        let network = Network { prefix: format!("post-gres-{}", id()) };
        for place in places() {
            let name = network.name(place);
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "dev", "lo", "up"])?;
        }
        for net in NETS {
            network.outside(&["link", "add", "name", net.name(), "type", "bridge"])?;
            network.outside(&["addr", "add", &net.subnet(MACHINES), "dev", net.name()])?;
            network.outside(&["link", "set", "dev", net.name(), "up"])?;
            (0..MACHINES).try_for_each(|at| network.connect_machine(at, net))?;
        }
        Ok(network)
    }

    fn connect_machine(&self, at: usize, net: Net) -> Result<(), String> {
        let (port, inside) = (net.port(at), self.name(Place::Machine(at)));
        let pair = ["type", "veth", "peer", "name", net.name(), "netns", &inside];
        self.outside(&[&["link", "add", "name", &port][..], &pair].concat())?;
        self.outside(&["link", "set", "dev", &port, "master", net.name(), "up"])?;
        self.outside(&["link", "set", "dev", &port, "type", "bridge_slave", "learning", "off"])?;
        ip(&["-n", &inside, "addr", "add", &net.subnet(at), "dev", net.name()])?;
        ip(&["-n", &inside, "link", "set", "dev", net.name(), "up"])
    }

    /// Sets what a machine's port lets through.
    pub fn set(&self, at: usize, net: Net, port: Port) {
        let is = |holds: bool| if holds { "on" } else { "off" };
        let hears = is(matches!(port, Port::Open | Port::Mute));
        let is_locked = is(matches!(port, Port::Mute | Port::Cut));
        let to = ["flood", hears, "bcast_flood", hears, "mcast_flood", hears, "locked", is_locked];
        let name = net.port(at);
        let port = ["link", "set", "dev", &name, "type", "bridge_slave"];
        self.outside(&[&port[..], &to].concat()).expect("a port of a bridge");
    }

    /// Opens all ports.
    pub fn heal(&self) {
        for net in NETS {
            (0..MACHINES).for_each(|at| self.set(at, net, Port::Open));
        }
    }

    /// A command that runs there, and is the process itself.
    pub fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path(place))).arg(program);
        command
    }

    /// Does something on a thread that is there; sockets stay there for ever.
    pub fn inside<T: Send>(&self, place: Place, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path(place)).expect("a namespace");
        let there = move || {
            let net = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), net).expect("a namespace");
            act()
        };
        thread::scope(|scope| scope.spawn(there).join().expect("no panic in there"))
    }

    /// Connects from there.
    pub fn connect(&self, place: Place, to: SocketAddr, time: Duration) -> io::Result<TcpStream> {
        self.inside(place, || TcpStream::connect_timeout(&to, time))
    }

    fn outside(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name(Place::Outside)][..], args].concat())
    }

    fn name(&self, place: Place) -> String {
        match place {
            Place::Outside => format!("{}-outside", self.prefix),
            Place::Machine(at) => format!("{}-m{at}", self.prefix),
        }
    }

    fn path(&self, place: Place) -> String {
        format!("/run/netns/{}", self.name(place))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in places() {
            // One that was not made yet is not there.
            let _ = ip(&["netns", "del", &self.name(place)]);
        }
    }
}

impl Net {
    fn name(self) -> &'static str {
        match self {
            Net::Inner => "inner",
            Net::Outer => "outer",
        }
    }

    fn port(self, at: usize) -> String {
        format!("{}{at}", self.name())
    }

    /// The address of a machine; the world outside is the one after the last. No other network is in these namespaces.
    pub fn host(self, at: usize) -> String {
        let net = match self {
            Net::Inner => 1,
            Net::Outer => 2,
        };
        format!("10.0.{net}.{}", at + 1)
    }

    fn subnet(self, at: usize) -> String {
        format!("{}/24", self.host(at))
    }
}

fn places() -> impl Iterator<Item = Place> {
    [Place::Outside].into_iter().chain((0..MACHINES).map(Place::Machine))
}

fn ip(args: &[&str]) -> Result<(), String> {
    run("ip", args)
}
