//! Work beside the commits: `compaction` keeps the log short, `expirer` removes expired keys.
//!
//! Each is one thread on the engine's public face ([`Handle`]): it reads the store, submits like a client, and
//! has the committer do errands with the log. No client waits for it, and the engine works without it.
//!
//! [`Handle`]: crate::engine::Handle

mod compaction;
mod expirer;
mod space;
mod walk;

use std::sync::Arc;

use anyhow::Context;

use crate::engine::Engine;
use crate::sync::spawn_vital;
use compaction::Compaction;
use expirer::Expirer;

pub use compaction::Policy;

/// Starts both threads, or only the expirer if there is no log. The engine stops them before it closes.
pub fn start(engine: &Engine, policy: Policy) -> anyhow::Result<()> {
    let expirer = Arc::new(Expirer::new(engine.handle()));
    let runs = expirer.clone();
    spawn(engine, "expirer", move || runs.run(), move || expirer.stop())?;
    if let Some(compaction) = Compaction::new(engine.handle(), policy) {
        let compaction = Arc::new(compaction);
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
