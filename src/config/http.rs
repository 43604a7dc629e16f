//! The flags of the live page and the metrics, and the options that they come to.

use std::net::SocketAddr;

use anyhow::{bail, ensure};

use super::{Config, FsyncFlag, Switch};
use crate::http::{Access, LogKind, Options};
use crate::server::Settings;
use crate::wal::place::is_address;

/// Flags of the page and the metrics.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Address and port of the live page, /metrics for Prometheus, /healthz and /readyz, such as 127.0.0.1:4280; port
    /// 0 takes a free one, and a message says which. Beyond this machine they ask for user and password
    #[arg(id = "http", long = "http", value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,

    /// Name by which browsers reach -http, if not by its address
    #[arg(id = "http-name", long = "http-name", value_name = "HOST")]
    name: Option<String>,
}

impl Config {
    /// How to serve HTTP, and to which clients; `None` without `-http`.
    pub fn http(&self, settings: &Settings) -> anyhow::Result<Option<Options>> {
        let Some(address) = self.http.address else {
            ensure!(self.http.name.is_none(), "-http-name is for -http");
            return Ok(None);
        };
        let name = self.http.name.clone();
        let is_name = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
        };
        ensure!(name.as_ref().is_none_or(is_name), "-http-name: expected a host without a port");
        let is_protected = self.protected_mode == Switch::Yes;
        let access = match (address.ip().to_canonical().is_loopback(), is_protected) {
            (true, _) => Access::Everyone,
            (false, true) => Access::Password,
            (false, false) => Access::PasswordIfAny,
        };
        if access == Access::Password && !settings.accounts.needs_password() {
            bail!(
                "-http {address}: anyone who reaches this address could see what the server does. Set a password \
                 with -requirepass-file, or say -protected-mode no if you mean it"
            );
        }
        let is_etcd = self.wal.as_deref().is_some_and(is_address);
        let log = match (self.persist, is_etcd, self.fsync) {
            (false, ..) => LogKind::None,
            (true, true, _) => LogKind::Etcd,
            (true, false, FsyncFlag::Always) => LogKind::Synced,
            (true, false, FsyncFlag::Everysec | FsyncFlag::No) => LogKind::SyncedLater,
        };
        Ok(Some(Options { address, name, access, log }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn everyone_may_look_on_this_machine_and_beyond_it_those_with_the_password() {
        let http = |flags: &str| {
            let config = config(flags).expect(flags);
            config.http(&config.server().expect(flags))
        };
        assert!(http("").expect("off").is_none());
        for (flags, access) in [
            ("-http 127.0.0.1:1", Access::Everyone),
            ("-http [::1]:1", Access::Everyone),
            ("-http [::ffff:127.0.0.1]:1", Access::Everyone),
            ("-http 0.0.0.0:1 -protected-mode no", Access::PasswordIfAny),
        ] {
            assert_eq!(http(flags).expect(flags).expect("on").access, access, "{flags}");
        }
        let refused = http("-http 0.0.0.0:1").expect_err("no password").to_string();
        assert!(refused.contains("-requirepass-file"), "{refused}");
        assert!(http("-http 127.0.0.1:1 -http-name a:1").is_err());
        assert!(http("-http-name a").is_err() && config("-http 4280").is_err());
    }
}
