//! Lua, made once, and one run in it.
//!
//! Making it takes about as long as a hundred short scripts, so it is made by the first script and used by all that
//! follow: the prelude sees to it that none can leave anything for the next one. Only the thread on the commit path
//! is ever in here.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use mlua::{Chunk, ChunkMode, Either, Function, Lua, StdLib, Table, Value, Variadic};

use super::cache::{Cache, Full, Name};
use super::call::{self, Caller};
use super::error::{self, CHUNK};
use super::hook;
use super::memory::{self, FEW_WORDS, Hold};
use super::pace::{self, Pace};
use super::random::Random;
use super::run::Run;
use super::shebang::{self, Flags};
use super::{Shared, api, json, values};
use crate::command::{Parts, Refusal, Reply};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// A script that leaves more garbage than this is followed by a full collection, so that the next one has all of its
/// memory; less is collected step by step while scripts run.
const GARBAGE_BYTES: usize = 32 << 20;

const PRELUDE: &str = include_str!("prelude.lua");

/// One request for a script.
pub struct Request<'a> {
    pub name: Name,
    pub keys: &'a [&'a [u8]],
    pub arguments: &'a [&'a [u8]],
    pub is_read_only: bool,
    /// Set once the script calls a command that may change something.
    pub has_written: &'a AtomicBool,
}

/// See the head of this file.
#[derive(Debug)]
pub struct State {
    lua: Lua,
    environment: Table,
    base: Table,
    runner: Function,
    run: Arc<Run>,
    cache: Cache,
    shared: Limits,
    seeds: RandomState,
    runs: u64,
    /// Bytes that were in use after the last full collection.
    live: usize,
}

/// What it keeps of the settings.
#[derive(Debug)]
struct Limits {
    limits: super::Limits,
    metrics: Arc<Metrics>,
}

impl State {
    /// The state, which is made if it is not there.
    pub fn there<'a>(
        slot: &'a mut Option<State>,
        shared: &Shared,
    ) -> Result<&'a mut State, Refusal> {
        if slot.is_none() {
            let made = State::new(shared).map_err(|why| {
                let why = error::text(error::root(&why));
                Refusal::Error(format!("ERR scripts cannot be run: {why}").into())
            })?;
            *slot = Some(made);
        }
        Ok(slot.as_mut().expect("it was made"))
    }

    fn new(shared: &Shared) -> mlua::Result<State> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, mlua::LuaOptions::default())?;
        memory::hold(&lua)?;
        let run = Arc::new(Run {
            watch: shared.watch.clone(),
            end: Mutex::default(),
            version: AtomicU8::new(2),
            random: Mutex::new(Random::new(0)),
            json: json::Held::default(),
            pace: pace::State::default(),
        });
        let raw = api::raw(&lua, &run)?;
        let prelude = lua.load(PRELUDE).set_name(error::PRELUDE);
        let (environment, base, runner) = prelude.call::<(Table, Table, Function)>(&raw)?;
        lua.set_globals(environment.clone())?;
        raw.raw_set("compile", compiler(&lua, &run, &environment)?)?;
        hook::set(&lua, &run, Pace::Wide)?;
        lua.gc_collect()?;
        let live = lua.used_memory();
        let limits = Limits { limits: shared.limits, metrics: shared.metrics.clone() };
        let (cache, seeds) = (Cache::default(), RandomState::new());
        let state = State {
            lua,
            environment,
            base,
            runner,
            run,
            cache,
            shared: limits,
            seeds,
            runs: 0,
            live,
        };
        state.count();
        Ok(state)
    }

    /// Whether a script of this name is kept.
    pub fn has(&self, name: &Name) -> bool {
        self.cache.has(name)
    }

    /// Compiles a script and keeps it, as long as no other one needs the room.
    pub fn keep(&mut self, name: Name, text: &[u8]) -> Result<(), Refusal> {
        let (flags, first) = shebang::flags(text)?;
        let before = self.lua.used_memory();
        let chunk = self.lua.load(&text[first..]);
        let function = compiled(chunk, CHUNK, &self.environment).map_err(|why| {
            let why = error::text(error::root(&why));
            Refusal::Error(format!("ERR Error compiling script (new function): {why}").into())
        })?;
        let bytes = self.lua.used_memory().saturating_sub(before).max(text.len());
        self.cache.keep(name, function, flags, bytes).map_err(|Full| {
            "ERR the scripts of SCRIPT LOAD fill the memory for scripts; SCRIPT FLUSH empties it"
        })?;
        self.count();
        Ok(())
    }

    /// Keeps a script until all are forgotten.
    pub fn stay(&mut self, name: Name, text: &[u8]) -> Result<(), Refusal> {
        if !self.has(&name) {
            self.keep(name, text)?;
        }
        self.cache.stay(&name);
        Ok(())
    }

    /// Forgets everything.
    pub fn forget(self) {
        let State { shared, .. } = self;
        shared.metrics.scripts.set(0);
        shared.metrics.script_memory.set(0);
    }

    /// Runs a script. An error takes back what it has changed.
    pub fn run(
        &mut self,
        request: &Request<'_>,
        parts: &mut dyn Parts,
    ) -> Result<Reply<'static>, Refusal> {
        let kept = self.cache.used(&request.name).expect("it was looked up or kept");
        let (function, flags) = (kept.function.clone(), kept.flags);
        admit(flags, request, parts)?;
        self.runs += 1;
        *self.run.end.lock() = None;
        *self.run.random.lock() = Random::new(self.seeds.hash_one(self.runs) as u32);
        *self.run.json.lock() = json::Settings::default();
        self.run.version.store(2, Ordering::Relaxed);
        self.run.watch.begin();
        hook::begin(&self.lua, &self.run).map_err(broken)?;
        let outcome = self.call(&function, flags, request, parts);
        self.run.watch.end();
        self.tidy();
        outcome
    }

    fn call(
        &self,
        function: &Function,
        flags: Flags,
        request: &Request<'_>,
        parts: &mut dyn Parts,
    ) -> Result<Reply<'static>, Refusal> {
        let max_reply = parts.max_reply();
        let mut caller = Caller {
            parts,
            run: &self.run,
            limits: &self.shared.limits,
            is_read_only: request.is_read_only || flags.no_writes,
            has_written: request.has_written,
            time: None,
        };
        let called = call::with(&mut caller, || self.called(function, request));
        memory::hold(&self.lua).map_err(broken)?;
        if let Some(why) = self.run.end.lock().take() {
            return Err(why);
        }
        match called {
            Ok((true, value)) => {
                let is_resp2 = self.run.version.load(Ordering::Relaxed) == 2;
                // Nothing is made in Lua but the names of some fields, for each table anew.
                let make = || values::reply(&self.run, &value, is_resp2, max_reply);
                let made = memory::lifted(&self.lua, 0, make).map_err(broken)?;
                self.run.end.lock().take().map_or(made, Err)
            }
            Ok((false, error)) => Err(Refusal::Error(failure(&request.name, &error).into())),
            Err(why) => Err(broken(why)),
        }
    }

    /// Whether the script came to its end, and its value or its error.
    fn called(&self, function: &Function, request: &Request<'_>) -> mlua::Result<(bool, Value)> {
        let Request { keys, arguments, .. } = request;
        let words = keys.iter().chain(*arguments);
        if keys.len() + arguments.len() > FEW_WORDS {
            self.base.raw_set("KEYS", self.strings(keys)?)?;
            self.base.raw_set("ARGV", self.strings(arguments)?)?;
            return self.runner.call((function, Value::Nil));
        }
        memory::lift(&self.lua, words.clone().map(|word| word.len()).sum())?;
        let word = |word: &&'_ [u8]| match std::str::from_utf8(word) {
            Ok(text) => Ok(Given::Left(text.to_owned())),
            Err(_) => self.lua.create_string(word).map(|word| Given::Right(Either::Left(word))),
        };
        let given = words.map(word).chain([Ok(Given::Right(Either::Right(Hold)))]);
        let given = given.collect::<mlua::Result<Variadic<Given>>>()?;
        self.runner.call((function, keys.len(), given))
    }

    fn strings(&self, words: &[&[u8]]) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(words.len(), 0)?;
        for (place, word) in words.iter().enumerate() {
            table.raw_set(place + 1, self.lua.create_string(word)?)?;
        }
        Ok(table)
    }

    /// After a script that has left much, makes room for the next one.
    fn tidy(&mut self) {
        if self.lua.used_memory() > self.live + GARBAGE_BYTES {
            let cleared = ["KEYS", "ARGV"].map(|name| self.base.raw_set(name, false));
            let collected = self.lua.gc_collect();
            if collected.is_err() || cleared.iter().any(Result::is_err) {
                log::warn!("the memory of scripts cannot be collected: {collected:?} {cleared:?}");
            }
            self.live = self.lua.used_memory();
        }
        self.count();
    }

    fn count(&self) {
        let metrics = &self.shared.metrics;
        metrics.scripts.set(self.cache.count() as u64);
        metrics.script_memory.set(self.lua.used_memory() as u64);
        metrics.evicted_scripts.set(self.cache.evicted);
    }
}

/// A word for a script, in the form that is handed over fastest, or what is handed over last.
type Given = Either<String, Either<mlua::String, Hold>>;

fn broken(why: mlua::Error) -> Refusal {
    Refusal::Error(format!("ERR {}", error::text(error::root(&why))).into())
}

/// Whether a script may begin.
fn admit(flags: Flags, request: &Request<'_>, parts: &mut dyn Parts) -> Result<(), Refusal> {
    if request.is_read_only && flags.declared && !flags.no_writes {
        return Err("ERR Can not execute a script with write flag using *_ro command.".into());
    }
    if flags.may_grow() && parts.is_full() {
        return Err(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > \
                    'maxmemory'"
                .into(),
        );
    }
    Ok(())
}

/// The error of a script that has failed: its text, its name, and the place if one is known.
fn failure(name: &Name, error: &Value) -> String {
    let name = String::from_utf8_lossy(name);
    let without_place = |text: &str| format!("ERR {text} script: {name}.");
    let error = match error {
        Value::Table(error) => error,
        // Without memory, or without stack, Lua asks nobody to describe its error.
        Value::String(text) => return without_place(&text.to_string_lossy()),
        Value::Error(why) => return without_place(&error::text(error::root(why))),
        _ => return without_place("unknown error"),
    };
    let bytes = |field: &str| -> Option<String> {
        let value = error.raw_get::<Value>(field).ok()?;
        match value {
            Value::String(text) => Some(String::from_utf8_lossy(&text.as_bytes()).into_owned()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    };
    let text = bytes("err").unwrap_or_else(|| "ERR unknown error".to_owned());
    match (bytes("source"), bytes("line")) {
        (Some(source), Some(line)) => format!("{text} script: {name}, on {source}:{line}."),
        // A tail call leaves no trace of the function that made it.
        _ => format!("{text} script: {name}."),
    }
}

/// The function behind `loadstring`: text only, since a script made of bytes could do anything.
fn compiler(lua: &Lua, run: &Arc<Run>, environment: &Table) -> mlua::Result<Function> {
    let (run, environment) = (run.clone(), environment.clone());
    lua.create_function(move |lua, (text, name): (mlua::String, mlua::String)| {
        let bytes = text.as_bytes();
        run.go_on_after(bytes.len())?;
        let name = String::from_utf8_lossy(&name.as_bytes()).replace('\0', " ");
        match compiled(lua.load(&*bytes), &name, &environment) {
            Ok(function) => Ok((Some(function), None)),
            Err(why) => Ok((None, Some(error::text(error::root(&why))))),
        }
    })
}

fn compiled(chunk: Chunk<'_>, name: &str, environment: &Table) -> mlua::Result<Function> {
    chunk
        .set_name(name)
        .set_mode(ChunkMode::Text)
        .set_environment(environment.clone())
        .into_function()
}
