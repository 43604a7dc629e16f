//! Where the members of etcd are: an address is taken as it is, and a name is looked up once.
//!
//! `ureq` looks the host up for every request, also if it has a connection, in a thread that it starts for that: of a lone
//! client's SET that was the largest part beside etcd's own. A name is looked up again after a request has failed, since
//! its member may have moved.

use std::net::SocketAddr;
use std::sync::Arc;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::url::MOST_MEMBERS;
use crate::sync::Mutex;

/// Names with the addresses that were found, at most [`MOST_MEMBERS`]. Its clones are one.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<Vec<(String, ResolvedSocketAddrs)>>>);

impl Addresses {
    /// Looks all names up again, when they are needed.
    pub fn forget(&self) {
        self.0.lock().clear();
    }

    fn known(&self, member: &str) -> Option<ResolvedSocketAddrs> {
        if let Ok(address) = member.parse::<SocketAddr>() {
            let mut addresses = self.empty();
            addresses.push(address);
            return Some(addresses);
        }
        let known = self.0.lock();
        known.iter().find(|(name, _)| name == member).map(|(_, addresses)| addresses.clone())
    }
}

impl Resolver for Addresses {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let member = uri.authority().map(|member| member.as_str()).unwrap_or_default();
        if let Some(addresses) = self.known(member) {
            return Ok(addresses);
        }
        let addresses = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut known = self.0.lock();
        if known.len() < MOST_MEMBERS {
            known.push((member.to_owned(), addresses.clone()));
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_never_looked_up_and_a_name_once_until_a_request_fails() {
        let addresses = Addresses::default();
        for member in ["127.0.0.1:2379", "[::1]:2379"] {
            let known = addresses.known(member).expect("an address is known");
            assert_eq!(known.to_vec(), [member.parse::<SocketAddr>().expect("an address")]);
        }
        assert!(addresses.known("etcd-1:2379").is_none());
        let mut found = addresses.empty();
        found.push("10.0.0.7:2379".parse().expect("an address"));
        addresses.0.lock().push(("etcd-1:2379".into(), found.clone()));
        let known = addresses.known("etcd-1:2379").expect("it was looked up");
        assert_eq!(known.to_vec(), found.to_vec());
        addresses.forget();
        assert!(addresses.known("etcd-1:2379").is_none());
    }
}
