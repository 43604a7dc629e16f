//! The files of certificates and keys, and what is wrong with them.
//!
//! Every error names the flag and the file. What works today and is a mistake all the same, such as a key that others
//! can read or a certificate that is about to expire, is a warning.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::fs::OFlags;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};

/// The longest file that is read. (All authorities that browsers trust take up 220 KB.)
const FILE_BYTES: u64 = 1 << 20;

/// A certificate that expires within this time is told of: a month is enough to get another one.
const SOON: Duration = Duration::from_secs(30 * 86_400);

/// The permission bit of those who are neither the owner nor in the group: Debian's group `ssl-cert` may read keys.
const OTHERS_READ: u32 = 0o004;

/// The files, by their flags.
#[derive(Clone, Debug)]
pub struct Files {
    /// `-tls-cert`: the server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// `-tls-key`: its private key.
    pub key: PathBuf,
    /// `-tls-ca`: the authorities of clients' certificates.
    pub authorities: Option<PathBuf>,
    /// `-tls-auth-clients`.
    pub asked: Asked,
}

/// Who is asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody.
    Nobody,
    /// Everyone; a client without one is let in.
    Everyone,
    /// Everyone; a client without one is turned away.
    EveryoneMust,
}

impl Files {
    /// Reads all, and makes of them what a connection begins with.
    pub(super) fn read(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates("-tls-cert", &self.certificate)?;
        self.look_at(&chain[0], &provider)?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS")?;
        let builder = match self.verifier(&provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, self.private_key()?);
        Ok(Arc::new(config.map_err(|why| self.unfit(&why))?))
    }

    fn unfit(&self, why: &Error) -> anyhow::Error {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        match why {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                anyhow!(
                    "-tls-key {key}: this key does not belong to the certificate in {certificate}"
                )
            }
            why => anyhow!("-tls-cert {certificate}, -tls-key {key}: {why}"),
        }
    }

    /// Warns of a certificate that has expired, or soon will.
    fn look_at(&self, own: &CertificateDer<'_>, provider: &CryptoProvider) -> anyhow::Result<()> {
        let at = || format!("-tls-cert {}", self.certificate.display());
        let parsed = ParsedCertificate::try_from(own).with_context(at)?;
        let now = Duration::from_secs(UnixTime::now().as_secs());
        // Its signature is the clients' business; its dates are checked before that.
        let dates = |time| {
            let (nobody, all) =
                (RootCertStore::empty(), provider.signature_verification_algorithms.all);
            let time = UnixTime::since_unix_epoch(time);
            let why = verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], time, all);
            match why {
                Err(Error::InvalidCertificate(why)) => Some(why),
                _ => None,
            }
        };
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        match (dates(now), dates(now + SOON)) {
            (Some(Expired | ExpiredContext { .. }), _) => {
                log::warn!("{}: the certificate has expired, clients will refuse it", at());
            }
            (Some(NotValidYet | NotValidYetContext { .. }), _) => {
                log::warn!("{}: the certificate is not valid yet, clients will refuse it", at());
            }
            (_, Some(Expired | ExpiredContext { .. })) => {
                let days = SOON.as_secs() / 86_400;
                log::warn!("{}: the certificate expires within {days} days", at());
            }
            _ => {}
        }
        Ok(())
    }

    fn private_key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        let shown = self.key.display();
        let text = read("-tls-key", &self.key)?;
        let mode = std::fs::metadata(&self.key).map_or(0, |found| found.permissions().mode());
        if mode & OTHERS_READ != 0 {
            log::warn!("-tls-key {shown}: every user of this machine can read this key; chmod 640");
        }
        PrivateKeyDer::from_pem_slice(&text).map_err(|why| {
            let is_encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
            match why {
                _ if is_encrypted => anyhow!(
                    "-tls-key {shown}: the key is encrypted; `openssl pkey` writes it without its password"
                ),
                rustls::pki_types::pem::Error::NoItemsFound => {
                    anyhow!("-tls-key {shown}: there is no private key in it")
                }
                why => anyhow!("-tls-key {shown}: {why}"),
            }
        })
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
        let path = match (&self.authorities, self.asked) {
            // As in a configuration of Redis, the file may be there all the same, and has to be a good one.
            (Some(path), Asked::Nobody) => return certificates("-tls-ca", path).map(|_| None),
            (None, Asked::Nobody) => return Ok(None),
            (Some(path), _) => path,
            (None, _) => {
                bail!("-tls-auth-clients: -tls-ca has to say who signs clients' certificates")
            }
        };
        let at = || format!("-tls-ca {}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in certificates("-tls-ca", path)? {
            roots.add(certificate).with_context(at)?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = match self.asked {
            Asked::Everyone => builder.allow_unauthenticated(),
            _ => builder,
        };
        Ok(Some(builder.build().with_context(at)?))
    }
}

/// All certificates in a file, at least one.
fn certificates(flag: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let at = || format!("{flag} {}", path.display());
    let text = read(flag, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|why| anyhow!("{}: {why}", at()))?;
    ensure!(!found.is_empty(), "{}: there is no certificate in it", at());
    Ok(found)
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let at = || format!("{flag} {}", path.display());
    let mut text = Vec::new();
    // A pipe would hold up the start, or all signals, until something is written to it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).with_context(at)?;
    ensure!(file.metadata().with_context(at)?.is_file(), "{}: is not a regular file", at());
    file.take(FILE_BYTES + 1).read_to_end(&mut text).with_context(at)?;
    ensure!(text.len() as u64 <= FILE_BYTES, "{}: longer than {FILE_BYTES} bytes", at());
    Ok(text)
}
