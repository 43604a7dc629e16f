//! Certificates, made as a test needs them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key.
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Dates {
    Now,
    Past,
    Soon,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random bytes");
        let pem = params.self_signed(&key).expect("its own").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, dates: Dates) -> Signed {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = match dates {
            Dates::Now => date_time_ymd(2999, 1, 1),
            Dates::Past => date_time_ymd(2001, 1, 1),
            Dates::Soon => {
                (std::time::SystemTime::now() + std::time::Duration::from_secs(86_400)).into()
            }
        };
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.signed_by(&key, &self.issuer).expect("it may sign").pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    /// A client that trusts nobody else, and shows this certificate if it is asked.
    pub fn client(&self, own: Option<&Signed>) -> Arc<ClientConfig> {
        self.client_of(own, rustls::DEFAULT_VERSIONS)
    }

    pub fn client_of(
        &self,
        own: Option<&Signed>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("one");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(Signed { certificate, key }) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        })
    }
}

impl Signed {
    /// Puts both into a directory.
    pub fn put(&self, dir: &Path) -> [PathBuf; 2] {
        let paths = [dir.join("server.crt"), dir.join("server.key")];
        fs::write(&paths[0], &self.certificate).expect("a file");
        fs::write(&paths[1], &self.key).expect("a file");
        fs::set_permissions(&paths[1], Permissions::from_mode(0o600)).expect("our file");
        paths
    }
}
