//! MEMORY, about the server as a whole. (MEMORY USAGE is about a key, and is in `keys`.)
//!
//! The numbers are those of INFO, so that there is one place that knows them.

use crate::command::{Client, Reply, Text, Words};

type Said = Result<Reply<'static>, Text>;

/// A process with less is too small to say anything about: Redis's 5 MB.
const SMALL: i64 = 5 << 20;

/// Fields of INFO by their names in MEMORY STATS.
const FIELDS: &[(&str, &str)] = &[
    ("peak.allocated", "used_memory_peak"),
    ("total.allocated", "used_memory"),
    ("clients.normal", "mem_clients_normal"),
    ("aof.buffer", "mem_aof_buffer"),
    ("overhead.total", "used_memory_overhead"),
    ("dataset.bytes", "used_memory_dataset"),
    ("allocator.resident", "used_memory_rss"),
];

pub fn stats(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let info = client.info(&["memory".to_owned(), "keyspace".to_owned()]);
    let mut shown = Vec::new();
    for (name, field) in FIELDS {
        shown.push(Reply::Bulk(name.as_bytes().into()));
        shown.push(Reply::Integer(number_in(&info, field)));
    }
    let keys = keys_in(&info);
    let each = number_in(&info, "used_memory").checked_div(keys).unwrap_or(0);
    for (name, number) in [("keys.count", keys), ("keys.bytes-per-key", each)] {
        shown.push(Reply::Bulk(name.as_bytes().into()));
        shown.push(Reply::Integer(number));
    }
    Ok(Reply::Map(shown))
}

pub fn doctor(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let info = client.info(&["memory".to_owned()]);
    let field = |name| number_in(&info, name);
    let (used, resident, most) =
        (field("used_memory"), field("used_memory_rss"), field("maxmemory"));
    let text = match () {
        () if resident < SMALL => "The process is too small to say anything about its memory.",
        () if most > 0 && used > most / 10 * 9 => {
            "Keys and values take up more than nine tenths of maxmemory; above it, writes are refused."
        }
        () if resident > SMALL + used.saturating_mul(3) => {
            "The process takes up more than three times what its keys and values do. That may be what clients have \
             sent or not read (INFO memory), or memory that was used and not given back to the system yet."
        }
        () => "Nothing is conspicuous about the memory of this process.",
    };
    Ok(Reply::text(text.to_owned()))
}

/// As in Redis with this allocator: it gives memory back by itself.
pub fn purge(_: &Words<'_>) -> Said {
    Ok(Reply::Ok)
}

pub fn malloc_stats(_: &Words<'_>) -> Said {
    Ok(Reply::text("Stats not supported for the current allocator".to_owned()))
}

fn number_in(info: &str, field: &str) -> i64 {
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The keys of all databases.
fn keys_in(info: &str) -> i64 {
    let of_line = |line: &str| -> Option<i64> {
        line.strip_prefix("db")?.split_once("keys=")?.1.split(',').next()?.parse().ok()
    };
    info.lines().filter_map(of_line).sum()
}
