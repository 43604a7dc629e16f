//! The only replies of etcd that are believed to mean "nothing was done". Every other error is unknown.
//!
//! The HTTP status does not tell: 429 stands for a member that is overwhelmed, for a message that is too large,
//! and for a quota that may just have been passed by the very transaction that is answered so. Each text was
//! seen as a reply of etcd 3.4.23, or where it says so, read in its sources.

use super::kv::{Refusal, Trouble};

/// Texts after which nothing was done, and nothing will be, though the next attempt may go better.
const FOR_NOW: &[&str] = &[
    // Too much is committed and not applied yet; asked before anything is proposed (read).
    "etcdserver: too many requests",
    // A member that was restarted has forgotten simple tokens; a new one is asked for.
    "etcdserver: invalid auth token",
];

/// Texts after which nothing was done, and every attempt would be answered so.
const FOR_GOOD: &[&str] = &[
    "etcdserver: request is too large",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: key is not provided",
    "etcdserver: permission denied",
    // Authentication is on, and there is no user in the address.
    "etcdserver: user name is empty",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: authentication is not enabled",
];

/// The beginning of the text for more than 2 MiB, which gRPC refuses before etcd sees it.
const TOO_LARGE_FOR_GRPC: &str = "grpc: received message larger than max (";

/// The token that was sent is not known any more.
pub const INVALID_TOKEN: &str = "etcdserver: invalid auth token";

/// A member that has used up its quota says this. The applier of etcd (`quotaApplierV3`) looks at the quota,
/// carries the transaction out all the same, and answers with this text: so the last one that fits too closely
/// is done, though its reply is an error. Those after it are not.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// What the text of an error says about the attempt that was answered with it.
pub fn trouble(text: &str) -> Trouble {
    let is_in = |texts: &[&str]| texts.contains(&text);
    match () {
        () if text == NO_SPACE => Trouble::NoSpace,
        () if is_in(FOR_NOW) => Trouble::Refused(Refusal::ForNow(text.into())),
        () if is_in(FOR_GOOD) || text.starts_with(TOO_LARGE_FOR_GRPC) => {
            Trouble::Refused(Refusal::ForGood(text.into()))
        }
        () => Trouble::Unknown(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_not_on_the_list_leaves_open_what_was_done() {
        let unknown = [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: no leader",
            "etcdserver: server stopped",
            "etcdserver: request is too large, or so",
            "context deadline exceeded",
            "unexpected EOF",
            "",
        ];
        for text in unknown {
            assert_eq!(trouble(text), Trouble::Unknown(text.into()));
        }
        assert!(matches!(
            trouble("etcdserver: request is too large"),
            Trouble::Refused(Refusal::ForGood(_))
        ));
        assert!(matches!(trouble(INVALID_TOKEN), Trouble::Refused(Refusal::ForNow(_))));
    }

    #[test]
    fn a_quota_that_is_used_up_says_nothing_about_the_transaction_that_is_answered_so() {
        assert_eq!(trouble("etcdserver: mvcc: database space exceeded"), Trouble::NoSpace);
    }
}
