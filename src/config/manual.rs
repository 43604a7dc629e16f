//! The manual pages and the completions for shells, from the flags themselves: `post-gres-rs manual` prints the page of
//! the server, `manual DIRECTORY` writes it and those of the tools there, `completions bash` prints completions. Packages
//! install these.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{full_command, with_one_dash};

const MANUAL: &str = "manual";
const COMPLETIONS: &str = "completions";

/// The sections of the page that the flags alone do not give, as troff.
const MORE: &str = r#".SH ENVIRONMENT
Each flag is also taken from the environment, as
.BR POST_GRES_RS_ ,
its name in capitals, and underscores for dashes; and from the file at
.BR \-config .
The command line comes before the environment, and that before the file.
.TP
.B POST_GRES_RS_PASSWORD
The password of all clients, if \-requirepass\-file is not given.
.TP
.B RUST_LOG
Which messages are shown: error, warn, info, debug, trace.
.SH SIGNALS
.TP
.B SIGTERM, SIGINT
Stop in order. A second one, a second later or more, ends the process at once; no acknowledged write is lost.
.TP
.B SIGHUP
Read passwords, users and certificates anew.
.TP
.B SIGUSR1
Compact the log.
.SH EXIT STATUS
0 after an ordered stop, 1 if the server could not start or could not close its log, 2 for wrong flags, 130 if it was told
twice to stop.
.SH FILES
.TP
.I ./wal_files/wal_file
The log, where \-wal does not name another. Its other files are beside it; they belong together.
"#;

/// Prints the manual page, or the completions, if the arguments ask for one of them, and returns the exit code. Other
/// arguments are for others.
pub fn asked_for(args: &[OsString]) -> Option<i32> {
    let first = args.get(1)?.to_str()?;
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell));
    let directory = Arg::new("directory").value_parser(value_parser!(PathBuf));
    let parser = match first {
        MANUAL => Command::new(MANUAL).arg(directory),
        COMPLETIONS => Command::new(COMPLETIONS).arg(shell),
        _ => return None,
    };
    let parser = parser.bin_name(format!("post-gres-rs {first}"));
    let asked = parser.try_get_matches_from(&args[1..]).unwrap_or_else(|error| error.exit());
    let text = match first {
        MANUAL => match asked.get_one::<PathBuf>("directory") {
            None => page(None),
            Some(directory) => write_all(directory).map(|()| Vec::new()),
        },
        _ => Ok(completions(*asked.get_one::<Shell>("shell").expect("it is required"))),
    };
    let done = text.and_then(|text| io::stdout().lock().write_all(&text));
    Some(match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("post-gres-rs {first}: {error}");
            2
        }
    })
}

/// Writes the page of the server and that of each tool into a directory.
fn write_all(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("post-gres-rs.1"), page(None)?)?;
    for tool in full_command().get_subcommands().map(Command::get_name) {
        fs::write(directory.join(format!("post-gres-rs-{tool}.1")), page(Some(tool))?)?;
    }
    Ok(())
}

/// The page of the server, or of a tool.
fn page(tool: Option<&str>) -> io::Result<Vec<u8>> {
    let mut command = full_command();
    command.build();
    let command = match tool {
        None => command,
        Some(name) => {
            let tool = command.find_subcommand(name).cloned();
            let tool = tool.ok_or_else(|| io::Error::other(format!("there is no tool {name}")))?;
            tool.name(format!("post-gres-rs-{name}"))
        }
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    if tool.is_none() {
        page.extend_from_slice(MORE.as_bytes());
    }
    // troff spells a dash that is no hyphen with a backslash.
    let text = String::from_utf8(page).map_err(io::Error::other)?.replace("\\-", "-");
    Ok(with_one_dash(&text).replace('-', "\\-").into_bytes())
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut full_command(), "post-gres-rs", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_the_completions_know_every_flag_and_tool() {
        let text = |page: io::Result<Vec<u8>>| {
            String::from_utf8(page.expect("a page")).expect("UTF-8").replace("\\-", "-")
        };
        let manual = text(page(None));
        let bash = text(Ok(completions(Shell::Bash)));
        let command = full_command();
        for flag in command.get_arguments().filter_map(Arg::get_long) {
            assert!(manual.contains(&format!("-{flag}")), "{flag}");
            assert!(!manual.contains(&format!("--{flag}")), "{flag}");
            assert!(bash.contains(&format!("--{flag}")), "{flag}");
        }
        for tool in command.get_subcommands().map(Command::get_name) {
            assert!(manual.contains(tool) && bash.contains(tool), "{tool}");
            assert!(text(page(Some(tool))).contains("NAME"), "{tool}");
        }
        page(Some("nonsense")).expect_err("there is no such tool");
    }
}
