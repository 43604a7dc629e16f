//! What a load is: groups of clients, each doing one kind of work, all at the same time.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

/// One line of the comparison, or two: in `readers`, the writers are a group of their own.
#[derive(Clone)]
pub struct Load {
    pub groups: Vec<Group>,
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
#[derive(Clone, Copy)]
pub enum Work {
    Set,
    Get,
    /// Not for long runs, since deleted keys are gone; `--memory` asks for it.
    Del,
    /// SET and GET in turn.
    Mixed,
}

impl Load {
    /// Whether every key must be there before the load begins.
    pub fn reads(&self) -> bool {
        self.groups.iter().any(|group| matches!(group.work, Work::Get | Work::Mixed))
    }
}

impl FromStr for Load {
    type Err = Error;

    fn from_str(text: &str) -> Result<Load> {
        let words: Vec<&str> = text.split(':').collect();
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
            "del" => vec![group(text, Work::Del, first, second)],
            "mixed" => vec![group(text, Work::Mixed, first, second)],
            "readers" => {
                let writers = format!("{text} writers");
                vec![group(text, Work::Get, first, 1), group(&writers, Work::Set, second, 1)]
            }
            _ => bail!("expected set, get, mixed or readers, not {kind}"),
        };
        Ok(Load { groups })
    }
}
