//! Scripts that run until they are killed: whatever they do meanwhile, SCRIPT KILL ends them.

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, Server, eventually};

/// Each would take minutes between two looks at the clock if only instructions of Lua were counted.
const LONG: [&str; 15] = [
    "pcall(table.insert,{1},2147483648,1) while true do end",
    "pcall(table.insert,{1},'-2000000000',1) while true do end",
    "local s=string.rep('x',1e7) while true do redis.sha1hex(s) end",
    "local s=string.rep('x=1 ',3e5) while true do loadstring(s) end",
    "local s=string.rep('/',1e7) while true do cjson.encode(s) end",
    "local s='\"'..string.rep('x',2e7)..'\"' while true do cjson.decode(s) end",
    "local s=string.rep('x',2e7) while true do s:upper() s:lower() s:reverse() end",
    "local s=string.rep('\"',1e7) while true do string.format('%q',s) end",
    "local s=string.rep(' ',2e7) while true do tonumber(s) end",
    "local t={} for i=1,2e6 do t[i]=1 end while true do table.maxn(t) end",
    "local t={} for i=1,5e5 do t[i]='a' end while true do table.concat(t) end",
    "local s=string.rep('x',2e7) while true do redis.call('set','k',s) end",
    "local s=string.rep('x',5e6)
     while true do coroutine.wrap(function() for i=1,90 do local _=s..i end end)() end",
    "string.find(string.rep('a',50000),'['..string.rep('b',100000)..']*z') while true do end",
    "string.find(string.rep('a',50000),'['..string.rep('b',100000)..']-z') while true do end",
];

#[test]
fn a_script_can_be_killed_whatever_it_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut killer = Client::connect(&server);
    for script in LONG {
        let mut client = Client::connect(&server);
        client.send(request(["EVAL", script, "0"]));
        eventually("the script runs and is killed", || {
            ask(&mut killer, ["SCRIPT", "KILL"]) == Value::ok()
        });
        let ended = reply(&mut client).unwrap_or_else(|why| panic!("{script}: {why}"));
        assert_eq!(
            ended,
            Value::error("ERR Script killed by user with SCRIPT KILL..."),
            "{script}"
        );
    }
    assert_eq!(say(&mut killer, "EXISTS k"), Value::Integer(0), "what they did is taken back");
    server.stop();
}
