//! What a server and its children have in memory together. A child that was forked shares its pages
//! with the parent until one of them writes; Pss counts a page shared by two as half in each, so
//! that the sum counts it once.

use std::fs;

use anyhow::{Context, Result};

use crate::server::number_after;

/// Pss of a process and of its children.
pub fn shared_out_kib(process: u32) -> Result<u64> {
    let mut kib = pss_kib(process)?;
    for child in children(process)? {
        // A child that cannot be looked at has ended since it was listed.
        kib += pss_kib(child).unwrap_or(0);
    }
    Ok(kib)
}

fn pss_kib(process: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    number_after(&rollup, "Pss:").context("no Pss in /proc/PID/smaps_rollup")
}

/// The children that any of its threads has forked.
fn children(process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that ends here leaves its children to another, which may have been looked at
        // already: the next sample finds them.
        let Ok(list) = fs::read_to_string(thread?.path().join("children")) else { continue };
        for child in list.split_whitespace() {
            children.push(child.parse()?);
        }
    }
    Ok(children)
}
