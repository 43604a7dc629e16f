//! What a connection remembers between requests: its password, its version of RESP, its
//! transaction. Decides what becomes of a request.
//!
//! It touches no data: a transaction is gathered here and carried out by the engine as one command. What
//! it asks of the connection or the server is done by this client's thread, once the data's part has
//! been: so none of that is done if a watched key has changed, and the committer does none of it.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::Shared;
use super::logins::Verdict;
use super::outbox::Outbox;
use super::profile::ClientInfo;
use crate::command::{
    AskFn, Client, Command, KillFilter, Label, Packed, Reply, RespVersion, Run, SessionCommand,
    Spec, Text, USER, Watcher, Words,
};
use crate::commands;
use crate::engine::{self, NotCompacted};
use crate::metrics::Held;
use crate::protocol::{Parser, REQUEST_BYTES};

/// The most that the commands of one transaction may take up, as for a single request.
const TRANSACTION_BYTES: usize = REQUEST_BYTES;

/// Failed logins after which a connection is closed: a person's typing errors are fewer, and a pipeline of
/// guesses does not keep its place for longer.
const FAILED_LOGINS: u32 = 10;

/// One connection's state.
///
/// - Where `no_database` is set, the client believes to be in a database that there is not: whatever is
///   about data is answered with this error, lest it happen in database 0.
pub struct Session<'a> {
    pub(super) shared: &'a Shared,
    outbox: &'a Arc<Outbox>,
    pub(super) parser: Parser,
    failed_logins: u32,
    /// The reply that is being made is the last one.
    pub(super) ends: bool,
    transaction: Option<Transaction<'a>>,
    watcher: Arc<Watcher>,
    /// It may watch something: then the engine is to hear of the end.
    watches: bool,
    no_database: Option<Text>,
}

/// What is gathered between MULTI and EXEC.
struct Transaction<'a> {
    commands: Vec<Command>,
    deferred: Vec<Deferred>,
    held: Held<'a>,
    bytes: usize,
    /// One of its commands was none, so none is carried out.
    aborted: bool,
    /// As for the session, once it has come to this place.
    no_database: Option<Text>,
}

/// What a transaction asks of its connection or of the server, and its place among the commands, where
/// an empty answer stands for it. It is done after the data's part, and only if that was carried out.
pub struct Deferred {
    /// The place.
    pub place: usize,
    what: Later,
}

enum Later {
    Ask(AskFn, Packed),
    /// SELECT of the database that there is.
    Select,
}

impl<'a> Transaction<'a> {
    fn new(shared: &'a Shared, no_database: Option<Text>) -> Transaction<'a> {
        let held = Held::new(&shared.metrics.transaction_memory);
        let (commands, deferred) = (Vec::new(), Vec::new());
        Transaction { commands, deferred, held, bytes: 0, aborted: false, no_database }
    }

    fn abort(&mut self) {
        self.aborted = true;
        (self.commands, self.deferred) = (Vec::new(), Vec::new());
        self.held.set(0);
    }

    /// Gathers a command, or what is asked at its place.
    fn gather(&mut self, command: Command, later: Option<Later>) -> Reply<'static> {
        let later_bytes = match &later {
            None => 0,
            Some(Later::Select) => size_of::<Deferred>(),
            Some(Later::Ask(_, words)) => size_of::<Deferred>() + words.bytes(),
        };
        self.bytes += command.bytes() + later_bytes;
        if self.bytes > TRANSACTION_BYTES {
            self.abort();
            return Reply::Error("ERR the transaction is too large".into());
        }
        if !self.aborted {
            let place = self.commands.len();
            self.deferred.extend(later.map(|what| Deferred { place, what }));
            self.commands.push(command);
            self.held.set(self.bytes);
        }
        Reply::Simple("QUEUED")
    }
}

/// What to do with a request.
pub struct Step {
    /// What to answer or carry out.
    pub command: Command,
    /// What is to be done after it, with its answer.
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
    /// A new connection's.
    pub fn new(shared: &'a Shared, outbox: &'a Arc<Outbox>) -> Session<'a> {
        let settings = &shared.settings;
        let parser = Parser::new(settings.password.is_none(), settings.limits);
        let watcher = outbox.profile.watcher.clone();
        Session {
            shared,
            outbox,
            parser,
            failed_logins: 0,
            ends: false,
            transaction: None,
            watcher,
            watches: false,
            no_database: None,
        }
    }

    /// How many commands a transaction has gathered, and what they take up, if there is one.
    pub fn tell(&self, info: &mut ClientInfo) {
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
        let no_database = match &self.transaction {
            None => &self.no_database,
            Some(transaction) => &transaction.no_database,
        };
        if let Some(text) = no_database.clone().filter(|_| spec.is_about_data()) {
            return self.refuse(text);
        }
        self.begin(spec, words)
    }

    fn begin(&mut self, spec: &'static Spec, words: &Words<'_>) -> Step {
        let mistake = |text| Command::Answered(Reply::Error(text));
        let command = match spec.run {
            Run::Core(make) => make(words).unwrap_or_else(mistake),
            Run::Read(_) | Run::Walk(_) | Run::Write(_) => Command::Call(spec, Packed::new(words)),
            Run::Say(say) => say(words).map_or_else(mistake, Command::Answered),
            Run::Ask(ask) => return self.ask(ask, words),
            Run::Session(command) => return self.obey(command, words),
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

    /// Does at EXEC what had to wait for it.
    pub fn catch_up(&mut self, deferred: Deferred) -> Reply<'static> {
        match deferred.what {
            Later::Ask(ask, words) => ask(self, &words.list()).unwrap_or_else(Reply::Error),
            Later::Select => {
                self.no_database = None;
                Reply::Ok
            }
        }
    }

    /// Answers a request that there cannot be: one too long for any command.
    pub fn refuse_words(&mut self, text: Text) -> Step {
        match self.parser.authenticated {
            true => self.refuse(text),
            false => self.refuse("NOAUTH Authentication required.".into()),
        }
    }

    /// Answers an error that a transaction does not survive.
    fn refuse(&mut self, text: Text) -> Step {
        if let Some(transaction) = &mut self.transaction {
            transaction.abort();
        }
        Reply::Error(text).into()
    }

    /// An EXEC that is none ends the transaction all the same.
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
            Some(Transaction { commands, deferred, .. }) => {
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

    /// Ends all watching, and is answered with this.
    fn unwatch(&mut self, reply: Reply<'static>) -> Step {
        match std::mem::take(&mut self.watches) {
            false => reply.into(),
            true => Command::Unwatch(self.watcher.clone(), reply).into(),
        }
    }

    /// A wrong one holds at once, also within a transaction, for the next command may not be queued either.
    fn select(&mut self, words: &Words<'_>) -> Step {
        let selected = commands::database(words[1]).err();
        let transaction = self.transaction.as_mut();
        if let Some(text) = selected {
            transaction.into_iter().for_each(|all| all.no_database = Some(text.clone()));
            self.no_database = Some(text.clone());
            return self.refuse(text);
        }
        match transaction {
            None => {
                self.no_database = None;
                Reply::Ok.into()
            }
            Some(transaction) => {
                transaction.no_database = None;
                transaction.gather(Command::Answered(Reply::Null), Some(Later::Select)).into()
            }
        }
    }

    fn reset(&mut self) -> Step {
        self.transaction = None;
        self.no_database = None;
        self.parser.authenticated = !self.needs_password();
        self.speak(Some(RespVersion::V2));
        self.set_label(Label::Name, String::new());
        self.unwatch(Reply::Simple("RESET"))
    }
}

impl Client for Session<'_> {
    fn id(&self) -> u64 {
        self.outbox.id
    }

    fn needs_password(&self) -> bool {
        self.shared.settings.password.is_some()
    }

    fn is_logged_in(&self) -> bool {
        self.parser.authenticated
    }

    /// Without a password configured any will do, as in Redis: some clients send one always. The
    /// comparison takes as long for a password that is nearly right as for any other of its length.
    fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), Text> {
        let expected = self.shared.settings.password.as_deref();
        let is_right = || {
            let fits = expected.is_none_or(|expected| expected.ct_eq(password).into());
            user == USER.as_bytes() && fits
        };
        let address = self.outbox.profile.address;
        let error = match self
            .shared
            .logins
            .judge(address, is_right, |time| self.outbox.pause(time))
        {
            Verdict::Right => {
                self.failed_logins = 0;
                self.parser.authenticated = true;
                return Ok(());
            }
            Verdict::Wrong => {
                self.shared.metrics.failed_logins.add(1);
                "WRONGPASS invalid username-password pair or user is disabled."
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
        self.parser.version = version;
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

    fn lines(&self, ids: Option<&[u64]>) -> Option<String> {
        self.shared.clients.list(ids, self.shared.settings.unread.one)
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

    fn compact(&self) -> Result<(), Text> {
        self.shared.engine.compact().map_err(|why| match why {
            NotCompacted::Running => {
                "ERR Background append only file rewriting already in progress".into()
            }
            NotCompacted::NoLog => {
                "ERR nothing is kept on disk, so there is nothing to compact".into()
            }
            NotCompacted::Closed(why) => {
                format!("ERR Can't execute an AOF background rewriting: {why}").into()
            }
        })
    }

    fn saved_at(&self) -> i64 {
        self.shared.saved_at()
    }
}

impl Drop for Session<'_> {
    /// However a connection ends, nothing is left of what it watched.
    fn drop(&mut self) {
        if self.watches {
            self.shared.engine.forget_watches(&self.watcher);
        }
    }
}

fn error(text: &'static str) -> Step {
    Reply::Error(text.into()).into()
}
