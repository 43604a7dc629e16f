//! The names of a log's keys in etcd. All begin with `/<name>/`.
//!
//! | key | value |
//! |-----|-------|
//! | `head` | [`super::head::Head`] |
//! | `log/<lsn>` | the batch whose first record has this LSN, as one frame |
//! | `snap/<lsn>.<term>/<n>` | a piece of the snapshot of everything up to this LSN, by the leader of this term |
//! | `snapshot` | which snapshot is whole |
//! | `node/<id>` | the address of a node, for clients that ask which there are |
//! | `format` | version and store id, created with the log |
//!
//! Numbers are 16 hexadecimal digits, because etcd orders keys by their bytes.

/// The keys of one log.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

/// All keys from the first, and before the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first key.
    pub from: String,
    /// The first key that is not meant.
    pub to: String,
}

impl Range {
    /// Whether it has `key` in it.
    pub fn contains(&self, key: &str) -> bool {
        (self.from.as_str()..self.to.as_str()).contains(&key)
    }
}

impl Keys {
    /// The keys of the log `name`, which the address has checked.
    pub fn new(name: &str) -> Keys {
        assert!(!name.is_empty() && !name.contains('/'), "a name of a log is one part of a key");
        Keys { prefix: format!("/{name}/") }
    }

    /// What all of them begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The one key that every change changes.
    pub fn head(&self) -> String {
        format!("{}head", self.prefix)
    }

    /// Version and store id.
    pub fn format(&self) -> String {
        format!("{}format", self.prefix)
    }

    /// Which snapshot is whole.
    pub fn snapshot(&self) -> String {
        format!("{}snapshot", self.prefix)
    }

    /// The batch that begins with the record `lsn`.
    pub fn batch(&self, lsn: u64) -> String {
        format!("{}log/{lsn:016x}", self.prefix)
    }

    /// The LSN in the name of a batch.
    pub fn lsn_of_batch(&self, key: &str) -> Option<u64> {
        let lsn =
            u64::from_str_radix(key.strip_prefix(&format!("{}log/", self.prefix))?, 16).ok()?;
        (self.batch(lsn) == key).then_some(lsn)
    }

    /// The batches that begin with a record of `from` to `before`.
    pub fn batches(&self, from: u64, before: u64) -> Range {
        Range { from: self.batch(from), to: self.batch(before) }
    }

    /// All batches from `from` on.
    pub fn batches_from(&self, from: u64) -> Range {
        Range { from: self.batch(from), to: format!("{}log0", self.prefix) }
    }

    /// A piece of the snapshot at `lsn` that the leader of `term` has written.
    pub fn piece(&self, lsn: u64, term: u64, n: u64) -> String {
        format!("{}snap/{lsn:016x}.{term:016x}/{n:016x}", self.prefix)
    }

    /// The number of a piece of that snapshot.
    pub fn number_of_piece(&self, lsn: u64, term: u64, key: &str) -> Option<u64> {
        let n = u64::from_str_radix(key.rsplit_once('/')?.1, 16).ok()?;
        (self.piece(lsn, term, n) == key).then_some(n)
    }

    /// The pieces of that snapshot from the `n`th on.
    pub fn pieces_from(&self, lsn: u64, term: u64, n: u64) -> Range {
        let to = format!("{}snap/{lsn:016x}.{term:016x}0", self.prefix);
        Range { from: self.piece(lsn, term, n), to }
    }

    /// The pieces of all snapshots of LSNs before this one.
    pub fn pieces_before(&self, lsn: u64) -> Range {
        let from = format!("{}snap/", self.prefix);
        Range { from, to: format!("{}snap/{lsn:016x}", self.prefix) }
    }

    /// The pieces of all snapshots.
    pub fn all_pieces(&self) -> Range {
        Range { from: format!("{}snap/", self.prefix), to: format!("{}snap0", self.prefix) }
    }

    /// The LSN and the term of the snapshot that a key is a piece of.
    pub fn snapshot_of_piece(&self, key: &str) -> Option<(u64, u64)> {
        let rest = key.strip_prefix(&format!("{}snap/", self.prefix))?;
        let (lsn, term) = rest.split_once('/')?.0.split_once('.')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some((number(lsn)?, number(term)?))
    }

    /// The address of a node.
    pub fn node(&self, id: &str) -> String {
        format!("{}node/{id}", self.prefix)
    }

    /// All nodes.
    pub fn nodes(&self) -> Range {
        Range { from: format!("{}node/", self.prefix), to: format!("{}node0", self.prefix) }
    }

    /// Never written. To delete it is a change that changes nothing, and so a read of the same transaction goes
    /// through etcd's own log and cannot be outdated.
    pub fn nothing(&self) -> String {
        format!("{}nothing", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_ordered_by_their_lsn_and_ranges_hold_what_they_say() {
        let keys = Keys::new("shop");
        assert_eq!(keys.batch(255), "/shop/log/00000000000000ff");
        assert!(keys.batch(9) < keys.batch(10) && keys.batch(0xffff) < keys.batch(0x10000));
        assert_eq!(keys.lsn_of_batch(&keys.batch(77)), Some(77));
        assert_eq!(keys.lsn_of_batch("/shop/log/ff"), None);
        assert_eq!(keys.lsn_of_batch("/shop/log/00000000000000FF"), None);
        let some = keys.batches(10, 20);
        assert!(some.contains(&keys.batch(10)) && some.contains(&keys.batch(19)));
        assert!(!some.contains(&keys.batch(9)) && !some.contains(&keys.batch(20)));
        assert!(keys.batches_from(5).contains(&keys.batch(u64::MAX)));
        let pieces = keys.pieces_from(5, 2, 1);
        assert!(
            pieces.contains(&keys.piece(5, 2, 1)) && pieces.contains(&keys.piece(5, 2, u64::MAX))
        );
        for other in [keys.piece(5, 2, 0), keys.piece(5, 3, 1), keys.piece(6, 2, 1)] {
            assert!(!pieces.contains(&other) && keys.all_pieces().contains(&other));
        }
        assert_eq!(keys.snapshot_of_piece(&keys.piece(5, 2, 1)), Some((5, 2)));
        assert!(keys.pieces_before(6).contains(&keys.piece(5, u64::MAX, 1)));
        assert!(!keys.pieces_before(6).contains(&keys.piece(6, 0, 0)));
        assert!(keys.nodes().contains(&keys.node("n1")) && !keys.nodes().contains(&keys.nothing()));
    }
}
