//! The flags of the doors by which clients come in, and the doors that they make.

use std::fmt;
#[cfg(feature = "replicated")]
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{bail, ensure};

use super::{Config, tls};
use crate::doors::{Doors, Host, TcpPlan, UnixPlan};
use crate::server::Reload;

/// The flags of all doors.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Port to listen on; 0 takes a free one, and a message says which; off has no port without TLS
    #[arg(long, default_value = "4242", value_name = "0-65535|off", value_parser = port)]
    port: Port,

    /// Addresses or names of hosts to listen on, separated by commas or in several flags
    #[arg(
        long,
        default_value = LOCAL,
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = host
    )]
    bind: Vec<String>,

    /// Path of a Unix socket to listen on as well, for programs of this machine
    #[arg(long = "unixsocket", value_name = "PATH", value_parser = socket_path)]
    unix_socket: Option<String>,

    /// Permissions of the Unix socket, as for chmod; 700 without this flag
    #[arg(
        long = "unixsocketperm",
        value_name = "000-777",
        value_parser = mode
    )]
    unix_mode: Option<u32>,

    #[command(flatten)]
    tls: tls::Flags,
}

/// The address by which only programs of this machine come in.
const LOCAL: &str = "127.0.0.1";

/// Only the server's own user may connect. (Redis leaves it to the umask.)
const MODE: u32 = 0o700;

/// A port, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port(Option<u16>);

impl Flags {
    /// The port without TLS.
    pub fn port(&self) -> Option<u16> {
        self.port.0
    }

    fn hosts(&self) -> anyhow::Result<Vec<Host>> {
        self.bind.iter().map(|name| Host::resolve(name)).collect()
    }

    /// The address to send clients of the network to, if there is a port for them.
    #[cfg(feature = "replicated")]
    pub fn first_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        let Some(port) = self.port().or(self.tls.port()) else { return Ok(None) };
        let mut address = Host::resolve(&self.bind[0])?.address();
        address.set_port(port);
        Ok(Some(address))
    }

    /// Refuses doors by which anyone on the network may come in, since there is no password.
    pub fn refuse_strangers(&self) -> anyhow::Result<()> {
        if self.port().is_none() && !self.tls.lets_strangers_in() {
            return Ok(());
        }
        if let Some(host) = self.hosts()?.iter().find(|host| !host.is_loopback()) {
            bail!(
                "-bind {}: anyone who reaches this address could read and change everything. Set \
                 a password with -requirepass-file, or say -protected-mode no if you mean it",
                host.name
            );
        }
        Ok(())
    }

    /// The settings that CONFIG GET shows.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let mut shown = vec![
            ("bind", self.bind.join(" ")),
            ("unixsocket", self.unix_socket.clone().unwrap_or_default()),
            ("unixsocketperm", format!("{:o}", self.unix_mode.unwrap_or(MODE))),
        ];
        shown.extend(self.tls.shown());
        shown
    }

    /// Refuses flags that make no sense together.
    fn fit(&self) -> anyhow::Result<()> {
        let no_socket = self.unix_socket.is_none();
        ensure!(!(no_socket && self.unix_mode.is_some()), "-unixsocketperm is for -unixsocket");
        let is_same =
            self.port().filter(|port| *port > 0).is_some_and(|port| self.tls.port() == Some(port));
        ensure!(!is_same, "-port and -tls-port are the same, and each needs one of its own");
        let is_on_network = self.port().is_some() || self.tls.port().is_some();
        ensure!(
            is_on_network || !no_socket,
            "-port off: there is no other door. Add -unixsocket or -tls-port"
        );
        ensure!(
            is_on_network || self.bind == [LOCAL],
            "-port off: without -tls-port there is nothing to -bind"
        );
        Ok(())
    }

    fn unix_plan(&self) -> Option<UnixPlan> {
        let mode = self.unix_mode.unwrap_or(MODE);
        self.unix_socket.as_ref().map(|path| UnixPlan { path: PathBuf::from(path), mode })
    }

    /// Checks the names and files, without binding anything.
    pub fn check(&self) -> anyhow::Result<()> {
        self.fit()?;
        TcpPlan { hosts: self.hosts()?, port: 0, encryption: None }.check()?;
        self.unix_plan().map_or(Ok(()), |plan| plan.check())?;
        self.tls.check()
    }
}

impl Config {
    /// The doors, bound; they do not listen yet. The files that SIGHUP is to read anew are added to `reloads`.
    pub fn doors(&self, reloads: &mut Vec<Reload>) -> anyhow::Result<Doors> {
        let flags = &self.doors;
        flags.fit()?;
        let mut doors = Doors::default();
        if let Some(port) = flags.port() {
            doors.add_tcp(&TcpPlan { hosts: flags.hosts()?, port, encryption: None })?;
        }
        flags.tls.add_to(&mut doors, || flags.hosts(), reloads)?;
        if let Some(plan) = flags.unix_plan() {
            doors.add_unix(&plan)?;
        }
        assert!(!doors.is_empty(), "flags that fit have a door");
        Ok(doors)
    }
}

/// As it was asked for, in messages.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-bind {} -port {}", self.bind.join(","), self.port)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(port) => write!(f, "{port}"),
            None => write!(f, "off"),
        }
    }
}

fn port(text: &str) -> Result<Port, String> {
    match text.parse() {
        _ if text == "off" => Ok(Port(None)),
        Ok(port) => Ok(Port(Some(port))),
        Err(_) => Err("expected a whole number from 0 to 65535, or off".to_owned()),
    }
}

/// A text that looks like an address or a name; the start shows whether it is one.
fn host(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || ".:-_%[]".contains(c);
    match !text.is_empty() && text.chars().all(is_fine) {
        true => Ok(text.to_owned()),
        false => Err("expected an address or the name of a host".to_owned()),
    }
}

/// A path is shown in lines, such as those of CLIENT LIST.
fn socket_path(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(|c: char| c.is_control() || c == ' ') {
        true => Err("expected a path without spaces and control characters".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777 && !text.starts_with('+'))
        .ok_or_else(|| "expected permissions in octal, from 000 to 777".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn addresses_are_separated_by_commas_or_come_in_several_flags() {
        for flags in ["-bind 127.0.0.1,::1", "-bind 127.0.0.1 -bind=::1"] {
            assert_eq!(config(flags).expect(flags).doors.bind, ["127.0.0.1", "::1"]);
        }
        for flags in ["-bind=", "-bind a,,b", "-bind a/b", "-unixsocket="] {
            assert!(config(flags).is_err(), "{flags}");
        }
    }

    #[test]
    fn doors_that_make_no_sense_together_are_refused() {
        for (flags, why) in [
            ("-unixsocketperm 700", "-unixsocketperm is for -unixsocket"),
            #[cfg(feature = "tls")]
            ("-tls-port 4242 -tls-cert a -tls-key b", "the same"),
            #[cfg(feature = "tls")]
            ("-tls-port 1", "-tls-port needs -tls-cert"),
            #[cfg(feature = "tls")]
            ("-tls-port 1 -tls-cert a", "-tls-port needs -tls-key"),
            #[cfg(feature = "tls")]
            ("-tls-ca a", "-tls-ca is for -tls-port"),
            #[cfg(feature = "tls")]
            ("-tls-auth-clients yes", "-tls-auth-clients is for -tls-port"),
        ] {
            let refused = config(flags).expect(flags).doors.check().expect_err(flags);
            assert!(refused.to_string().contains(why), "{flags}: {refused}");
        }
    }

    #[test]
    fn a_port_is_a_number_or_off_and_permissions_are_octal() {
        for (flags, port) in [("", Some(4242)), ("-port off", None), ("-port 0", Some(0))] {
            assert_eq!(config(flags).expect(flags).doors.port(), port);
        }
        for (text, mode) in [("700", 0o700), ("0777", 0o777), ("0", 0)] {
            assert_eq!(super::mode(text), Ok(mode));
        }
        for text in ["", "778", "1777", "-1", "+7", "rwx"] {
            assert!(super::mode(text).is_err(), "{text}");
        }
    }
}
