//! `config check`: whether a server would take these settings, without touching any data.
//!
//! It goes through what a start does before it binds and opens: all flags with their values, the files that they name,
//! the directory of the log. It does not look into the log, which the tool `check` does, and takes no
//! lock, so it may be used beside a running server.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use rustix::fs::{Access, access};

use super::Config;
use super::shown::{value, whence};
use super::sources::CHECKER;
use crate::wal;
use crate::wal::place::{check_directory, directory_of};

/// Its second word.
const CHECK: &str = "check";

const HELP: &str = "\
Example: post-gres-rs config check -config /etc/post-gres-rs.conf

Exit code 0: a server would take these settings. 1: it would not, because of the environment, the file, or what they name.
2: there is a mistake on the command line.";

/// Adds it to the tools.
pub fn add_to(command: Command) -> Command {
    let server = Config::command();
    let flags = server.get_arguments().filter(|arg| !arg.is_global_set()).cloned();
    let check = Command::new(CHECK)
        .about("Reads all flags from everywhere, and says whether a server would take them")
        .after_help(HELP)
        .args(flags)
        .groups(server.get_groups().cloned());
    let config = Command::new(CHECKER)
        .about("Checks the server's settings; changes nothing")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(check);
    command.subcommand(config)
}

/// Prints the settings, and their mistakes on stderr.
pub fn run(config: &Config) -> ExitCode {
    // A reader that has gone wants the exit code alone.
    let _ = print(config, &mut io::stdout().lock());
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    let problems = problems(config);
    for problem in &problems {
        eprintln!("post-gres-rs config check: {problem:#}");
    }
    match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn print(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<[String; 3]> = config
        .settings
        .iter()
        .map(|setting| [format!("-{}", setting.name), value(setting), whence(&setting.source)])
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let (flags, values) = (width(0).unwrap_or(0), width(1).unwrap_or(0).min(WIDEST));
    for [flag, value, source] in &rows {
        writeln!(out, "{flag:flags$}  {value:values$}  {source}")?;
    }
    out.flush()
}

/// Longer values push their source to the right, and not that of all.
const WIDEST: usize = 40;

/// The mistakes that a start would refuse.
fn problems(config: &Config) -> Vec<anyhow::Error> {
    let mut found = Vec::new();
    #[cfg(feature = "replicated")]
    let is_in_files = match config.replicated() {
        Ok(replicated) => replicated.is_none(),
        Err(error) => {
            found.push(error);
            false
        }
    };
    #[cfg(not(feature = "replicated"))]
    let is_in_files = true;
    found.extend(config.doors.check().err());
    match config.server() {
        Err(error) => found.push(error),
        #[cfg(feature = "http")]
        Ok(settings) => found.extend(config.http(&settings).err()),
        #[cfg(not(feature = "http"))]
        Ok(_) => {}
    }
    if is_in_files {
        found.extend(log(config).err());
    }
    found
}

/// Whether a log could be where it is said to be.
fn log(config: &Config) -> anyhow::Result<()> {
    let Some(wal::Options { path, .. }) = config.wal()? else { return Ok(()) };
    let mut directory = directory_of(&path);
    if config.may_make_directory() && !directory.exists() {
        directory = directory_of(directory);
    }
    check_directory(directory)?;
    may(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    match path.exists() {
        true => may(&path, Access::READ_OK | Access::WRITE_OK),
        false => Ok(()),
    }
}

fn may(path: &Path, what: Access) -> anyhow::Result<()> {
    access(path, what).with_context(|| {
        let user = rustix::process::geteuid().as_raw();
        format!("{}: user {user} may not write here, and a server has to", path.display())
    })
}
