//! Settings as people read them: in a message at the start, and by `config check`. Never a secret.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::sources::{Setting, Source};
use crate::quote;

/// The most bytes of a value that are shown: as long as the longest path.
const MOST_SHOWN: usize = 4096;

/// A setting's values, as they could be typed.
pub fn value(setting: &Setting) -> String {
    let values: Vec<String> =
        setting.values.iter().map(|value| one(&setting.name, value)).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(" ") }
}

/// Secrets are in files, and no flag has one. If one has it all the same, it is not repeated here.
fn one(name: &str, value: &OsStr) -> String {
    let is_secret =
        ["password", "requirepass", "secret", "token"].iter().any(|it| name.contains(it));
    if is_secret && !name.ends_with("-file") {
        return "(hidden)".to_owned();
    }
    let bytes = value.as_bytes();
    let mut shown = Vec::new();
    quote::print(&bytes[..bytes.len().min(MOST_SHOWN)], &mut shown);
    String::from_utf8_lossy(&shown).into_owned()
}

/// The source of a value.
pub fn whence(source: &Source) -> String {
    match source {
        Source::Arguments => "command line".to_owned(),
        Source::Variable(name) => format!("{name} in the environment"),
        Source::Line(path, number) => format!("line {number} of {}", path.display()),
        Source::Default => "default".to_owned(),
    }
}

/// The settings that are not the default, grouped by their sources, in one line.
pub fn summary(settings: &[Setting]) -> String {
    let mut groups: Vec<(String, String)> = Vec::new();
    for setting in settings.iter().filter(|setting| setting.is_changed) {
        let source = match &setting.source {
            Source::Variable(_) => "the environment".to_owned(),
            Source::Line(path, _) => path.display().to_string(),
            Source::Arguments | Source::Default => "the command line".to_owned(),
        };
        let flag = format!(" -{} {}", setting.name, value(setting));
        match groups.iter_mut().find(|(group, _)| *group == source) {
            Some((_, flags)) => flags.push_str(&flag),
            None => groups.push((source, flag)),
        }
    }
    let groups: Vec<String> =
        groups.into_iter().map(|(source, flags)| format!("by {source}:{flags}")).collect();
    match groups.is_empty() {
        true => "all settings are the defaults".to_owned(),
        false => format!("settings {}; all others are the defaults", groups.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_flag_is_not_shown_and_the_name_of_its_file_is() {
        for (name, shown) in [
            ("tls-key-password", "(hidden)"),
            ("requirepass", "(hidden)"),
            ("requirepass-file", "a.b"),
            ("wal-password-file", "a.b"),
            ("wal", "a.b"),
        ] {
            assert_eq!(one(name, OsStr::new("a.b")), shown, "{name}");
        }
    }
}
