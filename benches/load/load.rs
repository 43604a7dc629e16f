//! What a load is: groups of clients, each doing one kind of work, all at the same time.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};

/// Precedes, in the text of a load, by how many milliseconds each sync is slowed.
const SLOWED_BY: char = '+';

/// One line of the comparison, or two: in `readers`, the writers are a group of their own.
#[derive(Clone)]
pub struct Load {
    pub groups: Vec<Group>,
    /// By how much each sync is slowed, if the load says so itself.
    pub slowed: Option<Duration>,
}

/// Clients that do the same: each sends a pipeline, waits for its replies, and sends the next.
#[derive(Clone)]
pub struct Group {
    /// The load as it was asked for; for the second group of `readers`, followed by its name.
    pub label: String,
    pub work: Work,
    pub clients: usize,
    pub pipeline: usize,
}

/// What a client asks for, over and over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Set,
    Get,
    /// One MGET of this many keys.
    Mget(usize),
    /// Not for long runs, since deleted keys are gone; `--memory` asks for it.
    Del,
    /// SET and GET in turn.
    Mixed,
}

impl Load {
    /// Whether every key must be there before the load begins.
    pub fn reads(&self) -> bool {
        let reads = |group: &Group| matches!(group.work, Work::Get | Work::Mget(_) | Work::Mixed);
        self.groups.iter().any(reads)
    }

    /// What one of the groups does, as a stranger says it.
    pub fn in_words(&self, group: usize) -> String {
        let (these, verb) = (&self.groups[group], self.groups[group].verb());
        let (clients, ending) = match these.clients {
            1 => ("1 client".to_string(), "s"),
            many => (format!("{many} clients"), ""),
        };
        let does = match these.work {
            Work::Mget(keys) => format!("{verb}{ending} {keys} keys with each MGET"),
            Work::Mixed => format!("{verb}{ending} and read{ending} in turn"),
            Work::Set | Work::Get | Work::Del => format!("{verb}{ending}"),
        };
        let others = self.groups.iter().enumerate().filter(|(other, _)| *other != group);
        let meanwhile =
            others.map(|(_, other)| format!(" while {} {}", other.clients, other.verb()));
        let at_a_time = match these.pipeline {
            1 => String::new(),
            many => format!(", {many} at a time"),
        };
        let slowed = match self.slowed {
            Some(time) => format!(", sync +{} ms", time.as_millis()),
            None => String::new(),
        };
        format!("{clients} {does}{}{at_a_time}{slowed}", meanwhile.collect::<String>())
    }
}

impl Group {
    fn verb(&self) -> &'static str {
        match self.work {
            Work::Set | Work::Mixed => "write",
            Work::Get | Work::Mget(_) => "read",
            Work::Del => "delete",
        }
    }
}

impl FromStr for Load {
    type Err = Error;

    fn from_str(text: &str) -> Result<Load> {
        let (kind_and_numbers, slowed) = match text.split_once(SLOWED_BY) {
            Some((load, slowed)) => (load, Some(parse_millis(slowed)?)),
            None => (text, None),
        };
        let words: Vec<&str> = kind_and_numbers.split(':').collect();
        let [kind, first, second] = words[..] else {
            bail!("expected KIND:NUMBER:NUMBER");
        };
        let first: usize = first.parse().context("the first number")?;
        let second: usize = second.parse().context("the second number")?;
        ensure!(first > 0 && second > 0, "neither number can be 0");

        let group = |label: &str, work, clients, pipeline| {
            let label = label.to_string();
            Group { label, work, clients, pipeline }
        };
        let groups = match kind {
            "set" => vec![group(text, Work::Set, first, second)],
            "get" => vec![group(text, Work::Get, first, second)],
            "mget" => vec![group(text, Work::Mget(second), first, 1)],
            "del" => vec![group(text, Work::Del, first, second)],
            "mixed" => vec![group(text, Work::Mixed, first, second)],
            "readers" => {
                let writers = format!("{text} writers");
                vec![group(text, Work::Get, first, 1), group(&writers, Work::Set, second, 1)]
            }
            _ => bail!("expected set, get, mget, mixed or readers, not {kind}"),
        };
        Ok(Load { groups, slowed })
    }
}

fn parse_millis(text: &str) -> Result<Duration> {
    let number = text.strip_suffix("ms").context("expected +NUMBERms")?;
    Ok(Duration::from_millis(number.parse().context("the milliseconds")?))
}
