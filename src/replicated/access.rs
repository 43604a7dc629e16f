//! How a process gets at a cluster: its certificates, its user, and the client that has both.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};

use super::client::{Client, Login};
use super::http::Http;
use super::members::Members;
use super::url::Url;
use crate::wal::disk::{Access as Reads, Disk};
use crate::wal::read_only::ReadOnlyDisk;
use crate::wal::reader::Reader;

/// Holds the password of etcd's user. It is in no flag, because every user of the machine can read those.
const PASSWORD_VARIABLE: &str = "POST_GRES_RS_ETCD_PASSWORD";

/// The longest file of certificates that is read: that of all public authorities has a quarter of it.
const MOST_BYTES: u64 = 1 << 20;

/// The flags that say how a process gets at a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Credentials {
    /// With a log at etcds://: certificates in PEM that prove its members; without it, the public authorities do
    #[arg(long = "wal-ca", value_name = "FILE")]
    roots: Option<PathBuf>,

    /// With ?user= in the address of a log in etcd: file whose first line is the password; without it,
    /// POST_GRES_RS_ETCD_PASSWORD in the environment
    #[arg(long = "wal-password-file", value_name = "FILE")]
    password: Option<PathBuf>,
}

impl Credentials {
    /// Refuses them where the log is not in etcd.
    pub fn refuse(&self) -> anyhow::Result<()> {
        ensure!(self.roots.is_none(), "-wal-ca is for a log in etcd");
        ensure!(self.password.is_none(), "-wal-password-file is for a log in etcd");
        Ok(())
    }

    /// The password, without the end of its line.
    fn password(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.password else { return Ok(std::env::var(PASSWORD_VARIABLE).ok()) };
        let text = String::from_utf8(read(path)?);
        let text =
            text.with_context(|| format!("{}: a password of etcd is UTF-8", path.display()))?;
        let line = text.lines().next().unwrap_or_default();
        ensure!(!line.is_empty(), "{}: the password is empty", path.display());
        Ok(Some(line.to_owned()))
    }
}

/// What proves the members to this process, and this process to them.
#[derive(Debug)]
pub struct Access {
    /// Certificates in PEM; `None` for the public authorities'.
    roots: Option<Vec<u8>>,
    login: Option<Login>,
}

impl Access {
    /// Reads the certificates and the password.
    pub fn of(url: &Url, credentials: &Credentials) -> anyhow::Result<Access> {
        let password = credentials.password()?;
        ensure!(
            url.user.is_some() == password.is_some(),
            "a user of etcd is named by ?user= in its address, and the password is in -wal-password-file or in \
             {PASSWORD_VARIABLE}: both or neither"
        );
        let login = url.user.clone().zip(password).map(|(user, password)| Login { user, password });
        Ok(Access { roots: credentials.roots.as_deref().map(read).transpose()?, login })
    }

    /// A client of its own for one role, which asks the member on this machine first: one on the loopback address or
    /// on `own_host`.
    pub fn connect(&self, url: &Url, own_host: Option<&str>) -> anyhow::Result<Client<Http>> {
        let http = Http::new(url.encryption, self.roots.as_deref()).map_err(|why| anyhow!(why))?;
        let members = Members::new(url.members.clone(), own_host);
        Ok(Client::new(http, members, self.login.clone()))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = ReadOnlyDisk.open(path, Reads::Buffered)?;
    let mut reader = Reader::new(&*file, 0)?;
    let length = reader.file_bytes();
    ensure!(
        length <= MOST_BYTES,
        "{}: {length} bytes are too many for certificates or a password",
        path.display()
    );
    Ok(reader.bytes(0, length as usize)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let url = Url::parse("etcd://a:1/x?user=u").expect("an address");
        let of = |text: &[u8]| {
            let password = Some(dir.path().join("password"));
            std::fs::write(dir.path().join("password"), text).expect("a file");
            Access::of(&url, &Credentials { roots: None, password })
        };
        for text in [&b"geheim"[..], b"geheim\n", b"geheim\r\nnot this"] {
            let login = of(text).expect("a password").login.expect("a login");
            assert_eq!((login.user.as_str(), login.password.as_str()), ("u", "geheim"));
        }
        for text in [&b""[..], b"\nsecond", b"\xff", &[b'x'; 2 << 20]] {
            assert!(of(text).is_err());
        }
        std::fs::write(dir.path().join("password"), "geheim").expect("a file");
        let nobody = Url::parse("etcd://a:1/x").expect("an address");
        let password = Some(dir.path().join("password"));
        let refused = Access::of(&nobody, &Credentials { roots: None, password });
        assert!(refused.expect_err("a password without a user").to_string().contains("?user="));
    }
}
