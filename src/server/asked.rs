//! What commands may ask of their connection and, through it, of the server.

use std::time::Duration;

use super::Shutdown;
use super::logins::Verdict;
use super::refused::Refusing;
use super::session::Session;
use crate::command::{
    Calls, Client, Group, KillFilter, Label, Listed, Mark, Paused, Refused, RefusedFor, Replying,
    RespVersion, Scope, Slow, Spec, Switch, Text, Topic, TrackingState, User, Words,
};
use crate::commands;
use crate::engine::NotCompacted;

/// Failed logins after which a connection is closed: a person mistypes less often, and a pipeline of guesses
/// ends there.
const FAILED_LOGINS: u32 = 10;

/// How often SAVE looks whether its compaction has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// Redis's text begins like this.
const NO_USERS_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. Start the server with \
                             -users-file";

fn not_compacted(why: NotCompacted) -> Text {
    match why {
        NotCompacted::Running => {
            "ERR Background append only file rewriting already in progress".into()
        }
        NotCompacted::NoLog => "ERR nothing is kept on disk, so there is nothing to compact".into(),
        NotCompacted::Closed(why) => {
            format!("ERR Can't execute an AOF background rewriting: {why}").into()
        }
    }
}

impl Client for Session<'_> {
    fn commands(&self) -> &'static [Spec] {
        commands::table()
    }

    fn find_command(&self, words: &Words<'_>) -> Result<&'static Spec, Option<&'static Spec>> {
        commands::find(words)
    }

    fn id(&self) -> u64 {
        self.outbox.id
    }

    fn needs_password(&self) -> bool {
        self.shared.settings.accounts.needs_password()
    }

    fn user(&self) -> User {
        let login = self.outbox.profile.info().login;
        login.map_or_else(User::default, |login| login.user.clone())
    }

    fn users(&self) -> Vec<User> {
        self.shared.settings.accounts.all()
    }

    fn reload_users(&mut self) -> Result<(), Text> {
        let reloaded = self.shared.settings.accounts.reload().ok_or(NO_USERS_FILE)?;
        reloaded.map_err(|why| format!("ERR {why:#} WARNING: ACL errors detected, no change to the previously active ACL rules was performed"))?;
        self.shared.end_stale_logins();
        Ok(())
    }

    fn is_logged_in(&self) -> bool {
        self.parser.authenticated
    }

    fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), Text> {
        let accounts = &self.shared.settings.accounts;
        let mut found = None;
        let is_right = || {
            found = accounts.find(user, password);
            found.is_some()
        };
        let address = &self.outbox.profile.address;
        let pause = |time| self.outbox.pause(time);
        let error = match self.shared.logins.judge(address, is_right, pause) {
            Verdict::Right => {
                self.enter(found);
                // The password may have been replaced since, by a thread that closed only the logins it saw.
                if self.holds() {
                    self.failed_logins = 0;
                    return Ok(());
                }
                self.enter(None);
                WRONG_PASSWORD
            }
            Verdict::Wrong => {
                self.shared.metrics.failed_logins.add(1);
                let command = self.outbox.profile.info().command;
                let what = Refusing { reason: RefusedFor::Login, context: "toplevel", command };
                self.shared.logins.refused.note(what, user, self.outbox.line());
                WRONG_PASSWORD
            }
            Verdict::NotLookedAt => {
                "ERR too many logins from this address fail, this one was not looked at, try again later"
            }
        };
        self.failed_logins += 1;
        self.ends |= self.failed_logins >= FAILED_LOGINS;
        Err(error.into())
    }

    fn speak(&mut self, wanted: Option<RespVersion>) -> RespVersion {
        let version = wanted.unwrap_or(self.parser.version);
        if version != self.parser.version {
            // A message in the new version would not be understood before the reply.
            self.outbox.hold_messages();
        }
        self.parser.version = version;
        self.outbox.speak(version);
        self.outbox.profile.note(|info| info.resp = version.number());
        version
    }

    fn name(&self) -> String {
        self.outbox.profile.info().name
    }

    fn set_label(&self, label: Label, text: String) {
        self.outbox.profile.note(|info| match label {
            Label::Name => info.name = text,
            Label::Library => info.lib_name = text,
            Label::LibraryVersion => info.lib_version = text,
        });
    }

    fn line(&self) -> String {
        self.outbox.line()
    }

    fn lines(&self, listed: &Listed) -> Option<String> {
        self.shared.clients.list(listed, self.shared.settings.unread.one)
    }

    fn kill(&mut self, filter: &KillFilter) -> usize {
        let (killed, is_asking) = self.shared.clients.kill(filter, self.outbox.id);
        self.ends |= is_asking;
        killed
    }

    fn info(&self, sections: &[String]) -> String {
        self.shared.info(sections)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        self.shared.shown_settings()
    }

    fn change_settings(&self, pairs: &[[&[u8]; 2]]) -> Result<(), Text> {
        self.shared.change_settings(pairs)
    }

    fn reset_statistics(&self) {
        self.shared.metrics.reset();
    }

    fn slow_commands(&self, most: usize) -> Vec<Slow> {
        self.shared.metrics.slow.latest(most)
    }

    fn slow_count(&self) -> usize {
        self.shared.metrics.slow.count()
    }

    fn forget_slow(&self) {
        self.shared.metrics.slow.reset();
    }

    fn latency_samples(&self) -> (Vec<(i64, i64)>, i64) {
        self.shared.metrics.slow.samples()
    }

    fn forget_latency(&self) {
        self.shared.metrics.slow.reset_samples();
    }

    fn latency_histograms(&self) -> Vec<Calls> {
        self.shared.metrics.commands.histograms()
    }

    fn compact(&self) -> Result<(), Text> {
        self.shared.engine.compact().map_err(not_compacted)
    }

    fn compact_soon(&self) -> Result<bool, Text> {
        self.shared.engine.compact_soon().map_err(not_compacted)
    }

    /// After the running compaction, if there is one, which began before the latest writes.
    fn save(&mut self) -> Result<(), Text> {
        let stats = &self.shared.metrics.compaction;
        let ended = || stats.done.get() + stats.failed.get();
        let before = ended();
        let awaited = if self.compact_soon()? { 1 } else { 2 };
        while ended() < before + awaited {
            let stops = self.shared.stop.get().is_some_and(Shutdown::is_asked);
            if stops || !self.outbox.pause(LOOK_AGAIN) {
                return Err("ERR the server stops".into());
            }
        }
        match stats.error() {
            why if why.is_empty() => Ok(()),
            why => Err(format!("ERR the log could not be compacted: {why}").into()),
        }
    }

    fn shut_down(&mut self) {
        log::info!("client {}: SHUTDOWN, stopping", self.outbox.id);
        if let Some(shutdown) = self.shared.stop.get() {
            shutdown.ask();
        }
        self.has_stopped = true;
    }

    fn refusals(&self, most: usize) -> Vec<Refused> {
        self.shared.logins.refused.latest(most)
    }

    fn forget_refusals(&self) {
        self.shared.logins.refused.forget();
    }

    fn fill_with_random(&self, bytes: &mut [u8]) -> Result<(), Text> {
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += match rustix::rand::getrandom(&mut bytes[filled..], flags) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => 0,
                Err(why) => {
                    let text = format!("ERR the operating system gives no random bytes: {why}");
                    return Err(text.into());
                }
            };
        }
        Ok(())
    }

    fn kill_script(&mut self) -> Result<(), Text> {
        self.shared.scripts.kill()
    }

    fn channels(
        &self,
        scope: Scope,
        fits: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Option<Vec<Box<[u8]>>> {
        self.shared.hub.channels(scope, self.shared.settings.unread.one, fits)
    }

    fn subscribers(&self, topic: Topic, name: &[u8]) -> usize {
        self.shared.hub.subscribers(topic, name)
    }

    fn patterns(&self) -> usize {
        self.shared.hub.patterns()
    }

    fn tracking(&self) -> Option<TrackingState> {
        self.tracks?;
        self.shared.hub.tracking.of(self.outbox.id)
    }

    fn track(&mut self, state: Option<TrackingState>) -> Result<(), Text> {
        self.caching_given = false;
        let hub = &self.shared.hub;
        let Some(state) = state else {
            self.tracks = None;
            self.outbox.profile.note_tracking(None);
            hub.tracking.end(self.outbox.id);
            return Ok(());
        };
        let redirect = match state.redirect {
            0 => None,
            id => self.shared.clients.find(id),
        };
        if !hub.tracking.begin(self.outbox, &state, redirect) {
            return Err("ERR all clients together have too many prefixes".into());
        }
        self.outbox.profile.note_tracking(Some(&state));
        self.tracks = Some(state.mode);
        Ok(())
    }

    fn give_caching(&mut self) {
        self.caching_given = true;
    }

    fn has_given_caching(&self) -> bool {
        self.caching_given
    }

    fn set_replying(&mut self, replying: Replying) {
        self.muted.set(replying);
    }

    fn set_mark(&self, mark: Mark, switch: Switch) {
        self.outbox.profile.set_mark(mark, switch);
    }

    fn pause(&self, paused: Paused, time: Duration) -> bool {
        self.shared.pause.begin(paused, time)
    }

    fn end_pause(&self) {
        self.shared.pause.end();
    }

    fn is_connected(&self, id: u64) -> bool {
        self.shared.clients.find(id).is_some()
    }

    fn group(&self) -> Option<Group> {
        self.shared.settings.nodes.as_ref().map(|nodes| nodes.group())
    }

    fn saved_at(&self) -> i64 {
        self.shared.saved_at()
    }
}
