//! Scripts that were written to do harm: to the next script, to other clients, or to the server.

use std::time::Instant;

use rustix::process::Signal;

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, PATIENCE, Server, eventually};

fn eval(client: &mut Client, script: &str) -> Value {
    client.send(request(["EVAL", script, "0"].map(|word| word.as_bytes().to_vec())));
    reply(client).expect("the server answers")
}

fn error(value: &Value) -> String {
    match value {
        Value::Error(text) => text.clone(),
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn no_script_changes_what_the_next_one_sees() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let refused = "Attempt to modify a readonly table";
    for script in [
        "evil = 1",
        "string.evil = 1",
        "_G.evil = 1",
        "_G = {}",
        "redis.call = nil",
        "cjson.encode = nil",
        "rawset(string, 'evil', 1)",
        "rawset(_G, 'evil', 1)",
        "table.insert(_G, 'evil')",
        "table.insert(redis, 'evil')",
        "table.remove(math)",
        "table.sort(string)",
        "setmetatable(_G, {})",
        "setmetatable(string, {})",
        "getmetatable('').__index = nil",
        "getmetatable(_G).__index = {}",
        "local _, t = pairs(string) t.evil = 1",
        "local _, t = pairs(_G) rawset(t, 'evil', 1)",
        "for _, t in pairs(_G) do if type(t) == 'table' then t.evil = 1 end end",
    ] {
        let text = error(&eval(&mut client, script));
        assert!(text.contains(refused), "{script}: {text}");
    }
    for name in [
        "getfenv", "setfenv", "newproxy", "io", "os", "debug", "require", "package", "print",
        "dofile", "loadfile", "evil",
    ] {
        let text = error(&eval(&mut client, &format!("return {name}")));
        let said = format!("Script attempted to access nonexistent global variable '{name}'");
        assert!(text.contains(&said), "{text}");
    }
    // These are the script's own, or have no effect.
    for script in [
        "KEYS[1] = 'evil' ARGV.evil = 1 return 1",
        "cjson.encode_max_depth(1) cjson.encode_invalid_numbers(true) return 1",
        "collectgarbage() collectgarbage('step') return 1",
        "math.randomseed(1) redis.setresp(3) return 1",
    ] {
        assert_eq!(eval(&mut client, script), Value::Integer(1), "{script}");
    }
    let fresh = "return #KEYS == 0 and ARGV.evil == nil and cjson.encode({{1}}) == '[[1]]' and redis.call('get', 'none') == false";
    assert_eq!(eval(&mut client, fresh), Value::Integer(1));
    server.stop();
}

#[test]
fn a_script_that_nests_or_grows_without_end_fails_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for script in [
        "local function f() return 1 + f() end return f()",
        "local function f() return coroutine.wrap(f)() end return f()",
        "local function f() return (string.gsub('a', 'a', f)) end return f()",
        "local function f() table.sort({1, 2, 3}, f) return true end return f()",
        "local t = {} setmetatable(t, {__index = function(t, k) return t[k] end}) return t.x",
        "return loadstring(string.rep('(', 5000))()",
        "return loadstring('return ' .. string.rep('function() return ', 300))()",
        "return loadstring(string.dump(function() return 1 end))()",
        "return string.find(string.rep('a', 200000), string.rep('a?', 100000) .. 'b')",
        "return string.rep('x', 2^31 - 1)",
        "local s = 'x' while true do s = s .. s end",
        // The text of 2^60 strings, of which 64 MiB are written.
        "local t = {string.rep('x', 10000)} for _ = 1, 60 do t = {t, t} end return cjson.encode(t)",
        "return table.insert({1}, -2147483648, 1)",
        "return unpack({}, 1, 1e8)",
        "return cjson.decode(string.rep('[', 100000))",
    ] {
        error(&eval(&mut client, script));
        assert_eq!(eval(&mut client, "return 7"), Value::Integer(7), "after {script}");
    }
    for script in [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {string.rep('x', 10000)} for _ = 1, 60 do t = {t, t} end return cjson.encode(t)",
    ] {
        let text = error(&eval(&mut client, script));
        assert!(text.starts_with("ERR not enough memory script: "), "{script}: {text}");
    }
    // Redis's way: the innermost value is an error.
    eval(&mut client, "local t = {} t[1] = t return t");
    assert_eq!(
        eval(&mut client, "local function f() return pcall(f) end return tostring(f())"),
        Value::Bulk(b"true".to_vec())
    );
    server.stop();
}

/// Has `busy` run a script until the server tells `other` of it.
fn run_until_busy(busy: &mut Client, other: &mut Client, script: &str) {
    busy.send(request(["EVAL", script, "0"].map(|word| word.as_bytes().to_vec())));
    let deadline = Instant::now() + PATIENCE;
    while !matches!(say(other, "PING"), Value::Error(text) if text.starts_with("BUSY ")) {
        assert!(Instant::now() < deadline, "{script}: no other client is told");
    }
}

#[test]
fn a_script_that_does_not_end_is_killed_whatever_it_catches_and_has_changed_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-busy-reply-threshold", "50"]);
    let (mut busy, mut other) = (Client::connect(&server), Client::connect(&server));
    say(&mut other, "SET k before");
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "local s = string.rep('a', 40) while true do pcall(string.find, s, string.rep('a-', 30) .. 'b') end",
        "while true do pcall(redis.call, 'incr', 'k2') end",
        "while true do pcall(table.sort, {1, 2, 3}, function() while true do end end) end",
        // Without an instruction of the script: from table to table, twice as many calls at each.
        "local f, t, u = table.foreach, {}, {} for _ = 1, 60 do t, u = {[t] = f, [u] = f}, {[t] = f, [u] = f} end f(t, f)",
    ] {
        let script = format!("redis.call('set', 'k', 'after') {body}");
        run_until_busy(&mut busy, &mut other, &script);
        assert_eq!(say(&mut other, "SCRIPT KILL"), Value::ok());
        let text = error(&reply(&mut busy).expect("the server answers"));
        assert_eq!(text, "ERR Script killed by user with SCRIPT KILL...", "{body}");
        eventually("the script is over", || {
            say(&mut other, "PING") == Value::Simple("PONG".into())
        });
        assert_eq!(say(&mut other, "GET k"), Value::Bulk(b"before".to_vec()), "{body}");
        assert_eq!(say(&mut other, "GET k2"), say(&mut other, "GET none"), "{body}");
    }
    assert!(error(&say(&mut other, "SCRIPT KILL")).starts_with("NOTBUSY "));
    server.stop();
}

#[test]
fn a_server_that_is_told_to_stop_ends_a_script_which_has_then_changed_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    for way in ["SIGTERM", "SHUTDOWN NOSAVE"] {
        let server = Server::start(dir.path(), &["-busy-reply-threshold", "50"]);
        let (mut busy, mut other) = (Client::connect(&server), Client::connect(&server));
        let script =
            "redis.call('set', 'k', 'after') while true do pcall(redis.call, 'incr', 'n') end";
        run_until_busy(&mut busy, &mut other, script);
        match way {
            "SIGTERM" => server.signal(Signal::TERM),
            words => other.send(request(words.split(' ').collect::<Vec<_>>())),
        }
        let text = error(&reply(&mut busy).expect("the server answers before it stops"));
        assert_eq!(
            text, "ERR the server stops and has ended the script; nothing was changed",
            "{way}"
        );
        let (status, log) = server.wait();
        assert!(status.success(), "{way}: {status}: {log}");
    }
    let server = Server::start(dir.path(), &[]);
    assert_eq!(say(&mut Client::connect(&server), "EXISTS k n"), Value::Integer(0));
    server.stop();
}

#[test]
fn a_full_memory_refuses_a_script_at_its_start_and_ends_one_that_allowed_itself_to_begin() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory", "1mb", "-fsync", "no"]);
    let mut client = Client::connect(&server);
    let filled = "local n = 0 repeat n = n + 1 \
                  local r = redis.pcall('set', 'k' .. n, string.rep('x', 1000)) \
                  until type(r) == 'table' and r.err return n";
    let text = error(&eval(&mut client, filled));
    assert!(text.starts_with("OOM command not allowed"), "pcall does not catch it: {text}");
    assert_eq!(say(&mut client, "DBSIZE"), Value::Integer(0), "and nothing stays");

    let value = "x".repeat(100_000);
    (0..).find(|n: &u32| ask(&mut client, ["SET", &n.to_string(), &value]) != Value::ok());
    assert_eq!(say(&mut client, "CONFIG SET maxmemory 100kb"), Value::ok());
    let refused = error(&eval(&mut client, "return redis.call('set', 'k', '1')"));
    assert!(refused.starts_with("OOM command not allowed"), "{refused}");
    let refused = error(&eval(&mut client, "#!lua\nreturn redis.call('set', 'k', '1')"));
    assert!(refused.starts_with("OOM allow-oom flag is not set on the script"), "{refused}");
    assert_eq!(eval(&mut client, "#!lua flags=no-writes\nreturn 7"), Value::Integer(7));
    let frees = "#!lua flags=allow-oom\nreturn redis.call('del', '0', '1')";
    assert_eq!(eval(&mut client, frees), Value::Integer(2));
    assert_eq!(say(&mut client, "CONFIG SET maxmemory 1mb"), Value::ok());
    assert_eq!(eval(&mut client, "return redis.call('set', 'k', '1')"), Value::ok());
    server.stop();
}
