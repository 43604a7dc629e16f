//! Whether the rules of a user's rights allow a command.

use super::rows::is_in;
use crate::command::Spec;

/// Whether these rules allow it: `+@all`, `-@admin`, `+info`, `+acl|whoami`; the last one that is about it decides.
pub fn allow(rules: &str, spec: &Spec) -> bool {
    let is_about = |what: &str| match what.strip_prefix('@') {
        Some("all") => true,
        Some(_) => is_in(spec, what),
        None => spec
            .name
            .strip_prefix(what)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('|')),
    };
    let last = rules.split_ascii_whitespace().rev().find(|rule| is_about(&rule[1..]));
    last.is_some_and(|rule| rule.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;
    use crate::command::Rights;

    #[test]
    fn a_reader_may_read_everything_and_change_publish_and_administer_nothing() {
        for spec in COMMANDS {
            let may = allow(Rights::ReadOnly.rules(), spec);
            let harms = ["write", "admin", "may_replicate"].iter().any(|flag| spec.has(flag));
            assert!(!(may && (harms || spec.publishes())), "{} may harm", spec.name);
            assert!(may || !spec.has("readonly"), "{} only reads", spec.name);
            assert!(may || !spec.has("no_auth"), "{} is needed to log in", spec.name);
            assert!(allow(Rights::All.rules(), spec));
        }
        let allowed = |name: &str| {
            let spec = COMMANDS.iter().find(|spec| spec.name == name).expect(name);
            allow(Rights::ReadOnly.rules(), spec)
        };
        for name in ["exec", "watch", "subscribe", "info", "client|setname", "acl|whoami", "select"]
        {
            assert!(allowed(name), "{name}");
        }
        for name in [
            "acl|list",
            "client|kill",
            "client|list",
            "config|get",
            "monitor",
            "flushall",
            "shutdown",
        ] {
            assert!(!allowed(name), "{name}");
        }
    }

    #[test]
    fn the_last_rule_about_a_command_decides() {
        let spec = |name: &str| COMMANDS.iter().find(|spec| spec.name == name).expect(name);
        for (rules, name, may) in [
            ("", "get", false),
            ("+get", "get", true),
            ("+get", "getdel", false),
            ("+@all -get", "get", false),
            ("-get +@all", "get", true),
            ("+client", "client|id", true),
            ("+client -client|id", "client|id", false),
            ("+@all -@string", "set", false),
        ] {
            assert_eq!(allow(rules, spec(name)), may, "{rules} for {name}");
        }
    }
}
