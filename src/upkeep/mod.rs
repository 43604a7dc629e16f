//! Work beside the commits: `compaction` keeps the log short, `expirer` removes expired keys.
//!
//! Each is one thread on the engine's public face ([`Handle`]): it reads the store, submits like a client, and
//! has the committer do errands with the log. No client waits for it, and the engine works without it.
//!
//! [`Handle`]: crate::engine::Handle

mod compaction;
mod expirer;
mod snapshots;
mod space;
mod walk;

use std::sync::Arc;

use anyhow::Context;

use crate::engine::Engine;
use crate::sync::spawn_vital;
use compaction::Compaction;
use expirer::Expirer;
use space::Space;

pub use compaction::Policy;
pub use snapshots::{Size, Snapshot, Snapshots, Spend};

/// Starts both threads, or only the expirer if there is no log in files. The engine stops them before it closes.
pub fn start(engine: &Engine, policy: Policy) -> anyhow::Result<()> {
    let snapshots =
        engine.files().map(|files| -> Arc<dyn Snapshots> { Arc::new(Space::of(files)) });
    start_with(engine, policy, snapshots)
}

/// The same with snapshots that are kept elsewhere.
pub fn start_with(
    engine: &Engine,
    policy: Policy,
    snapshots: Option<Arc<dyn Snapshots>>,
) -> anyhow::Result<()> {
    let expirer = Arc::new(Expirer::new(engine.handle()));
    let runs = expirer.clone();
    spawn(engine, "expirer", move || runs.run(), move || expirer.stop())?;
    if let Some(snapshots) = snapshots {
        let compaction = Arc::new(Compaction::new(engine.handle(), policy, snapshots));
        let known = Arc::downgrade(&compaction);
        engine.attach(known);
        let runs = compaction.clone();
        spawn(engine, "compactor", move || runs.run(), move || compaction.stop())?;
    }
    Ok(())
}

fn spawn(
    engine: &Engine,
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
    stop: impl FnOnce() + Send + 'static,
) -> anyhow::Result<()> {
    let thread = spawn_vital(name, run);
    let thread = thread.with_context(|| format!("cannot start the {name} thread"))?;
    engine.stop_first(Box::new(move || {
        stop();
        thread.join().expect("its panic ends the process");
    }));
    Ok(())
}
