//! How long a start with many keys takes: from exec to the first answer that is not
//! `-LOADING`, the files still in the page cache. Each log is started on twice: plain, as the keys were
//! written one by one, and compacted. Neither server compacts on its own here.
//!
//! Memory after the start is beside it: the most it took (VmHWM) and what stays (VmRSS), less what
//! the empty server had, over the keys.

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::Options;
use crate::clients::store_keys;
use crate::disk::allocated_bytes;
use crate::protocol::expect_success;
use crate::report::{Table, median, ratios, spread};
use crate::server::Program;

/// One of the servers with its files.
struct Contender<'a> {
    program: &'a Program<'a>,
    home: TempDir,
    keys: u64,
    empty_kib: u64,
}

/// One start.
struct Start {
    millis: f64,
    /// Bytes per key.
    peak: f64,
    resident: f64,
}

pub fn compare(options: &Options, programs: &[Program]) -> Result<String> {
    let mut table = Table::new(
        "restart,server,log MiB,ready after ms,peak bytes/key,resident bytes/key,peer/ours ms",
    );
    for &keys in &options.restart {
        let fill = programs.iter().map(|program| Contender::fill(program, keys));
        let contenders: Vec<Contender> = fill.collect::<Result<_>>()?;
        race(options, &contenders, "plain", &mut table)?;
        contenders.iter().try_for_each(Contender::compact)?;
        race(options, &contenders, "compacted", &mut table)?;
    }
    Ok(format!(
        "{table}\nMedians over {} rounds, in parentheses the least and the most.\n",
        options.rounds
    ))
}

/// Starts every server in turn, round by round, and adds a row for each.
fn race(options: &Options, contenders: &[Contender], log: &str, table: &mut Table) -> Result<()> {
    let mut starts: Vec<Vec<Start>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (contender, starts) in contenders.iter().zip(&mut starts) {
            let name = &contender.program.name;
            let start = contender.start().with_context(|| name.clone())?;
            eprintln!("{name} answers after {:.1} ms, log {log}", start.millis);
            starts.push(start);
        }
    }

    let millis = |starts: &Vec<Start>| starts.iter().map(|start| start.millis).collect();
    let millis: Vec<Vec<f64>> = starts.iter().map(millis).collect();
    for (i, (contender, starts)) in contenders.iter().zip(&starts).enumerate() {
        let ratio = match contenders[0].program.is_ours && i > 0 {
            true => spread(&ratios(&millis[i], &millis[0])),
            false => "-".to_string(),
        };
        table.push(&format!(
            "{} keys {log},{},{:.1},{},{:.1},{:.1},{ratio}",
            contender.keys,
            contender.program.name,
            allocated_bytes(contender.home.path())? as f64 / (1024.0 * 1024.0),
            spread(&millis[i]),
            median(starts.iter().map(|start| start.peak)),
            median(starts.iter().map(|start| start.resident)),
        ));
    }
    Ok(())
}

impl<'a> Contender<'a> {
    fn fill(program: &'a Program<'a>, keys: u64) -> Result<Contender<'a>> {
        eprintln!("{} stores {keys} keys", program.name);
        let home = program.new_home()?;
        let server = program.start(&home)?;
        let empty_kib = server.resident_kib()?;
        store_keys(&server, keys)?;
        server.stop()?;
        Ok(Contender { program, home, keys, empty_kib })
    }

    fn compact(&self) -> Result<()> {
        let server = self.program.start(&self.home)?;
        let took = server.compact().with_context(|| self.program.name.clone())?;
        eprintln!("{} compacts its log in {took:?}", self.program.name);
        server.stop()
    }

    fn start(&self) -> Result<Start> {
        let server = self.program.start(&self.home)?;
        let per_key = |kib: u64| (kib as f64 - self.empty_kib as f64) * 1024.0 / self.keys as f64;
        let start = Start {
            millis: server.ready_after.as_secs_f64() * 1e3,
            peak: per_key(server.peak_kib()?),
            resident: per_key(server.resident_kib()?),
        };
        // A start that lost the data would be a fast one.
        let mut request = Vec::new();
        self.program.requests.get.append_to(&mut request, self.keys - 1);
        expect_success(&server.ask(&request)?)?;
        server.stop()?;
        Ok(start)
    }
}
