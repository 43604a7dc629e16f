//! TLS to a server, by rustls with ring.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "stats")]
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::stream::{Stream, Timed};

/// The longest file that is read, as for the server.
const MOST_BYTES: u64 = 1 << 20;

/// Flags of TLS.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Speak TLS. The server's certificate has to be for the name or address at -host
    #[arg(long, requires = "cacert")]
    tls: bool,

    /// Certificates in PEM that prove the server: its authority's, or its own
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// This client's own certificate, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert: Option<PathBuf>,

    /// The private key of that
    #[arg(long = "key", value_name = "FILE", requires = "cert")]
    key_file: Option<PathBuf>,
}

impl Flags {
    /// What a connection begins with, if it is to be encrypted.
    pub fn plan(&self) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        let Flags { tls, cacert, cert, key_file } = self;
        let Some(cacert) = cacert.as_ref().filter(|_| *tls) else {
            ensure!(!tls, "-tls needs -cacert FILE, which proves the server");
            ensure!(cacert.is_none() && cert.is_none(), "-cacert and -cert go with -tls");
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(cacert)?);
        ensure!(added > 0, "-cacert {}: no certificate in it can be used", cacert.display());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (cert, key_file) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .with_context(|| format!("-cert {}, -key {}", cert.display(), key.display()))?,
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(Arc::new(config)))
    }
}

/// Encrypts a connection to this host.
pub fn encrypt(
    stream: Timed<TcpStream>,
    host: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Box<dyn Stream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    Ok(Box::new(StreamOwned::new(session, stream)))
}

impl Stream for StreamOwned<ClientConnection, Timed<TcpStream>> {
    #[cfg(feature = "stats")]
    fn set_deadline(&mut self, deadline: Instant) {
        self.sock.set_deadline(deadline);
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => bail!("{shown}: there is no certificate in it"),
        Err(why) => bail!("{shown}: {why}"),
    }
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|it| it.take(MOST_BYTES + 1).read_to_end(&mut text));
    read.with_context(|| format!("{}: cannot be read", path.display()))?;
    ensure!(text.len() as u64 <= MOST_BYTES, "{}: more than {MOST_BYTES} bytes", path.display());
    Ok(text)
}
