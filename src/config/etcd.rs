//! The flags of a log in etcd, and what they come to.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use super::{Config, FsyncFlag, amount_from, doors};
use crate::replicated::{Access, Credentials, Options, Url};
use crate::wal::place::is_address;

/// etcd replaces a leader of its own in 1 to 2.3 s, so that a shorter lease gains little.
const LEASE: Duration = Duration::from_secs(3);

/// Below the first a slow disk of etcd ends every lead; above the second nobody waits.
const LEASES: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(600);

/// etcd's own default of --quota-backend-bytes.
const QUOTA: u64 = 2 << 30;

/// Flags that mean something with a log in etcd only.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// With a log in etcd: where clients reach this server, as SENTINEL tells them
    #[arg(long, value_name = "HOST:PORT")]
    announce: Option<String>,

    /// With a log in etcd: how long a leader that is gone keeps the other servers waiting, such as 500ms;
    /// 3s without this flag
    #[arg(long, value_name = "TIME", value_parser = lease)]
    lease: Option<Duration>,

    /// With a log in etcd: the quota of its members, as they were started with it, 2gb without this flag; writes are
    /// refused once four fifths of it are in use
    #[arg(long = "wal-quota", value_name = "BYTES", value_parser = amount_from(64 << 20))]
    quota: Option<u64>,

    #[command(flatten)]
    credentials: Credentials,
}

impl Flags {
    /// Refuses these flags with a log in files, which would ignore them.
    fn refuse(&self) -> anyhow::Result<()> {
        ensure!(self.announce.is_none(), "-announce is for a log in etcd");
        ensure!(self.lease.is_none(), "-lease is for a log in etcd");
        ensure!(self.quota.is_none(), "-wal-quota is for a log in etcd");
        self.credentials.refuse()
    }

    /// What clients are told, if they do not reach this server at what it is bound to.
    fn announce(&self, doors: &doors::Flags) -> anyhow::Result<String> {
        if let Some(announce) = &self.announce {
            return Ok(announce.clone());
        }
        let place = doors.first_address()?;
        let place = place.filter(|at| !at.ip().is_unspecified() && at.port() > 0);
        place.map(|at| at.to_string()).with_context(|| {
            format!("{doors}: clients cannot be told where this server is. Add -announce HOST:PORT")
        })
    }
}

impl Config {
    /// How the log in etcd is kept and reached, if that is where it is.
    pub fn replicated(&self) -> anyhow::Result<Option<(Options, Access)>> {
        let wal = self.wal.as_deref().unwrap_or(Path::new(""));
        if !is_address(wal) {
            self.etcd.refuse()?;
            return Ok(None);
        }
        let text = wal.display().to_string();
        let url = Url::parse(&text).map_err(|why| anyhow!("-wal {text}: {why}"))?;
        ensure!(self.persist, "-persist=false and a log in etcd contradict each other");
        ensure!(
            matches!(self.fsync, FsyncFlag::Always),
            "-fsync is for a log in files: etcd syncs each batch before its reply, and so does this server"
        );
        let announce = self.etcd.announce(&self.doors)?;
        let access = Access::of(&url, &self.etcd.credentials)?;
        let (lease, quota) = (self.etcd.lease.unwrap_or(LEASE), self.etcd.quota.unwrap_or(QUOTA));
        Ok(Some((Options { url, announce, lease, quota }, access)))
    }
}

/// A time such as `3s` or `500ms`; a number alone could be either.
fn lease(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|it| Duration::try_from(it).ok());
    time.filter(|time| LEASES.contains(time))
        .ok_or_else(|| "expected a time from 500ms to 10m, with its unit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    fn refused(flags: &str) -> String {
        let config = config(flags).unwrap_or_else(|error| panic!("{error}"));
        config.replicated().err().unwrap_or_else(|| panic!("{flags} is taken")).to_string()
    }

    #[test]
    fn what_makes_no_sense_with_a_log_in_etcd_is_refused_with_the_reason_and_the_reverse() {
        let wal = "-wal etcd://a:1/x";
        for (flags, why) in [
            ("-fsync everysec", "etcd syncs each batch"),
            ("-persist=false", "contradict"),
            ("-bind 0.0.0.0", "-announce"),
            ("-port 0", "-announce"),
            ("-wal-password-file /nowhere/at/all", "/nowhere/at/all"),
            ("-wal-ca /nowhere/at/all", "/nowhere/at/all"),
        ] {
            let said = refused(&format!("{wal} {flags}"));
            assert!(said.contains(why), "{flags}: {said}");
        }
        for flag in
            ["-announce h:1", "-lease 3s", "-wal-quota 1gb", "-wal-ca a", "-wal-password-file a"]
        {
            assert!(refused(flag).ends_with(" is for a log in etcd"), "{flag}");
        }
        let other = refused("-wal http://a:1/x");
        assert!(other.contains("begins with etcd://"), "{other}");
        let (options, _) = config(wal).expect(wal).replicated().expect(wal).expect("it is etcd");
        assert_eq!((options.announce.as_str(), options.lease), ("127.0.0.1:4242", LEASE));
    }

    #[test]
    fn a_lease_has_a_unit() {
        for (text, millis) in [("3s", 3000), ("500ms", 500), ("1m30s", 90_000), ("10m", 600_000)] {
            let lease = config(&format!("-lease {text}")).expect(text).etcd.lease;
            assert_eq!(lease, Some(Duration::from_millis(millis)));
        }
        for text in ["3000", "3", "499ms", "601s", "-3s", "3 s x", "s", "1y"] {
            assert!(lease(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_etcd_means_the_log_with_and_without_its_flag() {
        for args in
            ["-wal etcd://a:1/x", "-wal=etcd://a:1/x", "etcd://a:1/x -port 17", "etcds://a:1/x"]
        {
            let wal = config(args).expect(args).wal.expect(args);
            assert!(is_address(&wal), "{args}: {wal:?}");
        }
        assert!(config("etcd://a:1/x -wal etcd://a:1/x").is_err());
    }
}
