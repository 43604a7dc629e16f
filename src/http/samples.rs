//! A batch, as the page is told of it.

use serde_json::{Value, json};

use crate::command::CommandId;
use crate::commands;
use crate::metrics::{BatchSeen, Brought, Ending, Leader};

/// The batch in JSON; times in microseconds.
pub fn spelled(batch: &BatchSeen) -> Value {
    let micros = |time: &Option<std::time::Duration>| time.map(|time| time.as_nanos() as f64 / 1e3);
    json!({
        "number": batch.number,
        "at": batch.at.as_secs_f64() * 1e3,
        "leader": match batch.leader { Leader::Committer => "committer", Leader::Client => "client" },
        "clients": batch.clients.iter().map(brought).collect::<Vec<_>>(),
        "clientCount": batch.client_count,
        "operations": batch.operations,
        "records": batch.records,
        "bytes": batch.bytes,
        "steps": batch.steps.iter().map(micros).collect::<Vec<_>>(),
        "ending": match batch.ending {
            Ending::Committed => "committed",
            Ending::NoRoom => "no room",
            Ending::Closed => "closed",
            Ending::Withheld => "withheld",
        },
        "meanwhile": batch.meanwhile,
    })
}

fn brought(brought: &Brought) -> Value {
    let Brought { client, operations, command } = *brought;
    json!([client, operations, command.map(name)])
}

fn name(CommandId(place): CommandId) -> &'static str {
    commands::table().get(place).map_or("?", |spec| spec.name)
}
