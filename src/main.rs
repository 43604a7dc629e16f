//! The program: flags, messages, open, bind, serve, exit code.
//!
//! Exit code 0 after an ordered stop, 1 if the server could not start or could not close its log,
//! 2 for wrong flags, 130 if it was told twice to stop. The tools have their own, see
//! [`post_gres_rs::tools`].

use std::process::ExitCode;
use std::sync::Arc;

#[cfg(feature = "systemd")]
use anyhow::Context;
use log::LevelFilter;

use post_gres_rs::commands;
use post_gres_rs::config::Config;
use post_gres_rs::doors::Doors;
use post_gres_rs::engine::{self, Engine, NotCompacted};
#[cfg(feature = "http")]
use post_gres_rs::http::Http;
use post_gres_rs::messages;
use post_gres_rs::metrics::Metrics;
#[cfg(feature = "replicated")]
use post_gres_rs::replicated;
use post_gres_rs::server::{Server, Shutdown, Wish};
use post_gres_rs::store;
#[cfg(feature = "systemd")]
use post_gres_rs::systemd;
use post_gres_rs::tools;
use post_gres_rs::upkeep;
use post_gres_rs::wal::disk::{Disk, SystemDisk};

fn main() -> ExitCode {
    let config = Config::from_args();
    // A tool answers on stdout; messages on the way are of interest only if something is wrong.
    let level = if config.is_served() { LevelFilter::Info } else { LevelFilter::Warn };
    if let Err(error) = messages::start(level, config.message_form()) {
        eprintln!("post-gres-rs: cannot start the messages thread: {error}");
        return ExitCode::FAILURE;
    }
    let code = match (Shutdown::survive_signals(), config.tool()) {
        (Err(error), _) => fail(&error),
        (Ok(()), _) if config.is_checked() => config.check(),
        (Ok(()), Some(tool)) => tools::run(tool),
        (Ok(()), None) => serve(&config).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS),
    };
    log::logger().flush();
    code
}

fn fail(error: &anyhow::Error) -> ExitCode {
    log::error!("{error:#}");
    ExitCode::FAILURE
}

fn serve(config: &Config) -> anyhow::Result<()> {
    log::info!("post-gres-rs {} starts, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    log::info!("{}", config.summary());
    config.warnings().iter().for_each(|warning| log::warn!("{warning}"));
    if let Some(warning) = config.what_can_be_lost() {
        log::warn!("{warning}");
    }
    let metrics = Arc::new(Metrics::new(commands::command_names()));
    config.begin_slow_log(&metrics.slow);
    metrics.slow.messages.find_keys_by(commands::first_key);
    let (shards, capacity) = config.store();
    let store = store::new(shards, capacity);
    #[cfg(feature = "replicated")]
    if let Some((options, access)) = config.replicated()? {
        return serve_replicated(config, &options, &access, store, metrics);
    }
    let mut settings = config.server()?;
    #[cfg(feature = "http")]
    let looking = config.http(&settings)?;

    // The lock before the port, the port before the log: a second server on the same log learns
    // of the first, and one whose port is in use has changed nothing. A start that fails removes the
    // lock file, if it made one. A signal before the server listens ends the process at once, and
    // loses nothing.
    let mut options = config.wal()?;
    let lock = match &mut options {
        Some(options) => {
            let lock = engine::lock(&options.path, config.may_make_directory())?;
            options.lock = Some(lock.clone());
            Some(lock)
        }
        None => None,
    };
    let doors = config.doors(&mut settings.reloads)?;
    #[cfg(feature = "http")]
    let http = looking.map(Http::start).transpose()?;
    let engine_options = config.engine();
    let engine = match options {
        Some(options) => {
            let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
            tools::import::run(&disk, &options)?;
            Engine::open(disk, options, &engine_options, store, metrics.clone())?
        }
        None => Engine::in_memory(store, metrics.clone(), &engine_options)?,
    };
    if let Some(lock) = &lock {
        lock.keep()?;
    }
    upkeep::start(&engine, config.compaction())?;
    let engine = Arc::new(engine);
    let server = Arc::new(Server::new(engine.clone(), metrics, settings)?);
    #[cfg(feature = "http")]
    http.iter().for_each(|http| http.show(server.watch()));
    run(&server, doors, &engine)
}

/// Serves over a log in an etcd cluster, which several servers write in turn.
#[cfg(feature = "replicated")]
fn serve_replicated(
    config: &Config,
    options: &replicated::Options,
    access: &replicated::Access,
    store: Box<dyn store::Store>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let mut settings = config.server()?;
    #[cfg(feature = "http")]
    let looking = config.http(&settings)?;
    let doors = config.doors(&mut settings.reloads)?;
    #[cfg(feature = "http")]
    let http = looking.map(Http::start).transpose()?;
    let opened = replicated::open_at(options, access, &config.engine(), store, metrics.clone())?;
    settings.nodes = Some(opened.nodes());
    let (engine, snapshots) = (opened.engine.clone(), opened.snapshots());
    upkeep::start_with(&engine, config.compaction(), Some(snapshots))?;
    let server = Arc::new(Server::new(engine.clone(), metrics, settings)?);
    #[cfg(feature = "http")]
    http.iter().for_each(|http| http.show(server.watch()));
    opened.run(Box::new(server.heed(&options.url.name)))?;
    run(&server, doors, &engine)
}

/// Serves until it is told to stop, then closes the log.
fn run(server: &Arc<Server>, doors: Doors, engine: &Arc<Engine>) -> anyhow::Result<()> {
    let shutdown = Shutdown::new()?;
    // Weak, because the thread that waits for signals outlives both.
    let (compacting, reloading) = (Arc::downgrade(engine), Arc::downgrade(server));
    shutdown.on_signals(move |wish| match wish {
        Wish::Compact => compacting.upgrade().iter().for_each(compact),
        Wish::Reload => reloading.upgrade().iter().for_each(|server| server.reload()),
    })?;
    server.open(&doors)?;
    #[cfg(feature = "systemd")]
    systemd::serving(engine).context("cannot start the watchdog thread")?;
    server.run(doors, &shutdown, || {
        #[cfg(feature = "systemd")]
        systemd::stopping();
    })?;
    anyhow::ensure!(engine.close(), "the log was not closed in order; see above");
    log::info!("stopped");
    Ok(())
}

fn compact(engine: &Arc<Engine>) {
    match engine.compact() {
        Err(NotCompacted::Closed(why)) => log::error!("the log is not compacted: {why}"),
        Err(NotCompacted::NoLog | NotCompacted::Running) | Ok(()) => {}
    }
}
