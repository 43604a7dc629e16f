//! What keys cost in memory: VmRSS with them, less that of the empty server, over the keys; and
//! the same, still over all of them, when nine in ten have been deleted.
//!
//! While the keys are stored, the longest time that any request took is noted: a server that stops
//! to grow its table, or to fork, shows it here. Compactions start by themselves as they would for
//! any user; memory is read when none is running.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::clients::drive;
use crate::protocol::expect_success;
use crate::report::{Table, median, spread};
use crate::server::{Program, Server};

/// Enough clients and pipeline to fill fast, and few enough requests under way that a pause of the
/// server is longer than their usual wait.
const FILL: &str = "set:8:16";
const DELETE: &str = "del:8:16";
/// One key in this many stays, so that the survivors lie all over the allocator's pages.
const ONE_STAYS_OF: u64 = 10;
/// How long the server may give memory back before it is looked at again.
const AFTER_DELETE: Duration = Duration::from_secs(1);

/// One round with one server. Bytes are per key that was stored.
struct Round {
    empty_mib: f64,
    full_mib: f64,
    bytes_full: f64,
    bytes_after_delete: f64,
    longest_millis: f64,
    keys_per_second: f64,
}

pub fn compare(options: &Options, programs: &[Program], keys: u64) -> Result<String> {
    let mut rounds: Vec<Vec<Round>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (program, rounds) in programs.iter().zip(&mut rounds) {
            let round = measure(program, keys).with_context(|| program.name.clone())?;
            eprintln!(
                "{}: {:.1} bytes/key, {:.1} after DEL, longest {:.1} ms",
                program.name, round.bytes_full, round.bytes_after_delete, round.longest_millis
            );
            rounds.push(round);
        }
    }

    let mut table = Table::new(
        "memory,server,empty MiB,full MiB,bytes/key,90 % deleted bytes/key,longest ms,keys/s",
    );
    for (program, rounds) in programs.iter().zip(&rounds) {
        let all = |number: fn(&Round) -> f64| rounds.iter().map(number).collect::<Vec<f64>>();
        table.push(&format!(
            "{keys} keys,{},{:.1},{:.1},{},{},{},{:.0}",
            program.name,
            median(all(|round| round.empty_mib)),
            median(all(|round| round.full_mib)),
            spread(&all(|round| round.bytes_full)),
            spread(&all(|round| round.bytes_after_delete)),
            spread(&all(|round| round.longest_millis)),
            median(all(|round| round.keys_per_second)),
        ));
    }
    Ok(format!(
        "{table}\nMedians over {} rounds, in parentheses the least and the most.\n",
        options.rounds
    ))
}

fn measure(program: &Program, keys: u64) -> Result<Round> {
    let home = program.new_home()?;
    let server = program.start(&home)?;
    let empty = resident_bytes(&server)?;
    let filled = drive(&server, &FILL.parse()?, 0..keys, Duration::MAX)?;
    server.wait_for_compactions()?;
    let full = resident_bytes(&server)?;

    let goes = |key: &u64| !key.is_multiple_of(ONE_STAYS_OF);
    drive(&server, &DELETE.parse()?, (0..keys).filter(goes), Duration::MAX)?;
    ensure!(knows(&server, 0)? && !knows(&server, 1)?, "the wrong keys were deleted");
    thread::sleep(AFTER_DELETE);
    server.wait_for_compactions()?;
    let after_delete = resident_bytes(&server)?;
    server.stop()?;

    let mib = |bytes: f64| bytes / (1024.0 * 1024.0);
    Ok(Round {
        empty_mib: mib(empty),
        full_mib: mib(full),
        bytes_full: (full - empty) / keys as f64,
        bytes_after_delete: (after_delete - empty) / keys as f64,
        longest_millis: filled.latencies[0].max() as f64 / 1e6,
        keys_per_second: keys as f64 / filled.elapsed.as_secs_f64(),
    })
}

fn knows(server: &Server, key: u64) -> Result<bool> {
    let mut request = Vec::new();
    server.program.requests.get.append_to(&mut request, key);
    Ok(expect_success(&server.ask(&request)?).is_ok())
}

fn resident_bytes(server: &Server) -> Result<f64> {
    Ok(server.resident_kib()? as f64 * 1024.0)
}
