//! Reads a whole log in etcd for a tool, from its snapshot to its head, while servers may be writing it.
//!
//! It changes nothing, and needs only a user who may read. Format, head and pointer are read in one transaction, so
//! that what is read is the log as it was then: entries up to the head's LSN never change. They may go, when a leader
//! has written another snapshot. So where one is missing, the head and the pointer are read again: if they say that it was
//! taken away, the reader is [`Overtaken`], and the caller begins again; otherwise it is damage.

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use super::client::{Client, MOST_BATCHES, Transport};
use super::clock::{Boottime, Clock};
use super::follower::untold;
use super::format;
use super::head::{Head, IMPORTING};
use super::history;
use super::json::{Freshness, Page};
use super::keys::{Keys, Range};
use super::kv::{Condition, Kv, Op, Refusal, Trouble, Txn};
use super::pointer::Pointer;
use super::reading::{Batch, Chain, Damage, tail_after};

/// Time for one attempt: a page may have many megabytes.
pub const TIME: Duration = Duration::from_secs(5);

/// A read is tried again, with the next member, for this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log in etcd, as far as its head and its pointer go.
pub struct LogReader<T> {
    client: Client<T>,
    keys: Keys,
    head: Result<Head, Damage>,
    pointer: Result<Option<Pointer>, Damage>,
}

/// What is handed on, in order.
pub enum Piece<'a> {
    /// A piece of a snapshot. Its records are counted from 1, and replace all up to its LSN.
    Snapshot(&'a Pointer, &'a Batch),
    /// A batch of the log.
    Log(&'a Batch),
}

/// Takes the pieces, and says whether to go on. Its errors end the reading.
pub type Take<'a> = dyn FnMut(Piece<'_>) -> anyhow::Result<ControlFlow<()>> + 'a;

/// The same, or a key whose value is not what it has to be.
pub type TakeOrGap<'a> =
    dyn FnMut(Result<Piece<'_>, &Damage>) -> anyhow::Result<ControlFlow<()>> + 'a;

/// A leader took away what was to be read next, because a newer snapshot has it.
#[derive(Debug)]
pub struct Overtaken;

impl fmt::Display for Overtaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log was compacted faster than it could be read; try again")
    }
}

impl std::error::Error for Overtaken {}

impl<T: Transport> LogReader<T> {
    /// Looks at the log of this name; `None` if there is none.
    pub fn open(mut client: Client<T>, name: &str) -> anyhow::Result<Option<LogReader<T>>> {
        let keys = Keys::new(name);
        let names = [keys.format(), keys.head(), keys.snapshot()];
        let gets = names.clone().map(Op::Get).to_vec();
        let all = Txn::new(Condition::Always, gets, Vec::new());
        let found = insist(&mut client, |client| client.txn(&all, TIME))?.found;
        let [format, head, pointer]: [Option<Vec<u8>>; 3] =
            found.try_into().map_err(|_| anyhow!("three reads have three answers"))?;
        if let Some(value) = &head
            && value.starts_with(IMPORTING.as_bytes())
        {
            bail!("{}: an import into this log has begun and not ended", keys.head());
        }
        let entries = keys.batches_from(0);
        let any = |client: &mut Client<T>| client.range(&entries, 1, Freshness::Current, TIME);
        if format.is_none()
            && head.is_none()
            && pointer.is_none()
            && insist(&mut client, any)?.pairs.is_empty()
        {
            return Ok(None);
        }
        if format.is_none() {
            bail!(missing(keys.format(), "it is missing, and the log is there"));
        }
        let refused = |why: String| anyhow!("{}: {why}. Nothing was changed", keys.format());
        format::read(format.as_deref()).map_err(refused)?;
        let head = match head {
            Some(value) => Head::parse(&value),
            None => Err("it is missing, and the log is there".into()),
        };
        if let Ok(head) = &head {
            format::check(format.as_deref(), head).map_err(refused)?;
        }
        let head = head.map_err(|what| Damage { key: keys.head(), lsn: 1, what });
        let pointer = pointer.map(|value| Pointer::parse(&value)).transpose();
        let pointer = pointer.map_err(|what| Damage { key: keys.snapshot(), lsn: 1, what });
        Ok(Some(LogReader { client, keys, head, pointer }))
    }

    /// The names of its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The head, as it was at the beginning; `None` if it cannot be read.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref().ok()
    }

    /// The pointer to the snapshot, as it was at the beginning; `None` also if it cannot be read.
    pub fn pointer(&self) -> Option<&Pointer> {
        self.pointer.as_ref().ok().and_then(Option::as_ref)
    }

    /// How many records there are to read.
    pub fn records(&self) -> u64 {
        let (records, covered) = self.pointer().map_or((0, 0), |it| (it.records, it.lsn));
        records + self.head().map_or(0, |head| head.lsn.saturating_sub(covered))
    }

    /// Whether the head is another by now: some server is writing.
    pub fn is_written(&mut self) -> anyhow::Result<bool> {
        let key = self.keys.head();
        let get = |client: &mut Client<T>| client.get(&key, Freshness::Current, TIME);
        let value = insist(&mut self.client, get)?;
        let before = self.head.as_ref().ok().map(|head| head.to_string().into_bytes());
        Ok(before.is_some() && value.is_some() && value != before)
    }

    /// Reads everything, in order, up to the first [`Damage`].
    pub fn read(&mut self, take: &mut Take<'_>) -> anyhow::Result<()> {
        let (keys, head, pointer) = (self.keys.clone(), self.head.clone()?, self.pointer.clone()?);
        let mut end = ControlFlow::Continue(());
        if let Some(pointer) = &pointer {
            end = self.walk(&mut Chain::snapshot(&keys, pointer), take)?;
        }
        let mut chain = Chain::log(&keys, tail_after(pointer.as_ref()), head.lsn);
        if let Some(damage) = gap_before(&chain, &head) {
            bail!(damage);
        }
        if end.is_continue() && self.walk(&mut chain, take)?.is_continue() {
            history::compare_end(&head, head.lsn, chain.tail().last_checksum).map_err(|_| {
                chain.damage(keys.head(), "its checksum is not that of the last batch".into())
            })?;
        }
        Ok(())
    }

    fn walk(
        &mut self,
        chain: &mut Chain<'_>,
        take: &mut Take<'_>,
    ) -> anyhow::Result<ControlFlow<()>> {
        while let Some(rest) = chain.rest() {
            let mut pairs = self.page(&rest)?.pairs.into_iter().peekable();
            if pairs.peek().is_none_or(|(key, _)| *key != chain.next_key()) {
                self.refuse_if_overtaken(chain)?;
                bail!(chain.missing());
            }
            // An entry after one that is missing is looked at again.
            while let Some((key, value)) = pairs.next_if(|(key, _)| *key == chain.next_key()) {
                let batch = chain.read_records(key, value)?;
                if take(piece_of(chain, &batch))?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        chain.check_end()?;
        Ok(ControlFlow::Continue(()))
    }

    /// Reads what can be read, each entry by itself, and names what cannot. A leader that compacts meanwhile ends this with
    /// an error.
    pub fn salvage(&mut self, take: &mut TakeOrGap<'_>) -> anyhow::Result<()> {
        let keys = self.keys.clone();
        for damage in [self.head.as_ref().err(), self.pointer.as_ref().err()].into_iter().flatten()
        {
            if take(Err(damage))?.is_break() {
                return Ok(());
            }
        }
        let (head, pointer) = (self.head().cloned(), self.pointer().copied());
        if let Some(pointer) = &pointer {
            let chain = &mut Chain::snapshot(&keys, pointer);
            if self.collect(chain, Sought::Known, take)?.is_break() {
                return Ok(());
            }
        }
        // Without a head the log ends with its last entry, and without a pointer it begins with its first.
        let last = head.as_ref().map_or(u64::MAX - 1, |head| head.lsn);
        let mut chain = Chain::log(&keys, tail_after(pointer.as_ref()), last);
        let mut sought = Sought::Any;
        if let (Some(head), Ok(_)) = (&head, &self.pointer) {
            match gap_before(&chain, head) {
                Some(damage) if take(Err(&damage))?.is_break() => return Ok(()),
                Some(_) => {}
                None => sought = Sought::Known,
            }
        }
        self.collect(&mut chain, sought, take).map(drop)
    }

    fn collect(
        &mut self,
        chain: &mut Chain<'_>,
        mut sought: Sought,
        take: &mut TakeOrGap<'_>,
    ) -> anyhow::Result<ControlFlow<()>> {
        let Some(mut rest) = chain.rest() else { return Ok(ControlFlow::Continue(())) };
        loop {
            let page = self.page(&rest)?;
            let Some((last, _)) = page.pairs.last() else { break };
            rest.from = format!("{last}\0");
            for (key, value) in page.pairs {
                let mut damage = None;
                if key == chain.next_key() {
                    damage = chain.clone().read_records(key.clone(), value.clone()).err();
                } else if sought == Sought::Known {
                    self.refuse_if_overtaken(chain)?;
                    damage = Some(chain.missing());
                }
                let is_whole = chain.place(&key, &value);
                if !is_whole && damage.is_none() {
                    damage = Some(chain.damage(key.clone(), "it is no entry".into()));
                }
                sought = if is_whole { Sought::Known } else { Sought::Any };
                let mut flow = match &damage {
                    Some(damage) => take(Err(damage))?,
                    None => ControlFlow::Continue(()),
                };
                if is_whole && flow.is_continue() {
                    let batch = chain.read_records(key, value)?;
                    flow = take(Ok(piece_of(chain, &batch)))?;
                }
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        match sought == Sought::Known && chain.rest().is_some() && self.head.is_ok() {
            true => take(Err(&chain.missing())),
            false => Ok(ControlFlow::Continue(())),
        }
    }

    fn page(&mut self, range: &Range) -> anyhow::Result<Page> {
        let read =
            |client: &mut Client<T>| client.range(range, MOST_BATCHES, Freshness::Current, TIME);
        insist(&mut self.client, read)
    }

    /// Fails if the next entry is not there because a newer snapshot replaces it: the head or the pointer said so before it
    /// was deleted.
    fn refuse_if_overtaken(&mut self, chain: &Chain<'_>) -> anyhow::Result<()> {
        let gets = [self.keys.head(), self.keys.snapshot()].map(Op::Get).to_vec();
        let both = Txn::new(Condition::Always, gets, Vec::new());
        let found = insist(&mut self.client, |client| client.txn(&both, TIME))?.found;
        let [head, pointer] = [&found[0], &found[1]];
        let is_overtaken = match chain.pointer() {
            Some(before) => {
                let now = pointer.as_ref().and_then(|value| Pointer::parse(value).ok());
                now.is_some_and(|now| now != *before)
            }
            None => {
                let now = head.as_ref().and_then(|value| Head::parse(value).ok());
                let before = self.head().map_or(0, |head| head.first_log_lsn);
                now.is_some_and(|now| now.first_log_lsn > chain.tail().next_lsn.max(before))
            }
        };
        anyhow::ensure!(!is_overtaken, Overtaken);
        Ok(())
    }
}

/// Whether a reader that goes on after damage knows where the next entry has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sought {
    /// At the chain's next key.
    Known,
    /// Anywhere.
    Any,
}

/// What is wrong if the log begins after what its snapshot covers.
fn gap_before(chain: &Chain<'_>, head: &Head) -> Option<Damage> {
    let key = chain.keys().snapshot();
    let what = format!("the log begins with LSN {}, after what it covers", head.first_log_lsn);
    (chain.tail().next_lsn < head.first_log_lsn).then(|| chain.damage(key, what))
}

fn piece_of<'a>(chain: &'a Chain<'_>, batch: &'a Batch) -> Piece<'a> {
    match chain.pointer() {
        Some(pointer) => Piece::Snapshot(pointer, batch),
        None => Piece::Log(batch),
    }
}

fn missing(key: String, what: &str) -> Damage {
    Damage { key, lsn: 1, what: what.into() }
}

/// Tries a read until it has an answer, or is refused for good, or for too long.
pub fn insist<T: Transport, R>(
    client: &mut Client<T>,
    mut read: impl FnMut(&mut Client<T>) -> Result<R, Trouble>,
) -> anyhow::Result<R> {
    let began = Instant::now();
    loop {
        match read(client) {
            Ok(done) => return Ok(done),
            Err(trouble @ Trouble::Refused(Refusal::ForGood(_))) => return Err(untold(trouble)),
            Err(trouble) if began.elapsed() > PATIENCE => return Err(untold(trouble)),
            Err(_) => Boottime.rest(Duration::from_millis(50)),
        }
    }
}
