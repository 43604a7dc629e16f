//! The value of the key `head`: which node leads, and how far the log is.
//!
//! `v2 <term> <lsn> <first_log_lsn> <node> <address> <process>.<beat> <store>.<checksum> [free]`, one space between
//! two fields, numbers in decimal without leading zeros, `process` and `store` in 16 hexadecimal digits, `checksum` in 8.
//!
//! | field | |
//! |-------|-|
//! | `term` | counts the takeovers; each belongs to one process |
//! | `lsn` | LSN of the last record in the log, 0 if there is none |
//! | `first_log_lsn` | LSN of the first record that is not trimmed yet |
//! | `node`, `address` | the leader, and where its clients are to connect |
//! | `process` | random, drawn when the leader's process began: tells two processes with one node id apart |
//! | `beat` | counts the values that this process has tried to write, so that none is tried twice |
//! | `store` | random, drawn when the log began, and never 0: tells two logs of one name apart |
//! | `checksum` | of the batch that ends with `lsn`, 0 if there is none: tells two histories of one log apart ([`super::history`]) |
//! | `free` | the leader stopped in order: the next may take over at once |
//!
//! A `v1` is the same without `<store>.<checksum>`, as the first servers wrote it. It is read, and the first takeover
//! replaces it with a `v2`. A server that knows only `v1` says then that it does not know this version, and neither
//! leads nor follows: so all servers are replaced by newer ones in turn, the leader last.
//!
//! Every change of the log changes this value in the same transaction, if it still is the one expected. So it
//! is compared as bytes, and what is read must be what would be printed.

use std::fmt;

/// The first field: the version of this format.
const VERSION: &str = "v2";
/// The version before, without a history.
const VERSION_1: &str = "v1";
/// The beginning of the value while an import fills the log: no server takes that for a head, nor an empty log for one
/// that it may begin.
pub const IMPORTING: &str = "importing ";
/// The last field of a head whose leader has stopped in order.
const FREE: &str = "free";
/// The longest value. It is written with every batch, compared by etcd, and polled by every follower.
pub const LONGEST_HEAD: usize = 288;
/// The longest id of a node; with the longest address and the greatest numbers a head stays below
/// [`LONGEST_HEAD`], see the test.
pub const LONGEST_NODE: usize = 32;
/// The longest address of a node.
pub const LONGEST_ADDRESS: usize = 100;

/// What `head` says. Its order is that in which values were written: by term, within a term by LSN and beat.
///
/// - `term` is at least 1, and so is `first_log_lsn`, which is at most `lsn + 1`.
/// - One term has one process, and within it `lsn` and `beat` never go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many times the lead was taken.
    pub term: u64,
    /// The last record's LSN.
    pub lsn: u64,
    /// The first record's LSN that is still in the log.
    pub first_log_lsn: u64,
    /// The leader's own id and address.
    pub node: Node,
    /// Which process of that node.
    pub process: u64,
    /// How many values that process had tried to write before.
    pub beat: u64,
    /// Which log it is, and which records are in it; `None` in a head of version 1.
    pub history: Option<History>,
    /// Whether the leader still leads.
    pub tenure: Tenure,
}

/// What no other log has, nor one that went another way.
///
/// - `store` is not 0.
/// - `checksum` is 0 exactly if `lsn` is; but by chance, once in four billion batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Drawn when the log began.
    pub store: u64,
    /// That of the last batch, which names the one before it.
    pub checksum: u32,
}

/// Whether the leader that a head names is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It led when it wrote this, for the time of a lease.
    Held,
    /// It stopped in order, and shows nothing any more.
    Free,
}

/// A node as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    id: String,
    address: String,
}

impl Node {
    /// A node, if its id and its address can stand in a head; else the reason, for a person.
    pub fn new(id: &str, address: &str) -> Result<Node, String> {
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        for (what, text, most) in [("id", id, LONGEST_NODE), ("address", address, LONGEST_ADDRESS)]
        {
            if text.is_empty() || text.len() > most || !is_plain(text) {
                return Err(format!(
                    "{text:?} cannot be the {what} of a node: 1 to {most} printable ASCII characters, no space"
                ));
            }
        }
        Ok(Node { id: id.into(), address: address.into() })
    }

    /// Its id, one for each node.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where clients reach it.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Head {
    /// The first head of the log `store`, before any record.
    pub fn first(node: Node, process: u64, store: u64) -> Head {
        let head = Head {
            term: 1,
            lsn: 0,
            first_log_lsn: 1,
            node,
            process,
            beat: 0,
            history: Some(History { store, checksum: 0 }),
            tenure: Tenure::Held,
        };
        head.checked()
    }

    /// The head of a log up to `lsn` that was brought in as a snapshot. Any server may lead with it.
    pub fn imported(node: Node, process: u64, history: History, lsn: u64) -> Head {
        let (first_log_lsn, history) = (lsn + 1, Some(history));
        let head = Head { lsn, first_log_lsn, history, ..Head::first(node, process, 1) };
        Head { tenure: Tenure::Free, ..head }.checked()
    }

    /// The same with a history, for one of version 1.
    pub fn upgraded(&self, history: History) -> Head {
        assert_eq!(self.history, None, "a log has one history");
        Head { history: Some(history), ..self.clone() }.checked()
    }

    /// The head by which another process takes over from this one. `beat` is its own.
    pub fn taken_over(&self, node: Node, process: u64, beat: u64) -> Head {
        assert!(self.process != process || beat > self.beat, "no head is written twice");
        Head { term: self.term + 1, node, process, beat, tenure: Tenure::Held, ..self.clone() }
            .checked()
    }

    /// The same place in the log, written once more: the lease begins anew. `beat` is one that this process has
    /// not tried yet; so in all that follow.
    pub fn renewed(&self, beat: u64) -> Head {
        assert!(beat > self.beat, "no head is written twice");
        assert_eq!(self.tenure, Tenure::Held, "what was given back is taken over, not renewed");
        Head { beat, ..self.clone() }.checked()
    }

    /// After a batch of this checksum that ends with the record `lsn`.
    pub fn appended(&self, lsn: u64, checksum: u32, beat: u64) -> Head {
        assert!(lsn > self.lsn, "a batch has a record");
        let history = self.history.expect("a leader writes heads with a history");
        let history = Some(History { checksum, ..history });
        Head { lsn, history, ..self.renewed(beat) }.checked()
    }

    /// After the records before `first_log_lsn` were replaced by a snapshot.
    pub fn trimmed(&self, first_log_lsn: u64, beat: u64) -> Head {
        assert!(first_log_lsn >= self.first_log_lsn, "what was trimmed does not come back");
        Head { first_log_lsn, ..self.renewed(beat) }.checked()
    }

    /// The leader's last head: the next poll of another node takes over.
    pub fn freed(&self, beat: u64) -> Head {
        Head { tenure: Tenure::Free, ..self.renewed(beat) }.checked()
    }

    /// Whether this one was written before `other`. Two heads of one term are of one process.
    pub fn is_before(&self, other: &Head) -> bool {
        let place = |it: &Head| (it.term, it.lsn, it.beat);
        place(self) < place(other)
    }

    /// Reads a value of the key.
    pub fn parse(value: &[u8]) -> Result<Head, String> {
        let wrong = |why: &str| {
            let start = &value[..value.len().min(LONGEST_HEAD)];
            format!("the head of the log is {:?}, {why}", String::from_utf8_lossy(start))
        };
        if value.len() >= LONGEST_HEAD {
            return Err(wrong("longer than any"));
        }
        let text = std::str::from_utf8(value).map_err(|_| wrong("not even text"))?;
        if text.starts_with(IMPORTING) {
            return Err("an import into this log has begun and not ended; the same import again goes on with it".into());
        }
        let version = text.split(' ').next().unwrap_or_default();
        if ![VERSION, VERSION_1].contains(&version) {
            return Err(wrong("of no version that this program knows"));
        }
        let fields = Head::fields(text);
        let head = fields.ok_or_else(|| wrong("which does not have the fields of its version"))?;
        let is_possible = head.term > 0
            && head.first_log_lsn > 0
            && head.first_log_lsn - 1 <= head.lsn
            && head.history.is_none_or(|history| history.store > 0);
        // Two spellings of one head would be two values for the comparison that guards the log.
        match is_possible && head.to_string() == text {
            true => Ok(head),
            false => Err(wrong("which no server writes")),
        }
    }

    fn fields(text: &str) -> Option<Head> {
        let mut words = text.split(' ');
        let version = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (term, lsn, first_log_lsn) = (number()?, number()?, number()?);
        let node = Node::new(words.next()?, words.next()?).ok()?;
        let (process, beat) = words.next()?.split_once('.')?;
        let history = match version {
            VERSION => Some(History::parse(words.next()?)?),
            _ => None,
        };
        let tenure = match (words.next(), words.next()) {
            (None, _) => Tenure::Held,
            (Some(FREE), None) => Tenure::Free,
            _ => return None,
        };
        let process = u64::from_str_radix(process, 16).ok()?;
        let beat = beat.parse().ok()?;
        Some(Head { term, lsn, first_log_lsn, node, process, beat, history, tenure })
    }

    fn checked(self) -> Head {
        assert!(self.term > 0, "terms count from 1");
        assert!(self.first_log_lsn > 0, "LSNs count from 1");
        assert!(self.first_log_lsn - 1 <= self.lsn, "only what was written can be trimmed");
        assert!(self.history.is_none_or(|history| history.store > 0), "0 is no id of a store");
        self
    }
}

impl History {
    fn parse(word: &str) -> Option<History> {
        let (store, checksum) = word.split_once('.')?;
        let store = u64::from_str_radix(store, 16).ok()?;
        Some(History { store, checksum: u32::from_str_radix(checksum, 16).ok()? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { term, lsn, first_log_lsn, node, process, beat, history, tenure } = self;
        let Node { id, address } = node;
        let version = if history.is_some() { VERSION } else { VERSION_1 };
        write!(out, "{version} {term} {lsn} {first_log_lsn} {id} {address} {process:016x}.{beat}")?;
        if let Some(History { store, checksum }) = history {
            write!(out, " {store:016x}.{checksum:08x}")?;
        }
        match tenure {
            Tenure::Held => Ok(()),
            Tenure::Free => write!(out, " {FREE}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::new("n1", "h1:6379").unwrap()
    }

    #[test]
    fn a_head_is_read_as_it_was_printed() {
        let first = Head::first(node(), 0xabc, 0xdef);
        assert_eq!(
            first.to_string(),
            "v2 1 0 1 n1 h1:6379 0000000000000abc.0 0000000000000def.00000000"
        );
        let old = Head { history: None, ..first.appended(7, 1, 2) };
        assert_eq!(old.to_string(), "v1 1 7 1 n1 h1:6379 0000000000000abc.2");
        let all = [
            first.clone(),
            first.renewed(1),
            first.appended(7, 0xfe, 2),
            first.appended(7, u32::MAX, 2).trimmed(8, 3),
            first.appended(7, 1, 2).freed(9),
            first.freed(1).taken_over(node(), 5, 0),
            old.clone(),
            old.freed(3),
            old.freed(3).taken_over(node(), 5, 0).upgraded(History { store: 9, checksum: 7 }),
        ];
        for head in all {
            assert_eq!(Head::parse(head.to_string().as_bytes()), Ok(head));
        }
    }

    #[test]
    fn the_longest_head_is_below_the_limit() {
        let node = Node::new(&"n".repeat(LONGEST_NODE), &"a".repeat(LONGEST_ADDRESS)).unwrap();
        let most = u64::MAX;
        let head = Head {
            term: most,
            lsn: most,
            first_log_lsn: most,
            process: most,
            beat: most,
            history: Some(History { store: most, checksum: u32::MAX }),
            tenure: Tenure::Free,
            node,
        };
        assert!(head.to_string().len() < LONGEST_HEAD);
        assert_eq!(Head::parse(head.to_string().as_bytes()), Ok(head));
    }

    #[test]
    fn a_value_that_no_server_writes_is_no_head() {
        for good in [
            "v1 3 9 2 n1 h1:1 00000000000000ff.4",
            "v2 3 9 2 n1 h1:1 00000000000000ff.4 00000000000000ee.0000000d",
        ] {
            assert!(Head::parse(good.as_bytes()).is_ok());
        }
        let wrong = [
            "",
            "v1",
            "v2 3 9 2 n1 h1:1 00000000000000ff.4",
            "v1 3 9 2 n1 h1:1",
            "v1 0 9 2 n1 h1:1 00000000000000ff.4",
            "v1 3 9 0 n1 h1:1 00000000000000ff.4",
            "v1 3 9 11 n1 h1:1 00000000000000ff.4",
            "v1 03 9 2 n1 h1:1 00000000000000ff.4",
            "v1 +3 9 2 n1 h1:1 00000000000000ff.4",
            "v1 3  9 2 n1 h1:1 00000000000000ff.4",
            "v1 3 9 2 n1 h1:1 ff.4",
            "v1 3 9 2 n1 h1:1 00000000000000FF.4",
            "v1 3 9 2 n1 h1:1 00000000000000ff",
            "v1 3 9 2 n1 h1:1 00000000000000ff.4 ",
            "v1 3 9 2 n1 h1:1 00000000000000ff.4 taken",
            "v1 3 9 2 n1 h1:1 00000000000000ff.4 free free",
            "v1 3 9 2 n1 h1:1 00000000000000ff.4 00000000000000ee.0000000d",
            "v2 3 9 2 n1 h1:1 00000000000000ff.4 00000000000000ee",
            "v2 3 9 2 n1 h1:1 00000000000000ff.4 00000000000000ee.d",
            "v2 3 9 2 n1 h1:1 00000000000000ff.4 0000000000000000.0000000d",
            "v2 3 9 2 n1 h1:1 00000000000000ff.4 free",
            "v3 3 9 2 n1 h1:1 00000000000000ff.4 00000000000000ee.0000000d",
            "v1 18446744073709551616 9 2 n1 h1:1 00000000000000ff.4",
        ];
        for value in wrong {
            assert!(Head::parse(value.as_bytes()).is_err(), "{value}");
        }
        assert!(Head::parse(b"v1 3 9 2 n1 h1:1 \xff").is_err());
        let long = format!("v1 3 9 2 n1 {} 00000000000000ff.4", "a".repeat(LONGEST_HEAD));
        assert!(Head::parse(long.as_bytes()).is_err_and(|why| why.len() < 2 * LONGEST_HEAD));
    }

    #[test]
    fn heads_are_ordered_as_they_were_written() {
        let first = Head::first(node(), 1, 9);
        let in_order = [
            first.clone(),
            first.renewed(1),
            first.appended(5, 8, 2),
            first.appended(5, 8, 3).taken_over(node(), 2, 0),
        ];
        for (at, head) in in_order.iter().enumerate() {
            for (other_at, other) in in_order.iter().enumerate() {
                assert_eq!(head.is_before(other), at < other_at, "{head} {other}");
            }
        }
    }

    #[test]
    #[should_panic = "no head is written twice"]
    fn a_beat_is_not_used_twice() {
        let head = Head::first(node(), 1, 9).renewed(4);
        let _ = head.appended(9, 8, 4);
    }
}
