//! What idle connections cost in memory: each asks once and then stays silent.

use std::iter;
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use crate::clients::{ask, connect};
use crate::report::Table;
use crate::server::{Program, Server};

pub fn compare(programs: &[Program], count: usize) -> Result<String> {
    ensure!(count > 0, "--idle needs connections");
    let mut table = Table::new("idle,server,KiB before,KiB with them,KiB each");
    for program in programs {
        let home = program.new_home()?;
        let server = program.start(&home)?;
        let before = server.resident_kib()?;
        let connections = open(&server, count).with_context(|| program.name.clone())?;
        let after = server.resident_kib()?;
        drop(connections);
        server.stop()?;

        let each = (after as f64 - before as f64) / count as f64;
        let name = &program.name;
        table.push(&format!("{count} connections,{name},{before},{after},{each:.2}"));
    }
    Ok(table.to_string())
}

/// Each connection has had an answer, so the server has surely accepted it.
fn open(server: &Server, count: usize) -> Result<Vec<TcpStream>> {
    let connections = iter::repeat_with(|| {
        let mut stream = connect(server.port)?;
        ask(&mut stream, &server.program.requests.ping)?;
        Ok(stream)
    });
    connections.take(count).collect()
}
