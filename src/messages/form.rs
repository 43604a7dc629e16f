//! The form of a message: a line of text for people, or a JSON object for programs. Where journald reads stderr it notes
//! time and priority itself, so that a message brings no second time, and its level as journald's priority.

use std::io::{self, Write};

use env_logger::Builder;
use log::Level;

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object in a line.
    #[cfg(feature = "tools")]
    Json,
}

impl Form {
    /// Gives messages this form.
    pub fn apply(self, builder: &mut Builder) {
        let for_journal = is_journal();
        match self {
            // env_logger's own, with the time.
            Form::Text if !for_journal => {}
            Form::Text => drop(builder.format(|out, record| {
                for line in record.args().to_string().lines() {
                    let (level, module) = (record.level(), record.target());
                    writeln!(out, "{}[{level:5} {module}] {line}", priority(level))?;
                }
                Ok(())
            })),
            #[cfg(feature = "tools")]
            Form::Json => drop(builder.format(move |out, record| {
                if for_journal {
                    write!(out, "{}", priority(record.level()))?;
                }
                json(out, record.level(), record.target(), record.args())
            })),
        }
    }
}

/// What systemd calls the log level prefix, see sd-daemon(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Whether stderr is the one that systemd has connected with journald, as systemd.exec(5) says to find out.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return false };
    let numbers = named.split_once(':').map(|(device, inode)| (device.parse(), inode.parse()));
    numbers == Some((Ok(stat.st_dev), Ok(stat.st_ino)))
}

#[cfg(feature = "tools")]
fn json(
    out: &mut dyn Write,
    level: Level,
    module: &str,
    message: &std::fmt::Arguments<'_>,
) -> io::Result<()> {
    let thread = std::thread::current();
    let object = serde_json::json!({
        "time": format!("{:.3}", jiff::Timestamp::now()),
        "level": level.as_str(),
        "module": module,
        "thread": thread.name(),
        "message": message.to_string(),
    });
    writeln!(out, "{object}")
}

#[cfg(all(test, feature = "tools"))]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_json_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        json(&mut out, Level::Warn, "a::b", &format_args!("{}", "two\nlines, \"quoted\"\u{1}"))
            .expect("a vector takes all");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["message"], "two\nlines, \"quoted\"\u{1}");
        assert_eq!((&value["level"], &value["module"]), (&"WARN".into(), &"a::b".into()));
        let time = value["time"].as_str().expect("a time");
        assert!(time.len() == "2026-11-28T10:50:38.123Z".len() && time.ends_with('Z'), "{time}");
    }
}
