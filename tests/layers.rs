//! Holds the order of the modules true, and the few rules of style that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and what it may use; nothing else, and so nothing upward.
const LAYERS: &[(&str, &[&str])] = &[
    ("entry", &[]),
    ("sync", &[]),
    ("messages", &[]),
    ("command", &["entry"]),
    ("record", &["command", "entry"]),
    ("glob", &[]),
    ("quote", &[]),
    ("protocol", &["command", "quote"]),
    ("commands", &["command", "entry", "glob"]),
    ("store", &["command", "entry"]),
    ("wal", &["sync"]),
    ("metrics", &["command", "quote"]),
    ("scripts", &["command", "commands", "metrics", "sync"]),
    ("engine", &["command", "entry", "metrics", "quote", "record", "store", "sync", "wal"]),
    ("doors", &[]),
    ("tls", &["doors", "sync"]),
    ("upkeep", &["command", "engine", "entry", "record", "store", "sync", "wal"]),
    (
        "server",
        &[
            "command", "commands", "doors", "engine", "entry", "glob", "metrics", "protocol",
            "scripts", "sync",
        ],
    ),
    (
        "replicated",
        &["command", "engine", "entry", "metrics", "record", "store", "sync", "upkeep", "wal"],
    ),
    ("http", &["command", "commands", "engine", "metrics", "server", "sync"]),
    ("remote", &[]),
    ("tools", &["command", "entry", "glob", "quote", "record", "remote", "replicated", "wal"]),
    ("users", &["command"]),
    ("systemd", &["engine", "sync", "wal"]),
    (
        "config",
        &[
            "command",
            "doors",
            "engine",
            "http",
            "messages",
            "metrics",
            "protocol",
            "quote",
            "replicated",
            "scripts",
            "server",
            "tls",
            "tools",
            "upkeep",
            "users",
            "wal",
        ],
    ),
];

#[test]
fn no_module_uses_one_above_it_and_the_leaves_do_not_know_each_other() {
    let (mut seen, mut used_by) = (BTreeSet::new(), BTreeSet::new());
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
            used_by.insert((module.clone(), used));
        }
        seen.insert(module);
    }
    for (module, allowed) in LAYERS {
        let is_stale = |used: &&&str| !used_by.contains(&((*module).into(), (**used).into()));
        let stale: Vec<_> = allowed.iter().filter(is_stale).collect();
        assert!(stale.is_empty(), "{module} may use {stale:?}, and does not: take that back");
    }
    assert_eq!(seen.len(), LAYERS.len(), "a layer without a file: {seen:?}");
}

/// The second shelf: what is not needed for one SET and the way back at a start. Each line is a room, a file
/// or a directory, and its door: the core files that may name it. Every file that is not in a room is on the
/// first shelf, the core. `main` starts everything, and may name all.
const ROOMS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("messages", &[]),
    ("glob", &[]),
    (
        "metrics",
        &[
            "engine",
            "engine::batch_view",
            "engine::commit_path",
            "engine::handle",
            "engine::local_log",
            "engine::open",
            "engine::other_writers",
            "engine::submission",
            "engine::view",
            "engine::watches",
            "server",
            "server::outbox",
            "server::received",
        ],
    ),
    // A log in etcd.
    ("replicated", &[]),
    // The live page and /metrics.
    ("http", &[]),
    // A client of a running server.
    ("remote", &[]),
    ("tools", &[]),
    ("systemd", &[]),
    // Users in a file.
    ("users", &[]),
    ("upkeep", &[]),
    ("engine::facts", &["engine"]),
    ("engine::info", &[]),
    ("engine::no_room", &[]),
    // Batches as they happen, for those who watch.
    ("engine::tap", &["engine::commit_path"]),
    ("tls", &[]),
    // Lua.
    ("scripts", &["server"]),
    ("doors::unix", &["doors"]),
    ("server::info", &[]),
    ("server::logins", &["server"]),
    ("server::watch", &["server"]),
    // SIGHUP.
    ("server::reload", &["server"]),
    ("server::preemption", &["server::connection"]),
    (
        "wal::guard",
        &["engine", "wal", "wal::preparer", "wal::recovery", "wal::torn", "wal::writer"],
    ),
    ("wal::read_only", &[]),
    // All of Redis.
    ("commands", &["server::connection"]),
    // Messages that clients publish.
    ("server::pubsub", &["server"]),
    ("server::pushes", &["server"]),
    ("server::asked", &[]),
    // CONFIG SET.
    ("server::settings", &["server"]),
    ("server::idle", &["server"]),
    ("server::session", &["server::connection"]),
    ("server::transaction", &["server::connection"]),
];

#[test]
fn a_core_file_names_a_room_only_where_that_has_its_door() {
    let room_of = |file: &str| {
        let is_in = |room: &str| file == room || file.starts_with(&format!("{room}::"));
        ROOMS.iter().find(|(room, _)| is_in(room))
    };
    let mut used = BTreeSet::new();
    let imports = imports();
    for (file, named) in &imports {
        if ["main", "lib"].contains(&file.as_str()) || room_of(file).is_some() {
            continue;
        }
        for (room, doors) in named.iter().filter_map(|named| room_of(named)) {
            let may = doors.contains(&file.as_str());
            assert!(may, "{file} is on the core shelf and names {room}, whose door is {doors:?}");
            used.insert((*room, file.as_str()));
        }
    }
    for (room, doors) in ROOMS {
        assert!(
            imports.keys().any(|file| room_of(file).is_some_and(|(it, _)| it == room)),
            "{room}"
        );
        let stale: Vec<_> = doors.iter().filter(|door| !used.contains(&(room, door))).collect();
        assert!(stale.is_empty(), "{stale:?} may name {room}, and do not: take that back");
    }
}

/// Files that use each other in a circle, by module. The first file of a module is left out: it has the
/// words that the others share, and it starts them.
const CIRCLES: &[&[&str]] = &[&["server::flusher", "server::outbox"]];

#[test]
fn the_files_of_a_module_use_each_other_in_no_circle() {
    let mut imports = imports();
    let modules: BTreeSet<String> =
        imports.keys().filter_map(|file| Some(file.rsplit_once("::")?.0.to_owned())).collect();
    imports.retain(|file, _| !modules.contains(file) && !["main", "lib"].contains(&file.as_str()));
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for named in imports.get(file).into_iter().flatten() {
                if seen.insert(named) {
                    next.push(named);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|file| (file, reached(file))).collect();
    let mut found = BTreeSet::new();
    for (file, reached) in &all {
        if !reached.contains(file) {
            continue;
        }
        let is_back = |other: &&&String| all.get(**other).is_some_and(|r| r.contains(file));
        let circle: Vec<&str> = reached.iter().filter(is_back).map(|file| file.as_str()).collect();
        let is_known = |known: &&[&str]| circle.iter().all(|file| known.contains(file));
        assert!(CIRCLES.iter().any(is_known), "these use each other in a circle: {circle:?}");
        found.extend(circle);
    }
    let gone: Vec<_> =
        CIRCLES.iter().flat_map(|all| *all).filter(|it| !found.contains(*it)).collect();
    assert!(gone.is_empty(), "{gone:?} are in no circle any more: take that back");
}

#[test]
fn only_the_configuration_reads_flags_and_the_data_is_touched_by_the_log_alone() {
    for path in sources() {
        let text = code(&read(&path));
        let module = module_of(&path);
        assert!(module == "config" || !text.contains("env::args"), "{path:?} reads arguments");
        let touches = text.contains("std::fs") || text.contains("rustix::fs");
        let may = ["wal", "config", "doors", "messages", "metrics", "remote", "tls"]
            .contains(&module.as_str());
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

/// Each row of failures.md names the tests that fail when it does not hold, some only by their first words.
#[test]
fn each_test_that_is_named_among_the_failures_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = sources();
    files.extend(files_in(&root.join("tests")));
    let texts: String = files.iter().map(|path| read(path)).collect();
    let said = read(&root.join("src/failures.md"));
    let names = said.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2);
    let gone: Vec<&str> = names
        .filter(|name| match name.strip_suffix('…') {
            Some(start) => !texts.contains(&format!("fn {start}")),
            None => !texts.contains(&format!("fn {name}(")),
        })
        .collect();
    assert!(gone.is_empty(), "no test has one of these names: {gone:#?}");
}

/// An operator who reads a warning finds it in production.md, by the longest part of it that is always the same.
#[test]
fn each_warning_and_error_is_explained_to_operators() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = read(&root.join("src/production.md"));
    let mut missing = Vec::new();
    let mut found = 0;
    for path in sources().into_iter().filter(|path| module_of(path) != "replicated") {
        let text = code(&read(&path));
        let starts = ["log::warn!(", "log::error!("];
        for at in starts.iter().flat_map(|start| text.match_indices(start)).map(|(at, _)| at) {
            let Some(message) = text[at..].split(')').next().and_then(first_string) else {
                continue;
            };
            found += 1;
            let parts = message.split(['{', '}']).step_by(2);
            let longest = parts
                .map(|part| part.trim_matches([' ', ':', ',', ';', '.']))
                .max_by_key(|part| part.len());
            let longest = longest.unwrap_or_default();
            // What is handed on, such as an error in full, has no words of its own.
            if longest.len() > 3 && !page.contains(longest) {
                missing.push(format!("{path:?}: {longest}"));
            }
        }
    }
    assert!(found > 30, "{found} messages");
    assert!(missing.is_empty(), "these are not in production.md: {missing:#?}");
}

/// The first string literal, as one line.
fn first_string(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    let end = rest.find('"')?;
    let lines = rest[..end].split("\\\n").map(str::trim_start);
    Some(lines.collect())
}

fn sources() -> Vec<PathBuf> {
    let found = files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(found.len() > 20, "the sources are there");
    found
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => directories.push(path),
                false if path.extension().is_some_and(|kind| kind == "rs") => found.push(path),
                false => {}
            }
        }
    }
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
    let names = paths_after(&code(text), "crate::").into_iter();
    names.filter_map(|path| path.into_iter().next()).collect()
}

/// A file's place among the modules: `wal::frame` is `src/wal/frame.rs`, `wal` is `src/wal/mod.rs`.
fn place_of(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let below = path.strip_prefix(src).expect("a source file").with_extension("");
    let names = below.iter().map(|name| name.to_string_lossy());
    names.filter(|name| name != "mod").collect::<Vec<_>>().join("::")
}

/// The files that the code of each file names, by their places; through `pub use`, the file that is meant.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources().into_iter().filter(|path| !path.ends_with("schedules.rs"));
    let codes: BTreeMap<String, String> =
        sources.map(|path| (place_of(&path), code(&read(&path)))).collect();
    let mut handed_on = BTreeMap::new();
    for (place, text) in &codes {
        for named in
            paths_after(text, "pub use ").into_iter().chain(paths_after(text, "pub(crate) use "))
        {
            let Some(last) = named.last().cloned() else { continue };
            handed_on.insert(format!("{place}::{last}"), absolute(place, named));
        }
    }
    let file_of = |mut path: Vec<String>| {
        for _ in 0..MOST_HANDS {
            let length =
                (1..=path.len()).rev().find(|&n| codes.contains_key(&path[..n].join("::")))?;
            let next = path.get(..=length).and_then(|named| handed_on.get(&named.join("::")));
            match next {
                Some(next) => path = [next, &path[length + 1..]].concat(),
                None => return Some(path[..length].join("::")),
            }
        }
        panic!("{path:?} is handed on without end");
    };
    let named_in = |(place, text): (&String, &String)| {
        let starts = ["crate::", "super::", "self::"].map(str::to_owned).into_iter();
        // A module names the files below it without more words.
        let below = format!("{place}::");
        let children = codes.keys().filter_map(|other| other.strip_prefix(&below));
        let children =
            children.filter(|child| !child.contains("::")).map(|child| format!("{child}::"));
        let all = starts.chain(children).flat_map(|start| {
            let first = start.trim_end_matches(':').to_owned();
            let paths = paths_after(text, &start).into_iter();
            paths.map(move |rest| [vec![first.clone()], rest].concat()).collect::<Vec<_>>()
        });
        let files = all.filter_map(|path| file_of(absolute(place, path)));
        (place.clone(), files.filter(|file| file != place).collect())
    };
    codes.iter().map(named_in).collect()
}

/// A name may be handed on by a few modules; more would be a circle.
const MOST_HANDS: usize = 8;

/// A path as it is seen from the crate, of one that is written in the file at `place`.
fn absolute(place: &str, path: Vec<String>) -> Vec<String> {
    let mut base: Vec<String> = place.split("::").map(str::to_owned).collect();
    let mut rest = &path[..];
    if rest.first().is_some_and(|first| first == "crate") {
        return rest[1..].to_vec();
    }
    while let Some((first, more)) =
        rest.split_first().filter(|(first, _)| matches!(first.as_str(), "super" | "self"))
    {
        if first == "super" {
            base.pop();
        }
        rest = more;
    }
    base.extend_from_slice(rest);
    base
}

/// Every path that follows `start` in some code, a group such as `a::{b, c::d}` as one for each name.
fn paths_after(text: &str, start: &str) -> Vec<Vec<String>> {
    let is_inside =
        |before: Option<char>| before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
    let places = text.match_indices(start).map(|(at, _)| at);
    let places = places.filter(|&at| !is_inside(text[..at].chars().next_back()));
    places.flat_map(|at| paths(&mut &text[at + start.len()..])).collect()
}

/// The paths at the beginning of `text`, which begins after them from then on.
fn paths(text: &mut &str) -> Vec<Vec<String>> {
    *text = text.trim_start();
    if let Some(rest) = text.strip_prefix('{') {
        let mut all = Vec::new();
        *text = rest.trim_start();
        while !text.is_empty() && !text.starts_with('}') {
            all.extend(paths(text));
            // What is in between is a comma, or a second name.
            let end = text.find([',', '}']).unwrap_or(text.len());
            *text = text[end..].trim_start_matches(',').trim_start();
        }
        *text = text.strip_prefix('}').unwrap_or(text);
        return all;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    *text = rest;
    if name.is_empty() {
        return vec![Vec::new()];
    }
    match rest.strip_prefix("::") {
        None => vec![vec![name.to_owned()]],
        Some(rest) => {
            *text = rest;
            paths(text).into_iter().map(|path| [vec![name.to_owned()], path].concat()).collect()
        }
    }
}
