//! The transport to a real etcd: HTTP/1.1 over connections that are kept, by way of `ureq`.
//!
//! One deadline is for the whole exchange, from the name's look-up to the reply's last byte. No proxy of the
//! environment is used, no redirect followed, and nothing decompressed.

use std::io;
use std::time::Duration;

use ureq::Agent;
use ureq::unversioned::transport::DefaultConnector;

use super::addresses::Addresses;
use super::client::{Lost, Reply, Request, Sent, Transport};
use super::url::Encryption;

/// Time for a connection, of the time for an exchange: a machine that is gone answers nothing, and the time left
/// is for none of the others.
const CONNECT_PARTS: u32 = 2;

/// Connections of one role.
#[derive(Debug)]
pub struct Http {
    agent: Agent,
    addresses: Addresses,
    scheme: &'static str,
}

impl Http {
    /// Connects to nothing yet. `roots` is what proves a member's identity, certificates in PEM; without it,
    /// that of the public authorities does. The error is for a person.
    pub fn new(encryption: Encryption, roots: Option<&[u8]>) -> Result<Http, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(1);
        let (config, scheme) = match encryption {
            Encryption::None => (config, "http"),
            #[cfg(feature = "etcds")]
            Encryption::Tls => (config.https_only(true).tls_config(tls(roots)?), "https"),
            #[cfg(not(feature = "etcds"))]
            Encryption::Tls => return Err("this server was built without the feature etcds".into()),
        };
        if roots.is_some() && encryption == Encryption::None {
            return Err("certificates are for etcds://, and the address is etcd://".into());
        }
        let addresses = Addresses::default();
        let connector = DefaultConnector::default();
        let agent = Agent::with_parts(config.build(), connector, addresses.clone());
        Ok(Http { agent, addresses, scheme })
    }
}

#[cfg(feature = "etcds")]
fn tls(roots: Option<&[u8]>) -> Result<ureq::tls::TlsConfig, String> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
    let Some(pem) = roots else { return Ok(TlsConfig::default()) };
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(it) = item.map_err(|why| format!("certificates: {why}"))? {
            certificates.push(it);
        }
    }
    if certificates.is_empty() {
        return Err("there is no certificate in PEM form in that file".into());
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}

impl Transport for Http {
    fn post(&mut self, request: &Request<'_>, time: Duration) -> Result<Reply, Lost> {
        let url = format!("{}://{}{}", self.scheme, request.member, request.path);
        let mut post = self.agent.post(url).header("content-type", "application/json");
        if let Some(token) = request.token {
            post = post.header("authorization", token);
        }
        let post = post.config().timeout_global(Some(time));
        let post = post.timeout_connect(Some(time / CONNECT_PARTS)).build();
        let sent = post.send(request.body).map_err(lost);
        if sent.is_err() {
            self.addresses.forget();
        }
        let mut reply = sent?;
        let status = reply.status().as_u16();
        let limited = reply.body_mut().with_config().limit(request.most_bytes);
        let body = limited
            .read_to_vec()
            .map_err(|why| Lost { sent: Sent::Perhaps, why: why.to_string() })?;
        Ok(Reply { status, body })
    }
}

/// Whether the request may have been sent, by an error from before its reply.
fn lost(why: ureq::Error) -> Lost {
    let is_before = match &why {
        ureq::Error::Io(why) => why.kind() == io::ErrorKind::ConnectionRefused,
        ureq::Error::HostNotFound => true,
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => true,
        _ => false,
    };
    let sent = if is_before { Sent::Never } else { Sent::Perhaps };
    Lost { sent, why: why.to_string() }
}
