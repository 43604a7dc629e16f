//! The sources of the values of flags: the command line, before the environment, before the file at `-config`, before
//! the defaults.
//!
//! It knows no flag by name. Values from outside are put before the arguments, as if they had been typed, unless the
//! flag is among those; so each flag, also one that is added later, has the same checks wherever it comes from. What is
//! wrong outside is told with the place it is at, all of it at once. A tool takes from outside what it has in common
//! with the server, such as `-wal`, as its defaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use super::file::{self, Line};

/// The beginning of the names of all variables that are flags.
const PREFIX: &str = "POST_GRES_RS_";

/// The flag that names the file.
pub const FILE_FLAG: &str = "config";

/// The tool that takes all flags of a server, after a second word.
pub const CHECKER: &str = "config";

/// Variables that are no flag: what they hold must not be on a command line.
const SECRETS: [&str; 2] = ["POST_GRES_RS_PASSWORD", "POST_GRES_RS_ETCD_PASSWORD"];

/// Flags of tools that mean what the server's flag of that name means.
const SHARED: [&str; 4] = ["wal", "wal-ca", "wal-password-file", "port"];

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Arguments,
    /// This variable of the environment.
    Variable(String),
    /// This line of the file.
    Line(PathBuf, usize),
    /// The program.
    Default,
}

/// A flag's value from outside.
struct Outside {
    values: Vec<OsString>,
    source: Source,
}

/// A flag and its values, as they were given.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The flag, without its dash.
    pub name: String,
    /// Its values; none if it was not given and has no default.
    pub values: Vec<OsString>,
    /// Their source.
    pub source: Source,
    /// Whether they differ from the default.
    pub is_changed: bool,
}

/// All arguments, with what came from outside.
pub struct Merged {
    /// The command, whose tools have other defaults now.
    pub command: Command,
    /// The arguments, those from outside before those of the command line.
    pub args: Vec<OsString>,
    /// Warnings of likely mistakes that are not refused.
    pub warnings: Vec<String>,
    outside: BTreeMap<String, Outside>,
}

/// Adds the values of the environment and of the file to the arguments. Each error is a sentence with its place.
pub fn merge(
    command: Command,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
) -> Result<Merged, Vec<String>> {
    let mut merger = Merger { command: &command, outside: BTreeMap::new(), errors: Vec::new() };
    // Help is also for those whose file has mistakes.
    let asks_for_help = flags_among(&args)
        .any(|arg| ["-h", "--help", "-V", "--version"].iter().any(|help| arg == OsStr::new(help)));
    if asks_for_help {
        return Ok(Merged { command, args, warnings: Vec::new(), outside: BTreeMap::new() });
    }
    let (variables, warnings) = merger.variables(environment);
    let of_variable = variables.get(FILE_FLAG).map(|(_, value)| PathBuf::from(value));
    if let Some(path) = given(&args, FILE_FLAG).map(PathBuf::from).or(of_variable) {
        match file::read(&path) {
            Ok(lines) => merger.add_lines(&path, lines),
            Err(error) => merger.errors.push(format!("{error:#}")),
        }
    }
    for (name, (variable, value)) in variables {
        merger.add_variable(&name, variable, value);
    }
    let Merger { outside, errors, .. } = merger;
    match errors.is_empty() {
        true => Ok(Merged { command, args, warnings, outside }.with_outside()),
        false => Err(errors),
    }
}

/// The arguments among which flags are: those after `--` are words, such as a key or a value.
fn flags_among(args: &[OsString]) -> impl Iterator<Item = &OsString> {
    args.iter().take_while(|arg| *arg != "--")
}

/// The value of a flag among arguments; empty if that is missing.
fn given<'a>(args: &'a [OsString], name: &str) -> Option<&'a OsStr> {
    let mut rest = flags_among(args);
    while let Some(arg) = rest.next() {
        let bytes = arg.as_encoded_bytes();
        let Some(after) = bytes.strip_prefix(b"--").and_then(|it| it.strip_prefix(name.as_bytes()))
        else {
            continue;
        };
        match after {
            [] => return Some(rest.next().map_or(OsStr::new(""), OsString::as_os_str)),
            [b'=', ..] => {
                let skipped = "--=".len() + name.len();
                return Some(after_ascii(arg, skipped));
            }
            _ => {}
        }
    }
    None
}

/// The rest after `count` bytes of ASCII.
fn after_ascii(text: &OsStr, count: usize) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(&text.as_bytes()[count..])
}

/// The flags of a command that can be set from outside.
fn flags(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let flags = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    flags.filter(|(name, _)| ![FILE_FLAG, "help", "version"].contains(name))
}

/// The variable of a flag.
pub fn variable(name: &str) -> String {
    PREFIX.to_owned() + &name.to_ascii_uppercase().replace('-', "_")
}

/// The values and the mistakes found so far, while the environment and the file are read.
struct Merger<'a> {
    command: &'a Command,
    outside: BTreeMap<String, Outside>,
    errors: Vec<String>,
}

/// By the name of its flag: a variable, and its value.
type Variables = BTreeMap<String, (String, OsString)>;

impl Merger<'_> {
    /// The variables that are flags, and warnings of those that seem to be meant as some.
    fn variables(&self, environment: Vec<(OsString, OsString)>) -> (Variables, Vec<String>) {
        let names = flags(self.command).map(|(name, _)| name).chain([FILE_FLAG]);
        let known: BTreeMap<String, &str> = names.map(|name| (variable(name), name)).collect();
        let (mut variables, mut warnings) = (BTreeMap::new(), Vec::new());
        for (variable, value) in environment {
            let Some(variable) = variable.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if let Some(name) = known.get(variable) {
                variables.insert((*name).to_owned(), (variable.to_owned(), value));
            } else if !SECRETS.contains(&variable) {
                let flag = variable[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
                warnings.push(format!(
                    "{variable} in the environment is ignored: there is no flag -{flag}{}",
                    self.similar(&flag)
                ));
            }
        }
        warnings.sort_unstable();
        (variables, warnings)
    }

    fn add_variable(&mut self, name: &str, variable: String, value: OsString) {
        let Some(arg) = self.flag(name) else { return };
        let at = format!("{variable} in the environment");
        let values = match (is_repeatable(arg), value.to_str()) {
            (true, Some(text)) => match file::words(text) {
                Ok(words) => words.into_iter().map(OsString::from).collect(),
                Err(why) => return self.errors.push(format!("{at}: {why}")),
            },
            _ => vec![value],
        };
        let source = Source::Variable(variable);
        self.add(name, values, source, &at);
    }

    fn add_lines(&mut self, path: &Path, lines: Vec<Line>) {
        let mut first_lines = BTreeMap::<String, usize>::new();
        for Line { number, name, values } in lines {
            let at = format!("{}, line {number}", path.display());
            let Some(arg) = self.flag(&name) else {
                let why = match name == FILE_FLAG {
                    true => "a file of flags cannot name another".to_owned(),
                    false => {
                        format!("there is no flag {name}; -help lists them{}", self.similar(&name))
                    }
                };
                self.errors.push(format!("{at}: {why}"));
                continue;
            };
            let first = *first_lines.entry(name.clone()).or_insert(number);
            if !is_repeatable(arg) && first != number {
                let why = format!("{name} is in line {first} already; remove one of both");
                self.errors.push(format!("{at}: {why}"));
                continue;
            }
            if !is_repeatable(arg) && values.len() > 1 {
                let why = format!("{name} has one value; put one with spaces in quotes");
                self.errors.push(format!("{at}: {why}"));
                continue;
            }
            let values = values.into_iter().map(OsString::from).collect();
            self.add(&name, values, Source::Line(path.to_owned(), number), &at);
        }
    }

    /// Keeps checked values of a flag: beside those of earlier lines, in place of those of another source.
    fn add(&mut self, name: &str, values: Vec<OsString>, source: Source, at: &str) {
        let Some(arg) = self.flag(name) else { return };
        let checked = as_arguments(arg, name, &values).and_then(|args| self.check(args));
        if let Err(why) = checked {
            self.errors.push(format!("{at}: {why}"));
            return;
        }
        match (self.outside.get_mut(name), &source) {
            (Some(outside), Source::Line(..)) => outside.values.extend(values),
            _ => drop(self.outside.insert(name.to_owned(), Outside { values, source })),
        }
    }

    /// Checks arguments alone. Whether they go together with others is seen when all are there.
    fn check(&self, args: Vec<OsString>) -> Result<(), String> {
        let program = [OsString::from("post-gres-rs")];
        let parsed = self.command.clone().try_get_matches_from(program.into_iter().chain(args));
        match parsed {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument => Ok(()),
                _ => Err(in_one_line(&error)),
            },
        }
    }

    fn flag(&self, name: &str) -> Option<&Arg> {
        flags(self.command).find(|(flag, _)| *flag == name).map(|(_, arg)| arg)
    }

    /// A question after an unknown name, if there is a flag with a similar one.
    fn similar(&self, name: &str) -> String {
        let args = ["post-gres-rs".to_owned(), format!("--{name}")];
        let error = self.command.clone().try_get_matches_from(args).err();
        match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
            Some(ContextValue::String(similar)) => {
                format!(". Is -{} meant?", similar.trim_start_matches('-'))
            }
            _ => String::new(),
        }
    }
}

/// Whether a flag may be given more than once.
fn is_repeatable(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A flag with its values as arguments.
fn as_arguments(arg: &Arg, name: &str, values: &[OsString]) -> Result<Vec<OsString>, String> {
    let alone = OsString::from(format!("--{name}"));
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    match (values, is_switch) {
        ([], _) => Ok(vec![alone]),
        (_, false) => {
            let with = |value: &OsString| [&*alone, OsStr::new("="), value].into_iter().collect();
            Ok(values.iter().map(with).collect())
        }
        ([value], true) if value == "yes" || value == "true" => Ok(vec![alone]),
        ([value], true) if value == "no" || value == "false" => Ok(Vec::new()),
        (_, true) => Err(format!("{name} is yes or no")),
    }
}

/// The text of clap's error about an argument, without its advice.
fn in_one_line(error: &clap::Error) -> String {
    let text = super::with_one_dash(&error.render().to_string());
    let text = text.split("\n\nFor more information").next().unwrap_or_default();
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Merged {
    /// Brings the values from outside to where they are used.
    fn with_outside(mut self) -> Merged {
        let first = self.args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
        match self.command.find_subcommand(first).map(|tool| tool.get_name().to_owned()) {
            Some(tool) if tool != CHECKER => self.as_defaults_of(&tool),
            Some(_) => self.as_arguments_at(3),
            None => self.as_arguments_at(1),
        }
        self
    }

    /// Puts them before the arguments, but after the words that say what to do.
    fn as_arguments_at(&mut self, at: usize) {
        self.outside.retain(|name, _| given(&self.args, name).is_none());
        let mut from_outside = Vec::new();
        for (name, arg) in flags(&self.command) {
            if let Some(Outside { values, .. }) = self.outside.get(name) {
                from_outside.extend(as_arguments(arg, name, values).unwrap_or_default());
            }
        }
        let at = at.min(self.args.len());
        self.args.splice(at..at, from_outside);
    }

    fn as_defaults_of(&mut self, tool: &str) {
        let outside = &self.outside;
        let first = |name: &str| outside.get(name)?.values.first().cloned();
        // A server without a port is reached by its socket, or by its port with TLS.
        let is_off = first("port").is_some_and(|port| port == "off");
        let has_socket = outside.contains_key("unixsocket");
        let of_server = |name: &str| match name {
            "socket" if is_off => first("unixsocket"),
            "tls" if is_off && !has_socket => first("tls-port").map(|_| OsString::from("true")),
            "port" if is_off => first("tls-port"),
            "host" => {
                let hosts = first("bind")?;
                hosts.to_str().and_then(|hosts| hosts.split(',').next()).map(OsString::from)
            }
            "password-file" => first("requirepass-file"),
            _ if SHARED.contains(&name) => first(name),
            _ => None,
        };
        let command = std::mem::take(&mut self.command);
        self.command = command.mut_subcommand(tool, |tool| {
            tool.mut_args(|arg| match arg.get_long().and_then(of_server) {
                Some(value) => arg.default_value(value),
                None => arg,
            })
        });
    }

    /// Every flag of a server with its values, once all arguments were read.
    pub fn settings(&self, matches: &ArgMatches) -> Vec<Setting> {
        let setting = |(name, arg): (&str, &Arg)| {
            let id = arg.get_id().as_str();
            let values: Vec<OsString> =
                matches.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect();
            let source = match (matches.value_source(id), self.outside.get(name)) {
                (Some(ValueSource::CommandLine), Some(outside)) => outside.source.clone(),
                (Some(ValueSource::CommandLine), _) => Source::Arguments,
                _ => Source::Default,
            };
            let default = arg.get_default_values();
            let is_changed = source != Source::Default && values.iter().ne(default.iter());
            Setting { name: name.to_owned(), values, source, is_changed }
        };
        flags(&self.command).map(setting).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{Config, Mistake, full_command};

    fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let args = std::iter::once(&"post-gres-rs").chain(args).map(OsString::from).collect();
        let pairs = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Config::read(args, pairs).map_err(|mistake| match mistake {
            Mistake::Outside(errors) => errors,
            Mistake::Arguments(error) => vec![error.to_string()],
        })
    }

    #[test]
    fn every_flag_has_a_variable_of_its_own_that_is_read_and_named_in_the_error() {
        let command = Config::command();
        let mut seen = std::collections::BTreeSet::new();
        for (name, arg) in flags(&command) {
            let variable = variable(name);
            assert!(!SECRETS.contains(&variable.as_str()) && seen.insert(variable.clone()));
            let default: Vec<&str> =
                arg.get_default_values().iter().filter_map(|value| value.to_str()).collect();
            if let [default] = default[..] {
                let config = read(&[], &[(&variable, default)]).expect(name);
                let setting = config.settings.iter().find(|it| it.name == name).expect(name);
                assert_eq!(setting.source, Source::Variable(variable.clone()));
                assert!(!setting.is_changed, "{name}");
            }
            // No flag takes everything, except those that name a file or an address.
            if let Err(errors) = read(&[], &[(&variable, "\u{1}")]) {
                assert!(errors[0].starts_with(&format!("{variable} in the environment: ")));
            }
        }
        assert!(seen.len() > 20);
    }

    #[test]
    fn a_value_from_outside_has_the_checks_of_the_command_line_and_gives_way_to_it() {
        let config =
            read(&["--port=3"], &[("POST_GRES_RS_PORT", "4"), ("POST_GRES_RS_SHARDS", "2")]);
        let config = config.expect("good flags");
        assert_eq!((config.doors.port(), config.shards), (Some(3), 2));
        let errors = read(&[], &[("POST_GRES_RS_PORT", ""), ("POST_GRES_RS_SHARDS", "0")]);
        let errors = errors.expect_err("two bad values");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[1].contains("'0' for '-shards <1-1024>': expected a whole"), "{errors:?}");
    }

    #[test]
    fn a_variable_that_is_no_flag_is_a_warning_and_a_password_is_none() {
        let environment =
            [("POST_GRES_RS_MAXMEMROY", "1"), ("POST_GRES_RS_PASSWORD", "x"), ("PORT", "1")];
        let config = read(&[], &environment).expect("good flags");
        let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        assert!(warning.contains("POST_GRES_RS_MAXMEMROY") && warning.contains("-maxmemory meant"));
    }

    /// Two kinds of flags that there may be: one that is given more than once, and a switch without a value.
    #[test]
    fn a_flag_that_may_be_repeated_takes_words_and_a_switch_takes_yes_and_no() {
        let command = || {
            full_command()
                .arg(Arg::new("more").long("more").action(ArgAction::Append))
                .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue))
        };
        let args = |environment: &[(&str, &str)]| {
            let environment =
                environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let merged = merge(command(), vec!["post-gres-rs".into()], environment);
            merged.map(|merged| merged.args[1..].to_vec())
        };
        let more = |value| args(&[("POST_GRES_RS_MORE", value)]);
        assert_eq!(more("a 'b c'").expect("two words"), ["--more=a", "--more=b c"]);
        assert!(more("a 'b").is_err(), "an open quote");
        let quiet = |value| args(&[("POST_GRES_RS_QUIET", value)]);
        assert_eq!(quiet("yes").expect("a switch"), ["--quiet"]);
        assert_eq!(quiet("no").expect("a switch"), [""; 0]);
        assert!(quiet("maybe").is_err());
    }

    #[test]
    fn a_flag_is_found_among_arguments_with_its_value() {
        let args = ["x", "--config-file", "--config=a=b", "--wal", "w"].map(OsString::from);
        assert_eq!(given(&args, "config"), Some(OsStr::new("a=b")));
        assert_eq!(given(&args, "wal"), Some(OsStr::new("w")));
        assert_eq!(given(&args[..4], "wal"), Some(OsStr::new("")));
        assert_eq!(given(&args, "port"), None);
    }

    #[test]
    fn words_after_two_dashes_are_no_flags_and_ask_for_no_help() {
        let missing = "/there is no such file";
        let environment = || vec![("POST_GRES_RS_PORT".into(), "7".into())];
        for word in ["-h", "--help", "--version"] {
            let args = ["post-gres-rs", "get", "--", word].map(OsString::from).to_vec();
            let merged = merge(full_command(), args, environment()).expect("good flags");
            assert!(merged.outside.contains_key("port"), "{word}");
        }
        let args = ["post-gres-rs", "set", "--", "--config", missing].map(OsString::from).to_vec();
        assert!(merge(full_command(), args, environment()).is_ok(), "a key and a value");
        let args = ["post-gres-rs", "--config", missing].map(OsString::from).to_vec();
        assert!(merge(full_command(), args, environment()).is_err());
    }
}
