//! A log in etcd, in a build without the feature `replicated`: there is none, and its address is refused.

use std::path::Path;

use serde_json::Value;

use super::inspect::{Inspection, Visit};
use super::progress::Amount;
use super::salvage::Take;

/// There is none.
pub enum Address {}

/// There is none.
pub enum Log {}

/// There are none.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Credentials {}

impl Credentials {
    /// There is nothing to refuse.
    pub fn refuse(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Address {
    /// `None`: an address is refused where a path has to be.
    pub fn of(_: &Path, _: &Credentials) -> anyhow::Result<Option<Address>> {
        Ok(None)
    }

    /// Is never called, nor are the others.
    pub fn text(&self) -> &str {
        match *self {}
    }

    /// Is never called.
    pub fn open(&self) -> anyhow::Result<Log> {
        match *self {}
    }
}

/// Reads once.
pub fn until_read<R>(mut read: impl FnMut() -> anyhow::Result<R>) -> anyhow::Result<R> {
    read()
}

/// No error is one.
pub fn is_overtaken(_: &anyhow::Error) -> bool {
    false
}

/// No error is one.
pub fn damage_json(_: &anyhow::Error) -> Option<Value> {
    None
}

impl Log {
    /// Is never called.
    pub fn amount(&self) -> Amount {
        match *self {}
    }

    /// Is never called.
    pub fn covered(&self) -> Option<u64> {
        match *self {}
    }

    /// Is never called.
    pub fn leader(&self) -> Option<(String, Value)> {
        match *self {}
    }

    /// Is never called.
    pub fn walk(&mut self, _: &mut Visit<'_>) -> anyhow::Result<Inspection> {
        match *self {}
    }

    /// Is never called.
    pub fn salvage(&mut self, _: &mut Take<'_>) -> anyhow::Result<()> {
        match *self {}
    }
}
