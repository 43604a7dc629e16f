//! The little that a log needs from etcd: a transaction on one condition, tried once.
//!
//! An attempt ends in one of three ways, and all that is safe here hangs on telling them apart: it has an
//! answer; it is certain that it did nothing, and will do nothing later; or neither is known. Only what a list
//! names is certain ([`super::refusals`]), all else is unknown.

use std::fmt;
use std::time::Duration;

use super::keys::Range;

/// etcd's limit of a request, `--max-request-bytes`, as Debian and everyone else runs it.
const ETCD_REQUEST_BYTES: usize = 1_572_864;
/// The most bytes of keys and values in a transaction: etcd counts its own encoding, which has at most about 40
/// bytes for an operation, and a header with the name of the user.
pub const LARGEST_TXN_BYTES: usize = ETCD_REQUEST_BYTES - 16 * 1024;
/// The most operations in a transaction, etcd's `--max-txn-ops`.
pub const MOST_TXN_OPS: usize = 128;

/// One attempt of something in etcd. A repetition is the same transaction.
pub trait Kv {
    /// Tries a transaction once, for at most this time, with one member; after trouble, the next time with
    /// another.
    fn txn(&mut self, txn: &Txn, time: Duration) -> Result<Answer, Trouble>;
}

/// Some operations if a condition holds, else others; all of them at once.
///
/// - No key is put twice, nor put and deleted: etcd refuses that.
/// - It is within [`LARGEST_TXN_BYTES`] and [`MOST_TXN_OPS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    condition: Condition,
    success: Vec<Op>,
    failure: Vec<Op>,
}

/// What a transaction asks first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// Whether a key has exactly this value.
    Value(String, Vec<u8>),
    /// Whether there is none of these keys.
    Missing(Vec<String>),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put(String, Vec<u8>),
    /// Reads a key.
    Get(String),
    /// Removes a key, whether it is there or not.
    Delete(String),
    /// Removes all keys of a range.
    DeleteRange(Range),
}

/// How a transaction went.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether its condition held.
    pub condition: Held,
    /// What its reads found, of the operations that were carried out: one for each, in their order.
    pub found: Vec<Option<Vec<u8>>>,
}

/// Whether a condition held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It did: the operations for that case were carried out.
    Yes,
    /// It did not: those for the other case were.
    No,
}

/// An attempt without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It did nothing, and will do nothing later. This says nothing about attempts before it.
    Refused(Refusal),
    /// It is over, and was either done or not: etcd reports that its space is used up, even for the very
    /// transaction that used it up.
    NoSpace,
    /// It may have been done, or may be done later.
    Unknown(String),
}

/// Why an attempt did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The next attempt may go better: no connection, a member that is overwhelmed, a token that has expired.
    ForNow(String),
    /// Every attempt will be refused, until a person changes something.
    ForGood(String),
    /// etcd has no space left.
    NoSpace,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::ForNow(why) | Refusal::ForGood(why) => out.write_str(why),
            Refusal::NoSpace => out.write_str("etcd has no space left (NOSPACE)"),
        }
    }
}

impl Txn {
    /// A transaction. One that etcd would refuse for its form is a bug of the caller.
    pub fn new(condition: Condition, success: Vec<Op>, failure: Vec<Op>) -> Txn {
        let txn = Txn { condition, success, failure };
        for ops in [&txn.success, &txn.failure] {
            assert!(ops.len() <= MOST_TXN_OPS, "etcd refuses a transaction of so many operations");
            let puts = || ops.iter().filter_map(Op::put_key);
            for (at, key) in puts().enumerate() {
                let is_again = puts().skip(at + 1).any(|other| other == key);
                let is_deleted = ops.iter().any(|op| op.deletes(key));
                assert!(!is_again && !is_deleted, "{key} is put once, or deleted, not both");
            }
        }
        assert!(txn.bytes() <= LARGEST_TXN_BYTES, "etcd refuses a transaction of so many bytes");
        txn
    }

    /// A read that cannot be outdated, whichever member answers: it changes nothing, but as something that could
    /// change something, so that it goes through etcd's own log. `nothing` is a key that is never written.
    pub fn read(key: String, nothing: String) -> Txn {
        Txn::new(Condition::Always, vec![Op::Delete(nothing), Op::Get(key)], Vec::new())
    }

    /// What it asks first.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The operations for a condition that held, or did not.
    pub fn ops(&self, held: Held) -> &[Op] {
        match held {
            Held::Yes => &self.success,
            Held::No => &self.failure,
        }
    }

    fn bytes(&self) -> usize {
        let condition = match &self.condition {
            Condition::Always => 0,
            Condition::Value(key, value) => key.len() + value.len(),
            Condition::Missing(keys) => keys.iter().map(String::len).sum(),
        };
        let ops = self.success.iter().chain(&self.failure);
        condition + ops.map(Op::bytes).sum::<usize>()
    }
}

impl Op {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Op::Put(key, value) => key.len() + value.len(),
            Op::Get(key) | Op::Delete(key) => key.len(),
            Op::DeleteRange(range) => range.from.len() + range.to.len(),
        }
    }

    fn put_key(&self) -> Option<&str> {
        match self {
            Op::Put(key, _) => Some(key),
            Op::Get(_) | Op::Delete(_) | Op::DeleteRange(_) => None,
        }
    }

    fn deletes(&self, key: &str) -> bool {
        match self {
            Op::Put(..) | Op::Get(_) => false,
            Op::Delete(deleted) => deleted == key,
            Op::DeleteRange(range) => range.contains(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Op {
        Op::Put(key.into(), vec![1])
    }

    #[test]
    #[should_panic = "/x/5 is put once, or deleted, not both"]
    fn a_put_inside_a_range_that_the_same_transaction_deletes_is_a_bug() {
        let range = Range { from: "/x/1".into(), to: "/x/9".into() };
        Txn::new(Condition::Always, vec![Op::DeleteRange(range), put("/x/5")], vec![]);
    }

    #[test]
    #[should_panic = "of so many operations"]
    fn a_transaction_of_too_many_operations_is_a_bug() {
        let ops = (0..=MOST_TXN_OPS).map(|n| put(&n.to_string())).collect();
        Txn::new(Condition::Always, ops, vec![]);
    }

    #[test]
    #[should_panic = "of so many bytes"]
    fn a_transaction_that_is_too_large_for_etcd_is_a_bug() {
        let large = Op::Put("k".into(), vec![0; LARGEST_TXN_BYTES]);
        Txn::new(Condition::Always, vec![large], vec![]);
    }
}
