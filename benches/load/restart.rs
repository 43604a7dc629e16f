//! How long a start takes that finds many records: from exec to the first answer, the files still
//! in the page cache.

use anyhow::{Context, Result};

use crate::Options;
use crate::clients::store_keys;
use crate::protocol::expect_success;
use crate::report::{Table, ratios, spread};
use crate::server::Program;

pub fn compare(options: &Options, programs: &[Program], records: u64) -> Result<String> {
    let mut homes = Vec::new();
    for program in programs {
        eprintln!("{} stores {records} records", program.name);
        let home = program.new_home()?;
        let server = program.start(&home)?;
        store_keys(&server, records)?;
        server.stop()?;
        homes.push(home);
    }

    let mut seconds = vec![Vec::new(); programs.len()];
    for _ in 0..options.rounds {
        for ((program, home), seconds) in programs.iter().zip(&homes).zip(&mut seconds) {
            let server = program.start(home)?;
            eprintln!("{} answers after {:?}", program.name, server.ready_after);
            seconds.push(server.ready_after.as_secs_f64());
            // A start that lost the data would be a fast one.
            let mut request = Vec::new();
            program.requests.get.append_to(&mut request, records - 1);
            expect_success(&server.ask(&request)?).with_context(|| program.name.clone())?;
            server.stop()?;
        }
    }

    let mut table = Table::new("restart,server,seconds,peer/ours");
    for (i, (program, times)) in programs.iter().zip(&seconds).enumerate() {
        let ratio = match programs[0].is_ours && i > 0 {
            true => ratios(times, &seconds[0]),
            false => "-".to_string(),
        };
        table.push(&format!("{records} records,{},{},{ratio}", program.name, spread(times)));
    }
    Ok(table.to_string())
}
