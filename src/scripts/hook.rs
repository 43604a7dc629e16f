//! Has Lua ask at the pace of `pace` whether the script may go on.

use std::sync::Arc;

use mlua::{HookTriggers, Lua, VmState};

use super::memory;
use super::pace::Pace;
use super::run::Run;

/// A script begins.
pub fn begin(lua: &Lua, run: &Arc<Run>) -> mlua::Result<()> {
    if run.pace.begin() { set(lua, run, Pace::default()) } else { Ok(()) }
}

/// Has Lua ask at this pace from now on: the coroutine that is running, and those that it makes.
pub fn set(lua: &Lua, run: &Arc<Run>, pace: Pace) -> mlua::Result<()> {
    let run = run.clone();
    let every = HookTriggers::new().every_nth_instruction(pace.instructions());
    lua.set_global_hook(every, move |lua, _| {
        memory::hold(lua)?;
        run.go_on()?;
        if let Some(pace) = run.pace.look() {
            set(lua, &run, pace)?;
        }
        Ok(VmState::Continue)
    })
}
