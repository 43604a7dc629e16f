//! Doors on addresses of the network.
//!
//! All addresses of a plan get the same port, also when any free one will do. The sockets are bound here and do
//! not listen yet: clients are refused until the server can answer them, and a port that another server listens on
//! is noticed before anything is touched. (Two servers that both still replay may bind the same port; the second
//! one then fails to listen.)

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::Encryption;

/// How often to look for a port that is free on all addresses. (Few are taken: one try nearly always does.)
const TRIES: usize = 32;

/// An address or a host's name, and the addresses that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As it was given.
    pub name: String,
    /// With port 0.
    addresses: Vec<SocketAddr>,
}

/// The addresses to bind, all to the same port.
pub struct TcpPlan {
    /// The hosts; an address that several of them have is bound once.
    pub hosts: Vec<Host>,
    /// 0 is a free one.
    pub port: u16,
    /// The encryption of the connections; `None` for plain ones.
    pub encryption: Option<Arc<dyn Encryption>>,
}

/// The connections that a socket takes which is bound to all addresses of IPv6.
#[derive(Clone, Copy, PartialEq, Eq)]
enum V6Takes {
    Itself,
    Ipv4Too,
}

impl Host {
    /// Looks up a name; an address stands for itself, and may be in brackets.
    pub fn resolve(name: &str) -> anyhow::Result<Host> {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let found =
            (bare, 0).to_socket_addrs().with_context(|| format!("-bind {name}: not found"))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        ensure!(!addresses.is_empty(), "-bind {name}: it has no address");
        Ok(Host { name: name.to_owned(), addresses })
    }

    /// Whether only programs of this machine reach it.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
    }

    /// Its first address.
    pub fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("a host has an address")
    }

    /// Whether it stands for several addresses, of which this machine may lack one: `localhost` has `::1` where
    /// there is no IPv6.
    fn is_name(&self) -> bool {
        self.addresses.len() > 1
    }
}

impl TcpPlan {
    /// Refuses addresses that cannot be bound together, without binding any.
    pub fn check(&self) -> anyhow::Result<()> {
        refuse_covered(&self.addresses())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.hosts.iter().flat_map(|host| host.addresses.clone()).collect()
    }
}

/// Binds all addresses of a plan.
pub(super) fn bind(plan: &TcpPlan) -> anyhow::Result<Vec<(OwnedFd, SocketAddr)>> {
    for _ in 1..TRIES {
        match bind_all(plan) {
            // Any port was free on the first address, and is not on another.
            Err(error) if plan.port == 0 && is_in_use(&error) => {}
            other => return other,
        }
    }
    bind_all(plan)
}

fn is_in_use(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Errno>() == Some(&Errno::ADDRINUSE)
}

fn bind_all(plan: &TcpPlan) -> anyhow::Result<Vec<(OwnedFd, SocketAddr)>> {
    plan.check()?;
    let all = plan.addresses();
    // `::` alone takes IPv4 too; beside an address of IPv4 it must not.
    let takes =
        if all.iter().any(SocketAddr::is_ipv4) { V6Takes::Itself } else { V6Takes::Ipv4Too };
    let mut bound = Vec::new();
    for host in &plan.hosts {
        bind_host(host, plan.port, takes, &mut bound)?;
    }
    Ok(bound)
}

/// Two sockets could be bound to an address and to all addresses, but only one of them could listen.
fn refuse_covered(all: &[SocketAddr]) -> anyhow::Result<()> {
    let takes_all = |one: &SocketAddr, other: &SocketAddr| {
        other.ip().is_unspecified() && other.is_ipv4() == one.is_ipv4()
    };
    let is_covered = |one: &&SocketAddr| {
        !one.ip().is_unspecified() && all.iter().any(|other| takes_all(one, other))
    };
    match all.iter().find(is_covered) {
        Some(one) => {
            bail!("-bind {}: another address at -bind takes all, and this one too", one.ip())
        }
        None => Ok(()),
    }
}

/// Binds the addresses of a host, to the port that was found for the first, if there is one already.
fn bind_host(
    host: &Host,
    port: u16,
    takes: V6Takes,
    bound: &mut Vec<(OwnedFd, SocketAddr)>,
) -> anyhow::Result<()> {
    let mut has_one = false;
    for address in &host.addresses {
        let mut address = *address;
        address.set_port(bound.first().map_or(port, |(_, first)| first.port()));
        if bound.iter().any(|(_, other)| *other == address) {
            has_one = true;
            continue;
        }
        match bind_one(address, takes) {
            Ok(door) => {
                has_one = true;
                bound.push(door);
            }
            Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) if host.is_name() => {
                log::warn!("-bind {}: this machine has no {}", host.name, address.ip());
            }
            Err(errno) => {
                return Err(errno).with_context(|| format!("cannot listen on {address}"));
            }
        }
    }
    ensure!(has_one, "-bind {}: this machine has none of its addresses", host.name);
    Ok(())
}

fn bind_one(address: SocketAddr, takes: V6Takes) -> rustix::io::Result<(OwnedFd, SocketAddr)> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart need not wait until the kernel forgets the last connections.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, takes == V6Takes::Itself)?;
    }
    net::bind(&socket, &address)?;
    let bound = net::getsockname(&socket)?;
    Ok((socket, SocketAddr::try_from(bound)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[&str], port: u16) -> TcpPlan {
        let hosts = names.iter().map(|name| Host::resolve(name).expect(name)).collect();
        TcpPlan { hosts, port, encryption: None }
    }

    #[test]
    fn all_addresses_get_the_same_free_port_and_each_one_once() {
        let doors = bind(&plan(&["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3"], 0));
        let doors = doors.expect("a free port");
        let ips: Vec<String> = doors.iter().map(|(_, at)| at.ip().to_string()).collect();
        assert_eq!(ips, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        let port = doors[0].1.port();
        assert!(port > 0 && doors.iter().all(|(_, at)| at.port() == port), "{doors:?}");
    }

    #[test]
    fn a_name_stands_for_its_addresses_and_one_that_nobody_has_is_told() {
        let host = Host::resolve("localhost").expect("every machine has it");
        assert!(host.is_loopback(), "{host:?}");
        assert!(!bind(&plan(&["localhost"], 0)).expect("one of its addresses").is_empty());
        let unknown = Host::resolve("no.such.host.invalid").expect_err("RFC 6761");
        assert!(format!("{unknown:#}").starts_with("-bind no.such.host.invalid: not found"));
        // A documentation address, RFC 5737.
        let refused = bind(&plan(&["127.0.0.1", "192.0.2.1"], 0)).expect_err("not of this machine");
        assert!(format!("{refused:#}").contains("cannot listen on 192.0.2.1:"), "{refused:#}");
    }

    #[test]
    fn only_loopback_addresses_are_loopback() {
        for (name, is_so) in [
            ("[::1]", true),
            ("127.9.9.9", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(Host::resolve(name).expect(name).is_loopback(), is_so, "{name}");
        }
    }
}
