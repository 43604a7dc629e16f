//! How a process gets at a cluster: its certificates, its user, and the client that has both.

use std::path::Path;

use anyhow::{anyhow, ensure};

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
const MOST_CERTIFICATE_BYTES: u64 = 1 << 20;

/// What proves the members to this process, and this process to them.
#[derive(Debug)]
pub struct Access {
    /// Certificates in PEM; `None` for the public authorities'.
    roots: Option<Vec<u8>>,
    login: Option<Login>,
}

impl Access {
    /// Reads the certificates, and the password from the environment.
    pub fn of(url: &Url, roots: Option<&Path>) -> anyhow::Result<Access> {
        let password = std::env::var(PASSWORD_VARIABLE).ok();
        ensure!(
            url.user.is_some() == password.is_some(),
            "a user of etcd is named by ?user= in its address, and the password is in {PASSWORD_VARIABLE}: both or \
             neither"
        );
        let login = url.user.clone().zip(password).map(|(user, password)| Login { user, password });
        Ok(Access { roots: roots.map(read).transpose()?, login })
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
        length <= MOST_CERTIFICATE_BYTES,
        "{}: {length} bytes are too many for certificates",
        path.display()
    );
    Ok(reader.bytes(0, length as usize)?.to_vec())
}
