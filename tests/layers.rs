//! Holds the order of the modules true, and the few rules of style that a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and what it may use; nothing else, and so nothing upward.
const LAYERS: &[(&str, &[&str])] = &[
    ("entry", &[]),
    ("sync", &[]),
    ("messages", &[]),
    ("decimal", &[]),
    ("command", &["decimal", "entry"]),
    ("record", &["command", "entry"]),
    ("glob", &[]),
    ("quote", &[]),
    ("protocol", &["command", "decimal", "entry", "glob", "quote"]),
    ("store", &["command", "entry"]),
    ("wal", &["sync"]),
    ("metrics", &["command"]),
    (
        "engine",
        &[
            "command", "decimal", "entry", "glob", "metrics", "quote", "record", "store", "sync",
            "wal",
        ],
    ),
    ("server", &["command", "engine", "entry", "glob", "metrics", "protocol", "sync"]),
    ("tools", &["command", "entry", "glob", "quote", "record", "wal"]),
    ("config", &["engine", "protocol", "server", "tools", "wal"]),
];

#[test]
fn no_module_uses_one_above_it_and_the_leaves_do_not_know_each_other() {
    let mut seen = BTreeSet::new();
    for path in sources() {
        let module = module_of(&path);
        // Tests bring what they need from anywhere.
        if ["main", "lib"].contains(&module.as_str()) || path.ends_with("schedules.rs") {
            continue;
        }
        let (_, allowed) = LAYERS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{path:?}: which layer is this?"));
        for used in used_modules(&read(&path)) {
            let fine = used == module || allowed.contains(&used.as_str());
            assert!(fine, "{path:?} uses {used}, and may use {allowed:?}");
        }
        seen.insert(module);
    }
    assert_eq!(seen.len(), LAYERS.len(), "a layer without a file: {seen:?}");
}

#[test]
fn only_the_configuration_reads_flags_and_the_data_is_touched_by_the_log_alone() {
    for path in sources() {
        let text = code(&read(&path));
        let module = module_of(&path);
        assert!(module == "config" || !text.contains("env::args"), "{path:?} reads arguments");
        let touches = text.contains("std::fs") || text.contains("rustix::fs");
        let may = ["wal", "config", "metrics"].contains(&module.as_str());
        assert!(may || !touches, "{path:?} touches files");
    }
}

#[test]
fn the_log_reads_no_clock_of_the_day() {
    for path in sources().into_iter().filter(|path| module_of(path) == "wal") {
        assert!(!read(&path).contains("SystemTime"), "{path:?}: the clock may go back");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_nothing_unwraps() {
    for path in sources() {
        let text = read(&path);
        assert!(text.starts_with("//! "), "{path:?} does not say what it is for");
        assert!(!code(&text).contains(".unwrap()"), "{path:?} unwraps");
        let may = usize::from(path.ends_with("server/preemption.rs"));
        assert!(code(&text).matches("unsafe ").count() <= may, "{path:?} is unsafe");
    }
}

/// Everywhere else a panic would leave those who wait for the thread waiting for ever.
#[test]
fn every_thread_but_a_clients_ends_the_process_by_its_panic() {
    let starts = |text: &str| {
        let ways = ["thread::Builder", "thread::spawn", ".spawn(", ".spawn_scoped("];
        ways.iter().map(|way| text.matches(way).count()).sum::<usize>()
    };
    for path in sources() {
        let may = match path.file_name().and_then(|name| name.to_str()) {
            // The mechanism; a thread that nobody waits for; those of clients; those whose panic is handed on.
            Some("sync.rs" | "messages.rs" | "loader.rs") => 2,
            Some("mod.rs") if path.ends_with("server/mod.rs") => 2,
            Some("schedules.rs") => usize::MAX,
            _ => 0,
        };
        assert!(starts(&code(&read(&path))) <= may, "{path:?} starts a thread");
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            match path.is_dir() {
                true => directories.push(path),
                false if path.extension().is_some_and(|kind| kind == "rs") => found.push(path),
                false => {}
            }
        }
    }
    assert!(found.len() > 20, "the sources are there");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a source file can be read")
}

/// The name of the module right below the crate that a file belongs to.
fn module_of(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let below = path.strip_prefix(src).expect("a source file");
    let first = below.components().next().expect("a name").as_os_str();
    Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned()
}

/// A file without its tests and without its comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules right below the crate that the code of a file names.
fn used_modules(text: &str) -> BTreeSet<String> {
    let names = |rest: &str| -> Vec<String> {
        let ends = |char: char| !(char.is_alphanumeric() || char == '_');
        match rest.strip_prefix('{') {
            None => vec![rest.split(ends).next().unwrap_or_default().to_owned()],
            Some(group) => group
                .split('}')
                .next()
                .unwrap_or_default()
                .split(',')
                .map(|item| item.trim().split(ends).next().unwrap_or_default().to_owned())
                .collect(),
        }
    };
    code(text).split("crate::").skip(1).flat_map(names).filter(|name| !name.is_empty()).collect()
}
