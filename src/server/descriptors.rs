//! The descriptors that clients need: one each, and some for the log and the server itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those of clients: segments, lock, listeners, epoll, standard streams; and as many again for
/// those who look over HTTP, so that a full server can still make its next segment.
const OTHER_DESCRIPTORS: u64 = 80;

/// Lets the process open a descriptor for each of `max_clients`, as far as the system allows, and
/// returns the number of clients for which that is enough.
pub fn raise_descriptor_limit(max_clients: usize) -> usize {
    let wanted = max_clients as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(u64::MAX);
    if now >= wanted {
        return max_clients;
    }
    let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    let raise = Rlimit { current: Some(raised), maximum: limit.maximum };
    let allowed = if setrlimit(Resource::Nofile, raise).is_ok() { raised } else { now };
    if allowed < wanted {
        log::warn!("only {allowed} descriptors may be open: -maxclients is lowered to fit");
    }
    (allowed.saturating_sub(OTHER_DESCRIPTORS).max(1) as usize).min(max_clients)
}
