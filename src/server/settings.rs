//! What CONFIG SET may change while the server runs, and what CONFIG GET shows of it.
//!
//! Nothing that was set survives a restart: flags say how a server starts. Several settings are changed together
//! or not at all: all are read before the first is changed, and no change can fail.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Shared, raise_descriptor_limit};
use crate::command::{Events, Text, is, memory_amount, number_between};
use crate::engine::Audience as _;
use crate::metrics::MOST_SLOW;

/// The most clients that `-maxclients` allows.
const MOST_CLIENTS: i64 = 1_000_000;

/// The settings that are the server's own. Others are kept where they are needed.
pub struct Changeable {
    max_clients: AtomicUsize,
    /// Seconds after which a client is closed that asks nothing; 0 is never.
    timeout: AtomicU64,
}

impl Changeable {
    /// At the start.
    pub fn new(max_clients: usize) -> Changeable {
        Changeable { max_clients: max_clients.into(), timeout: 0.into() }
    }

    /// The most clients at the same time.
    pub fn max_clients(&self) -> usize {
        self.max_clients.load(Ordering::Relaxed)
    }

    /// Seconds after which a client is closed that asks nothing; 0 is never.
    pub fn timeout_seconds(&self) -> u64 {
        self.timeout.load(Ordering::Relaxed)
    }
}

/// A setting that can be changed.
struct Setting {
    name: &'static str,
    /// Its value, as CONFIG GET shows it.
    shown: fn(&Shared) -> String,
    /// Reads a new value into the change that it makes, or says why it makes none.
    read: fn(&Shared, &[u8]) -> Result<Change, Text>,
}

type Change = Box<dyn FnOnce(&Shared)>;

const SETTINGS: &[Setting] = &[
    Setting {
        name: "auto-aof-rewrite-min-size",
        shown: |shared| shared.engine.compaction_policy().map_or(0, |policy| policy.1).to_string(),
        read: |shared, value| {
            shared.engine.compaction_policy().ok_or(NO_LOG)?;
            let bytes = memory_amount(value)?;
            Ok(Box::new(move |shared| {
                let percent = shared.engine.compaction_policy().map_or(0, |policy| policy.0);
                shared.engine.set_compaction_policy(percent, bytes);
            }))
        },
    },
    Setting {
        name: "auto-aof-rewrite-percentage",
        shown: |shared| shared.engine.compaction_policy().map_or(0, |policy| policy.0).to_string(),
        read: |shared, value| {
            shared.engine.compaction_policy().ok_or(NO_LOG)?;
            let percent = number_between(value, 0, i64::from(i32::MAX))? as u64;
            Ok(Box::new(move |shared| {
                let bytes = shared.engine.compaction_policy().map_or(0, |policy| policy.1);
                shared.engine.set_compaction_policy(percent, bytes);
            }))
        },
    },
    Setting { name: "busy-reply-threshold", shown: busy_after, read: read_busy_after },
    Setting {
        name: "latency-monitor-threshold",
        shown: |shared| shared.metrics.slow.latency_millis().to_string(),
        read: |_, value| {
            let millis = number_between(value, 0, i64::MAX)?;
            Ok(Box::new(move |shared| shared.metrics.slow.set_latency_millis(millis)))
        },
    },
    Setting {
        name: "loglevel",
        shown: |_| shown_level().to_owned(),
        read: |_, value| {
            let level = LEVELS.iter().find(|(name, _)| is(value, name));
            let (_, level) = *level.ok_or_else(|| {
                let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
                Text::from(format!(
                    "argument(s) must be one of the following: {}",
                    names.join(", ")
                ))
            })?;
            Ok(Box::new(move |_| log::set_max_level(level)))
        },
    },
    // The name until Redis 7.
    Setting { name: "lua-time-limit", shown: busy_after, read: read_busy_after },
    Setting {
        name: "maxclients",
        shown: |shared| shared.settings.changeable.max_clients().to_string(),
        read: |_, value| {
            let wanted = number_between(value, 1, MOST_CLIENTS)? as usize;
            let possible = raise_descriptor_limit(wanted);
            if possible < wanted {
                return Err(format!(
                    "The operating system is not able to handle the specified number of clients, try with {possible}"
                )
                .into());
            }
            Ok(Box::new(move |shared| {
                shared.settings.changeable.max_clients.store(wanted, Ordering::Relaxed);
            }))
        },
    },
    Setting {
        name: "maxmemory",
        shown: |shared| shared.engine.max_memory().unwrap_or(0).to_string(),
        read: |_, value| {
            let bytes = usize::try_from(memory_amount(value)?).unwrap_or(usize::MAX);
            Ok(Box::new(move |shared| shared.engine.set_max_memory(bytes)))
        },
    },
    Setting {
        name: "notify-keyspace-events",
        shown: |shared| shared.hub.events().letters(),
        read: |_, value| {
            let unknown = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
            let events = Events::of(value).ok_or(unknown)?;
            Ok(Box::new(move |shared| shared.hub.set_events(events)))
        },
    },
    Setting {
        name: "requirepass",
        // Redis shows it to those who have given it. Here it is not shown to anyone.
        shown: |shared| {
            if shared.settings.accounts.has_password() { "(hidden)" } else { "" }.to_owned()
        },
        read: |_, value| {
            let password = (!value.is_empty()).then(|| value.to_vec());
            Ok(Box::new(move |shared| {
                shared.settings.accounts.set_password(password);
                shared.idle.wake();
            }))
        },
    },
    Setting {
        name: "slowlog-log-slower-than",
        shown: |shared| shared.metrics.slow.micros().to_string(),
        read: |_, value| {
            let micros = number_between(value, -1, i64::MAX)?;
            Ok(Box::new(move |shared| shared.metrics.slow.set_micros(micros)))
        },
    },
    Setting {
        name: "slowlog-max-len",
        shown: |shared| shared.metrics.slow.most().to_string(),
        read: |_, value| {
            let most = number_between(value, 0, MOST_SLOW as i64)? as usize;
            Ok(Box::new(move |shared| shared.metrics.slow.set_most(most)))
        },
    },
    Setting {
        name: "timeout",
        shown: |shared| shared.settings.changeable.timeout_seconds().to_string(),
        read: |_, value| {
            let seconds = number_between(value, 0, i64::from(i32::MAX))? as u64;
            Ok(Box::new(move |shared| {
                shared.settings.changeable.timeout.store(seconds, Ordering::Relaxed);
                shared.idle.wake();
            }))
        },
    },
    Setting {
        name: "tracking-table-max-keys",
        shown: |shared| match shared.hub.tracking.most_keys() {
            usize::MAX => "0".to_owned(),
            most => most.to_string(),
        },
        read: |_, value| {
            let most = number_between(value, 0, i64::MAX)? as usize;
            Ok(Box::new(move |shared| shared.hub.set_tracked_keys(most)))
        },
    },
];

fn busy_after(shared: &Shared) -> String {
    shared.scripts.busy_after_millis().to_string()
}

fn read_busy_after(_: &Shared, value: &[u8]) -> Result<Change, Text> {
    let millis = number_between(value, 0, i64::from(i32::MAX))? as u64;
    Ok(Box::new(move |shared| shared.scripts.set_busy_after_millis(millis)))
}

const NO_LOG: &str = "there is no log, so there is nothing to compact";

const LEVELS: [(&str, log::LevelFilter); 5] = [
    ("debug", log::LevelFilter::Trace),
    ("verbose", log::LevelFilter::Debug),
    ("notice", log::LevelFilter::Info),
    ("warning", log::LevelFilter::Warn),
    ("nothing", log::LevelFilter::Off),
];

fn shown_level() -> &'static str {
    let now = log::max_level();
    let level = LEVELS.iter().find(|(_, level)| *level <= now);
    level.map_or("nothing", |(name, _)| name)
}

impl Shared {
    /// The settings that CONFIG GET can show, in the order of their names.
    pub fn shown_settings(&self) -> Vec<(&'static str, String)> {
        let fixed = self.settings.shown.iter().cloned();
        let ports = [("port", "tcp"), ("tls-port", "tls")];
        let ports = ports.map(|(name, kind)| (name, self.port_of(kind).to_string()));
        let changeable = SETTINGS.iter().map(|setting| (setting.name, (setting.shown)(self)));
        let mut shown: Vec<_> = fixed.chain(ports).chain(changeable).collect();
        shown.sort_unstable();
        shown
    }

    /// Changes settings, given as names and values: all of them, or none if one cannot be changed.
    pub fn change_settings(&self, pairs: &[[&[u8]; 2]]) -> Result<(), Text> {
        let mut changes: Vec<(&str, Change)> = Vec::new();
        for [name, value] in pairs {
            let (name, change) = self.read_change(name, value)?;
            if changes.iter().any(|(other, _)| *other == name) {
                return Err(failed(name, "duplicate parameter"));
            }
            changes.push((name, change));
        }
        changes.into_iter().for_each(|(_, change)| change(self));
        Ok(())
    }

    fn read_change(&self, name: &[u8], value: &[u8]) -> Result<(&'static str, Change), Text> {
        if let Some(setting) = SETTINGS.iter().find(|setting| is(name, setting.name)) {
            let change = (setting.read)(self, value).map_err(|why| failed(setting.name, &why))?;
            return Ok((setting.name, change));
        }
        let known = self.shown_settings().into_iter().find(|(known, _)| is(name, known));
        match known {
            // Nothing changes, so this is not refused: many set up a server without looking at it.
            Some((name, shown)) if shown.as_bytes() == value => Ok((name, Box::new(|_| {}))),
            Some((name, _)) => Err(failed(name, "can't set immutable config")),
            None => Err(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                String::from_utf8_lossy(&name[..name.len().min(128)])
            )
            .into()),
        }
    }
}

fn failed(name: &str, why: &str) -> Text {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}").into()
}
