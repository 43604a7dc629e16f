//! The flags of TLS, and the door that they make.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::ValueEnum;

use super::number;
use crate::doors::{Doors, Encryption, Host, TcpPlan};
use crate::server::Reload;
use crate::tls::{Asked, Files, Tls};

/// Flags of a port at which clients speak TLS.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Port to listen on for TLS as well, at the same addresses; 0 takes a free one
    #[arg(
        long = "tls-port",
        value_name = "0-65535",
        value_parser = number(0, 65_535)
    )]
    tls_port: Option<u64>,

    /// File with the server's certificate in PEM, and after it those up to its authority; read anew at SIGHUP, as are
    /// the other files of TLS
    #[arg(long = "tls-cert", value_name = "PATH")]
    tls_cert: Option<PathBuf>,

    /// File with the certificate's private key
    #[arg(long = "tls-key", value_name = "PATH")]
    tls_key: Option<PathBuf>,

    /// File with the authorities of clients' certificates; every client then needs one
    #[arg(long = "tls-ca", value_name = "PATH")]
    tls_ca: Option<PathBuf>,

    /// Whether a client needs a certificate; yes with -tls-ca and no without
    #[arg(long = "tls-auth-clients", value_enum, value_name = "no|optional|yes")]
    tls_auth_clients: Option<AuthClients>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuthClients {
    No,
    Optional,
    Yes,
}

impl Flags {
    /// The port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.tls_port.map(|port| port as u16)
    }

    /// Whether anyone may come in.
    pub fn lets_strangers_in(&self) -> bool {
        self.tls_port.is_some() && self.asked() != Asked::EveryoneMust
    }

    fn asked(&self) -> Asked {
        match (self.tls_auth_clients, &self.tls_ca) {
            (Some(AuthClients::Yes), _) | (None, Some(_)) => Asked::EveryoneMust,
            (Some(AuthClients::Optional), _) => Asked::Everyone,
            (Some(AuthClients::No), _) | (None, None) => Asked::Nobody,
        }
    }

    /// Binds the port, if there is one. Its certificates are read anew with `reloads`.
    pub fn add_to(
        &self,
        doors: &mut Doors,
        hosts: impl FnOnce() -> anyhow::Result<Vec<Host>>,
        reloads: &mut Vec<Reload>,
    ) -> anyhow::Result<()> {
        self.fit()?;
        let (Some(port), Some(files)) = (self.port(), self.files()) else { return Ok(()) };
        let tls = Arc::new(Tls::read(files)?);
        let encryption: Option<Arc<dyn Encryption>> = Some(tls.clone());
        doors.add_tcp(&TcpPlan { hosts: hosts()?, port, encryption })?;
        reloads.push(Reload::new("TLS with its certificates", move || tls.reload()));
        Ok(())
    }

    /// Checks the flags and their files.
    pub fn check(&self) -> anyhow::Result<()> {
        self.fit()?;
        self.files().map(Tls::read).transpose().map(drop)
    }

    /// Refuses a port without its files, and files without a port, which would be ignored.
    fn fit(&self) -> anyhow::Result<()> {
        let Flags { tls_port, tls_cert, tls_key, tls_ca, tls_auth_clients } = self;
        let files = [
            ("-tls-cert", tls_cert.is_some()),
            ("-tls-key", tls_key.is_some()),
            ("-tls-ca", tls_ca.is_some()),
            ("-tls-auth-clients", tls_auth_clients.is_some()),
        ];
        match tls_port {
            Some(_) => {
                let missing = files[..2].iter().find(|(_, is_there)| !is_there);
                missing.map_or(Ok(()), |(flag, _)| bail!("-tls-port needs {flag}"))
            }
            None => {
                let useless = files.iter().find(|(_, is_there)| *is_there);
                useless.map_or(Ok(()), |(flag, _)| bail!("{flag} is for -tls-port"))
            }
        }
    }

    /// The files, if there is a port to use them at.
    fn files(&self) -> Option<Files> {
        let (Some(certificate), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) else {
            return None;
        };
        Some(Files { certificate, key, authorities: self.tls_ca.clone(), asked: self.asked() })
    }

    /// The settings that CONFIG GET shows, by Redis's names.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let Some(Files { certificate, key, authorities, asked }) = self.files() else {
            return Vec::new();
        };
        let asked = match asked {
            Asked::Nobody => "no",
            Asked::Everyone => "optional",
            Asked::EveryoneMust => "yes",
        };
        vec![
            ("tls-auth-clients", asked.to_owned()),
            ("tls-ca-cert-file", authorities.unwrap_or_default().display().to_string()),
            ("tls-cert-file", certificate.display().to_string()),
            ("tls-key-file", key.display().to_string()),
        ]
    }
}
