//! What a connection remembers between requests: whether it is logged in, its version of RESP, its
//! transaction. Decides what becomes of a request.
//!
//! It touches no data: a transaction is gathered here and carried out by the engine as one command. The
//! client's thread does what the transaction asks of the connection or the server, after the part about
//! data: so that is not done if a watched key has changed, and never burdens the committer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Shared;
use super::accounts::Login;
use super::muted::Muted;
use super::outbox::Outbox;
use super::profile::ClientInfo;
use super::pubsub::{Say, Subscriptions};
use super::refused::Refusing;
use super::transaction::{Deferred, Later, Transaction};
use crate::command::{
    AskFn, Client, Command, Label, Mark, Packed, Paused, RefusedFor, Reply, RespVersion, Rights,
    Run, SessionCommand, Spec, Switch, Text, TrackingMode, Watcher, Words,
};
use crate::commands;
use crate::engine;
use crate::protocol::{self, Parser};

/// The reply to almost everything while a script runs for long.
const BUSY: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

/// Redis's error for MONITOR in a transaction.
const NO_MONITOR: &str = "ERR MONITOR isn't allowed for DENY BLOCKING client";

/// One connection's state.
///
/// - If `no_database` is set, the client believes to be in a database that does not exist: commands about
///   data are answered with this error, so that they do not change database 0.
pub struct Session<'a> {
    pub(super) shared: &'a Shared,
    pub(super) outbox: &'a Arc<Outbox>,
    pub(super) parser: Parser,
    /// What its user may do.
    rights: Rights,
    pub(super) failed_logins: u32,
    /// The number of the database that it has selected.
    pub(super) database: u16,
    /// The connection ends after the current reply.
    pub(super) ends: bool,
    /// It ends without one, because the client has stopped the server.
    pub(super) has_stopped: bool,
    transaction: Option<Transaction<'a>>,
    watcher: Arc<Watcher>,
    /// It may watch something, so the engine has to be told when it ends.
    watches: bool,
    no_database: Option<Text>,
    subscriptions: Subscriptions<'a>,
    /// How it tracks what it reads, if it does.
    pub(super) tracks: Option<TrackingMode>,
    /// CLIENT CACHING was given for the next command.
    pub(super) caching_given: bool,
    /// Which replies are not sent.
    pub(super) muted: Muted,
}

/// What to do with a request.
pub struct Step {
    /// The command to carry out, or one that has its reply.
    pub command: Command,
    /// Commands to carry out after it; their replies become part of its reply.
    pub deferred: Vec<Deferred>,
}

impl From<Command> for Step {
    fn from(command: Command) -> Step {
        Step { command, deferred: Vec::new() }
    }
}

impl From<Reply<'static>> for Step {
    fn from(reply: Reply<'static>) -> Step {
        Command::Answered(reply).into()
    }
}

impl<'a> Session<'a> {
    /// The session of a new connection.
    pub fn new(shared: &'a Shared, outbox: &'a Arc<Outbox>) -> Session<'a> {
        let settings = &shared.settings;
        let parser = Parser::new(false, settings.limits);
        let watcher = outbox.profile.watcher.clone();
        let mut session = Session {
            shared,
            outbox,
            parser,
            failed_logins: 0,
            database: 0,
            ends: false,
            has_stopped: false,
            transaction: None,
            watcher,
            watches: false,
            no_database: None,
            subscriptions: Subscriptions::new(&shared.hub, outbox),
            tracks: None,
            caching_given: false,
            muted: Muted::default(),
            rights: Rights::All,
        };
        session.enter(settings.accounts.without_password());
        session
    }

    /// Begins to be logged in like this, or not at all.
    pub(super) fn enter(&mut self, login: Option<Login>) {
        self.parser.authenticated = login.is_some();
        self.rights = login.as_ref().map_or(Rights::All, |login| login.user.rights);
        self.outbox.profile.note(|info| {
            info.left_at = info.login.is_some().then(Instant::now).or(info.left_at);
            info.login = login.map(Arc::new);
        });
    }

    /// Whether its login still holds.
    pub(super) fn holds(&self) -> bool {
        let login = self.outbox.profile.info().login;
        login.is_some_and(|login| self.shared.settings.accounts.holds(&login))
    }

    /// Fills in what CLIENT LIST shows of the transaction and the parser.
    pub fn tell(&self, info: &mut ClientInfo) {
        info.database = self.database;
        info.queued = self.transaction.as_ref().map(|transaction| transaction.commands.len());
        info.queued_bytes = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
        info.arguments = self.parser.bytes();
    }

    /// Decides what becomes of a request.
    pub fn step(&mut self, asked: commands::Asked, words: &Words<'_>) -> Step {
        let commands::Asked { named, found, .. } = asked;
        if !self.parser.authenticated && !named.is_some_and(|spec| spec.has("no_auth")) {
            return self.refuse("NOAUTH Authentication required.".into());
        }
        let spec = match found {
            Ok(spec) => spec,
            Err(text) if named.is_some_and(|spec| spec.name == "exec") => {
                return self.refuse_exec(&text);
            }
            Err(text) => return self.refuse(text),
        };
        match self.refusal(spec) {
            Some(text) => self.refuse(text),
            None => self.begin(spec, words),
        }
    }

    /// Why a command is not carried out now, whatever its words are.
    fn refusal(&self, spec: &Spec) -> Option<Text> {
        if !commands::may(self.rights, spec) {
            return Some(self.no_permission(spec));
        }
        if self.shared.scripts.is_busy() && !spec.has("allow_busy") {
            return Some(BUSY.into());
        }
        if self.hears_only() && !is_heard(spec) {
            return Some(not_heard(spec));
        }
        if self.transaction.is_some() && spec.has("no_multi") {
            return Some("ERR Command not allowed inside a transaction".into());
        }
        let no_database = match &self.transaction {
            None => &self.no_database,
            Some(transaction) => &transaction.no_database,
        };
        no_database.clone().filter(|_| spec.is_about_data())
    }

    fn no_permission(&self, spec: &Spec) -> Text {
        let user = self.user().name;
        let context = if self.transaction.is_some() { "multi" } else { "toplevel" };
        let what = Refusing { reason: RefusedFor::Command, context, command: spec.name };
        self.shared.metrics.denied_commands.add(1);
        self.shared.logins.refused.note(what, user.as_bytes(), self.outbox.line());
        format!("NOPERM {}", commands::no_permission(&user, spec)).into()
    }

    fn begin(&mut self, spec: &'static Spec, words: &Words<'_>) -> Step {
        let mistake = |text| Command::Answered(Reply::Error(text));
        let command = match spec.run {
            Run::Core(make) => make(words).unwrap_or_else(mistake),
            Run::Read(_) | Run::Walk(_) | Run::Write(_) => Command::Call(spec, Packed::new(words)),
            Run::Say(_) if self.hears_only() && spec.name == "ping" => {
                let message = words.get(1).copied().unwrap_or_default();
                let pong = Reply::bulk(b"pong");
                Command::Answered(Reply::Array(vec![pong, Reply::bulk(message)]))
            }
            Run::Say(say) => say(words).map_or_else(mistake, Command::Answered),
            Run::Ask(ask) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.gives_caching |= spec.name == "client|caching";
                }
                return self.ask(ask, words);
            }
            Run::Session(SessionCommand::Subscribe(_) | SessionCommand::Unsubscribe(_)) => {
                let later = Later::Hear(spec, Packed::new(words));
                return match &mut self.transaction {
                    // The connection has it answered at once.
                    None => unreachable!("it is answered among the messages"),
                    Some(transaction) => {
                        transaction.gather(Command::Answered(Reply::Null), Some(later)).into()
                    }
                };
            }
            Run::Session(SessionCommand::Monitor) => mistake(NO_MONITOR.into()),
            Run::Session(command) => return self.obey(command, words),
            Run::Script(script) => {
                self.shared.scripts.command(script, words).unwrap_or_else(mistake)
            }
        };
        match &mut self.transaction {
            None => command.into(),
            Some(transaction) => transaction.gather(command, None).into(),
        }
    }

    fn ask(&mut self, ask: AskFn, words: &Words<'_>) -> Step {
        match &mut self.transaction {
            None => ask(self, words).unwrap_or_else(Reply::Error).into(),
            Some(transaction) => {
                let later = Later::Ask(ask, Packed::new(words));
                transaction.gather(Command::Answered(Reply::Null), Some(later)).into()
            }
        }
    }

    /// Does at EXEC what had to wait for it. `None` if `say` got all that is to be answered.
    pub fn catch_up(&mut self, deferred: Deferred, say: &mut Say<'_>) -> Option<Reply<'static>> {
        match deferred.what {
            Later::Ask(ask, words) => Some(ask(self, &words.list()).unwrap_or_else(Reply::Error)),
            Later::Select(number) => {
                (self.database, self.no_database) = (number, None);
                Some(Reply::Ok)
            }
            Later::Hear(spec, words) => {
                self.hear(spec, &words.list(), say);
                None
            }
        }
    }

    /// Subscribes to what the words name, or ends that, and says so.
    pub fn hear(&mut self, spec: &Spec, words: &Words<'_>, say: &mut Say<'_>) {
        match spec.run {
            _ if let Some(text) = self.refusal(spec) => {
                let mut spelled = Vec::new();
                protocol::encode_resp(self.parser.version, &Reply::Error(text), &mut spelled);
                say(&spelled);
            }
            Run::Session(SessionCommand::Subscribe(topic)) => {
                self.subscriptions.subscribe(topic, &words[1..], say);
            }
            Run::Session(SessionCommand::Unsubscribe(topic)) => {
                self.subscriptions.unsubscribe(topic, &words[1..], say);
            }
            Run::Session(SessionCommand::Monitor) => {
                self.shared.hub.monitors.add(self.outbox, || say(b"+OK\r\n"));
                self.outbox.profile.watches_all.store(true, Ordering::Relaxed);
            }
            _ => unreachable!("only these are answered among messages"),
        }
    }

    /// The pause that a request has to wait for, if there is one; `None` if it goes on all the same.
    pub fn held_by(&self, spec: &Spec) -> Option<Paused> {
        let is_about_clients = spec.name.starts_with("client");
        if is_about_clients || spec.name == "shutdown" || !self.parser.authenticated {
            return None;
        }
        let is_exec = matches!(spec.run, Run::Session(SessionCommand::Exec));
        let transaction = self.transaction.as_ref().filter(|_| is_exec);
        let changes = spec.has("write")
            || spec.has("may_replicate")
            || spec.publishes()
            || transaction.is_some_and(Transaction::changes);
        Some(if changes { Paused::Writes } else { Paused::All })
    }

    /// Whether the client may do nothing but hear: it could not tell a message from a reply.
    fn hears_only(&self) -> bool {
        self.parser.version == RespVersion::V2 && !self.subscriptions.is_empty()
    }

    /// Whether a request has to wait for all earlier replies, because its own are put among the messages.
    pub fn answers_among_messages(&self, spec: &Spec) -> bool {
        let is_about_messages = matches!(
            spec.run,
            Run::Session(
                SessionCommand::Subscribe(_)
                    | SessionCommand::Unsubscribe(_)
                    | SessionCommand::Monitor
            )
        );
        is_about_messages && self.transaction.is_none() && self.parser.authenticated
    }

    /// Ends all that other clients may cause to be sent: the connection is about to end.
    pub fn stop_hearing(&mut self) {
        self.subscriptions.end();
        self.shared.hub.forget(self.outbox.id);
        (self.tracks, self.caching_given) = (None, false);
        self.outbox.profile.note_tracking(None);
        self.outbox.profile.watches_all.store(false, Ordering::Relaxed);
    }

    /// Whether the client wants to know when something changes that its next command reads.
    pub fn remembers(&self) -> bool {
        match self.tracks {
            None | Some(TrackingMode::Broadcast) => false,
            Some(TrackingMode::All) => true,
            Some(TrackingMode::OptIn) => self.caching_given,
            Some(TrackingMode::OptOut) => !self.caching_given,
        }
    }

    /// CLIENT CACHING is about one command, or about one transaction; commands about the client do not count.
    pub fn end_caching(&mut self, named: Option<&Spec>) {
        let is_about_client = named.is_some_and(|spec| spec.name.starts_with("client"));
        if self.transaction.is_none() && !is_about_client {
            self.caching_given = false;
        }
    }

    /// Refuses a request with a word that is too long for any command.
    pub fn refuse_words(&mut self, text: Text) -> Step {
        match self.parser.authenticated {
            true => self.refuse(text),
            false => self.refuse("NOAUTH Authentication required.".into()),
        }
    }

    /// Answers with an error, which also aborts a transaction.
    fn refuse(&mut self, text: Text) -> Step {
        if let Some(transaction) = &mut self.transaction {
            transaction.abort();
        }
        Reply::Error(text).into()
    }

    /// Refuses an EXEC; that ends the transaction all the same.
    fn refuse_exec(&mut self, text: &str) -> Step {
        self.transaction = None;
        let reason = text.trim_start_matches("ERR ");
        let text = format!("EXECABORT Transaction discarded because of: {reason}");
        self.unwatch(Reply::Error(text.into()))
    }

    fn obey(&mut self, command: SessionCommand, words: &Words<'_>) -> Step {
        match command {
            SessionCommand::Multi if self.transaction.is_some() => {
                error("ERR MULTI calls can not be nested")
            }
            SessionCommand::Multi => {
                self.transaction = Some(Transaction::new(self.shared, self.no_database.clone()));
                Reply::Ok.into()
            }
            SessionCommand::Exec => self.exec(),
            SessionCommand::Discard => match self.transaction.take() {
                None => error("ERR DISCARD without MULTI"),
                Some(_) => self.unwatch(Reply::Ok),
            },
            SessionCommand::Watch => self.watch(words),
            SessionCommand::Unwatch => match &mut self.transaction {
                None => self.unwatch(Reply::Ok),
                // EXEC ends all watching anyway, and until then a transaction does nothing.
                Some(transaction) => transaction.gather(Command::Answered(Reply::Ok), None).into(),
            },
            SessionCommand::Select => self.select(words),
            SessionCommand::Subscribe(_)
            | SessionCommand::Unsubscribe(_)
            | SessionCommand::Monitor => {
                unreachable!("these are told apart before")
            }
            SessionCommand::Reset => self.reset(),
            SessionCommand::Quit => {
                self.ends = true;
                Reply::Ok.into()
            }
        }
    }

    fn exec(&mut self) -> Step {
        match self.transaction.take() {
            None => error("ERR EXEC without MULTI"),
            Some(Transaction { aborted: true, .. }) => self.unwatch(Reply::Error(
                "EXECABORT Transaction discarded because of previous errors.".into(),
            )),
            Some(Transaction { commands, deferred, gives_caching, .. }) => {
                // It counts for all reads of the transaction. (One that should not be tracked is tracked all the
                // same: that costs the client a read, and the opposite would leave it with an old value.)
                self.caching_given |= gives_caching && self.tracks == Some(TrackingMode::OptIn);
                let watcher = std::mem::take(&mut self.watches).then(|| self.watcher.clone());
                Step { command: Command::Transaction(commands, watcher), deferred }
            }
        }
    }

    fn watch(&mut self, words: &Words<'_>) -> Step {
        if self.transaction.is_some() {
            return error("ERR WATCH inside MULTI is not allowed");
        }
        match engine::distinct_watched_keys(&words[1..]) {
            Ok(keys) => {
                self.watches = true;
                Command::Watch(keys, self.watcher.clone()).into()
            }
            Err(too_many) => too_many.into(),
        }
    }

    /// Ends all watching, and answers with this reply.
    fn unwatch(&mut self, reply: Reply<'static>) -> Step {
        match std::mem::take(&mut self.watches) {
            false => reply.into(),
            true => Command::Unwatch(self.watcher.clone(), reply).into(),
        }
    }

    /// A wrong database holds at once, even within a transaction, because no later command may be queued then.
    fn select(&mut self, words: &Words<'_>) -> Step {
        let transaction = self.transaction.as_mut();
        let number = match commands::database(words[1], self.shared.engine.databases()) {
            Ok(number) => number,
            Err(text) => {
                transaction.into_iter().for_each(|all| all.no_database = Some(text.clone()));
                self.no_database = Some(text.clone());
                return self.refuse(text);
            }
        };
        match transaction {
            None => {
                (self.database, self.no_database) = (number, None);
                Reply::Ok.into()
            }
            Some(transaction) => {
                transaction.no_database = None;
                transaction.gather(Command::Select(number), Some(Later::Select(number))).into()
            }
        }
    }

    fn reset(&mut self) -> Step {
        self.transaction = None;
        self.stop_hearing();
        self.muted = Muted::default();
        self.set_mark(Mark::NoEvict, Switch::Off);
        self.set_mark(Mark::NoTouch, Switch::Off);
        (self.database, self.no_database) = (0, None);
        self.enter(self.shared.settings.accounts.without_password());
        self.speak(Some(RespVersion::V2));
        self.set_label(Label::Name, String::new());
        self.unwatch(Reply::Simple("RESET"))
    }
}

impl Drop for Session<'_> {
    /// However a connection ends, its watches are forgotten.
    fn drop(&mut self) {
        self.shared.hub.forget(self.outbox.id);
        if self.watches {
            self.shared.engine.forget_watches(&self.watcher);
        }
    }
}

fn error(text: &'static str) -> Step {
    Reply::Error(text.into()).into()
}

/// Whether a client that hears may send this, as in Redis.
fn is_heard(spec: &Spec) -> bool {
    match spec.run {
        Run::Session(command) => matches!(
            command,
            SessionCommand::Subscribe(_)
                | SessionCommand::Unsubscribe(_)
                | SessionCommand::Quit
                | SessionCommand::Reset
        ),
        _ => spec.name == "ping",
    }
}

fn not_heard(spec: &Spec) -> Text {
    let name = spec.name;
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed \
         in this context"
    )
    .into()
}
