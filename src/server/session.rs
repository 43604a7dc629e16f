//! What a connection remembers between requests: its password, its version of RESP, its
//! transaction. Turns what a client asks of its connection or of the server into an answer.
//!
//! It touches no data: a transaction is gathered here and carried out by the engine as one command. What
//! it asks of the connection or the server is done by this client's thread, once the data's part has
//! been: so none of that is done if a watched key has changed, and the committer does none of it.

use std::borrow::Cow;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::Shared;
use super::logins::Verdict;
use super::outbox::Outbox;
use super::profile::ClientInfo;
use crate::command::{Command, Reply, RespVersion, Watcher};
use crate::commands::{Hello, KillFilter, LibraryField, Request, Session as Asked, Spec, USER};
use crate::engine::{self, NotCompacted};
use crate::glob::Glob;
use crate::metrics::Held;
use crate::protocol::Parser;

/// The most that the commands of one transaction may take up, as for a single request.
const TRANSACTION_BYTES: usize = crate::protocol::REQUEST_BYTES;

/// Failed logins after which a connection is closed: a person's typing errors are fewer, and a pipeline of
/// guesses does not keep its place for longer.
const FAILED_LOGINS: u32 = 10;

/// The version of Redis whose commands and texts these are. Clients look at it to decide what they
/// may use; with 7.2 they ask for nothing that is missing here.
pub const REDIS_VERSION: &str = "7.2.4";

/// One connection's state.
///
/// - Where `no_database` is set, the client believes to be in a database that there is not: whatever is
///   about data is answered with this error, lest it happen in database 0.
pub struct Session<'a> {
    pub(super) shared: &'a Shared,
    outbox: &'a Arc<Outbox>,
    authenticated: bool,
    failed_logins: u32,
    transaction: Option<Transaction<'a>>,
    watcher: Arc<Watcher>,
    /// It may watch something: then the engine is to hear of the end.
    watches: bool,
    no_database: Option<Cow<'static, str>>,
}

/// What is gathered between MULTI and EXEC.
struct Transaction<'a> {
    commands: Vec<Command>,
    asked: Vec<Deferred>,
    held: Held<'a>,
    bytes: usize,
    /// One of its commands was none, so none is carried out.
    aborted: bool,
    /// As for the session, once it has come so far.
    no_database: Option<Cow<'static, str>>,
}

/// What a transaction asks of its connection or of the server, and its place among the commands, where
/// an empty answer stands for it. It is done after the data's part, and only if that was carried out.
pub struct Deferred {
    /// The place.
    pub place: usize,
    asked: Asked,
}

impl<'a> Transaction<'a> {
    fn new(shared: &'a Shared, no_database: Option<Cow<'static, str>>) -> Transaction<'a> {
        let held = Held::new(&shared.metrics.transaction_memory);
        let (commands, asked) = (Vec::new(), Vec::new());
        Transaction { commands, asked, held, bytes: 0, aborted: false, no_database }
    }

    fn abort(&mut self) {
        self.aborted = true;
        self.commands = Vec::new();
        self.asked = Vec::new();
        self.held.set(0);
    }
}

/// What to do with a request.
pub struct Step {
    /// What to answer or carry out.
    pub command: Command,
    /// What is to be done after it, with its answer.
    pub deferred: Vec<Deferred>,
    /// Whether that is the last thing.
    pub close: bool,
}

impl<'a> Session<'a> {
    /// A new connection's.
    pub fn new(shared: &'a Shared, outbox: &'a Arc<Outbox>) -> Session<'a> {
        let authenticated = shared.settings.password.is_none();
        let (transaction, watches, no_database, failed_logins) = (None, false, None, 0);
        let watcher = outbox.profile.watcher.clone();
        Session {
            shared,
            outbox,
            authenticated,
            failed_logins,
            transaction,
            watcher,
            watches,
            no_database,
        }
    }

    /// How many commands a transaction has gathered, and what they take up, if there is one.
    pub fn tell(&self, info: &mut ClientInfo) {
        info.queued = self.transaction.as_ref().map(|transaction| transaction.commands.len());
        info.queued_bytes = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
    }

    /// Decides what becomes of a request.
    pub fn step(&mut self, request: Request, spec: Option<&Spec>, parser: &mut Parser) -> Step {
        if !self.authenticated && !spec.is_some_and(Spec::needs_no_password) {
            return self.refuse("NOAUTH Authentication required.".into());
        }
        let no_database = match &self.transaction {
            None => &self.no_database,
            Some(transaction) => &transaction.no_database,
        };
        if let Some(text) = no_database
            && is_about_data(&request)
        {
            return self.refuse(text.clone());
        }
        match request {
            Request::Command(command) if self.transaction.is_none() => carry_out(command),
            Request::Command(command) => answer(self.gather(command)),
            Request::Mistake(text) if self.transaction.is_none() => answer(Reply::Error(text)),
            Request::Mistake(text) => answer(self.gather(Command::Answered(Reply::Error(text)))),
            Request::Refused(text) if spec.is_some_and(|spec| spec.name == "exec") => {
                self.refuse_exec(&text)
            }
            Request::Refused(text) => self.refuse(text),
            Request::Session(asked) => self.asked(asked, parser),
        }
    }

    /// Answers an error that a transaction does not survive.
    fn refuse(&mut self, text: Cow<'static, str>) -> Step {
        if let Some(transaction) = &mut self.transaction {
            transaction.abort();
        }
        answer(Reply::Error(text))
    }

    /// An EXEC that is none ends the transaction all the same.
    fn refuse_exec(&mut self, text: &str) -> Step {
        self.transaction = None;
        let reason = text.trim_start_matches("ERR ");
        let text = format!("EXECABORT Transaction discarded because of: {reason}");
        self.unwatch(Reply::Error(text.into()))
    }

    fn gather(&mut self, command: Command) -> Reply<'static> {
        let bytes = command.bytes();
        self.gather_with(command, bytes)
    }

    /// Gathers a command, with which the transaction takes up this many bytes more.
    fn gather_with(&mut self, command: Command, bytes: usize) -> Reply<'static> {
        let Some(transaction) = &mut self.transaction else {
            unreachable!("only within a transaction");
        };
        transaction.bytes += bytes;
        if transaction.bytes > TRANSACTION_BYTES {
            transaction.abort();
            return error("ERR the transaction is too large");
        }
        if !transaction.aborted {
            transaction.commands.push(command);
            transaction.held.set(transaction.bytes);
        }
        Reply::Simple("QUEUED")
    }

    /// Gathers what is no command on data.
    fn defer(&mut self, asked: Asked) -> Reply<'static> {
        let command = Command::Answered(Reply::Null);
        let bytes = command.bytes() + size_of::<Deferred>() + asked.bytes();
        let reply = self.gather_with(command, bytes);
        if let Some(transaction) = &mut self.transaction
            && !transaction.aborted
        {
            let place = transaction.commands.len() - 1;
            transaction.asked.push(Deferred { place, asked });
        }
        reply
    }

    fn asked(&mut self, asked: Asked, parser: &mut Parser) -> Step {
        match asked {
            Asked::Multi if self.transaction.is_some() => {
                answer(error("ERR MULTI calls can not be nested"))
            }
            Asked::Multi => {
                let transaction = Transaction::new(self.shared, self.no_database.clone());
                self.transaction = Some(transaction);
                answer(Reply::Ok)
            }
            Asked::Exec => match self.transaction.take() {
                None => answer(error("ERR EXEC without MULTI")),
                Some(Transaction { aborted: true, .. }) => self
                    .unwatch(error("EXECABORT Transaction discarded because of previous errors.")),
                Some(Transaction { commands, asked, .. }) => {
                    let watches = std::mem::take(&mut self.watches);
                    let watcher = watches.then(|| self.watcher.clone());
                    let command = Command::Transaction(commands, watcher);
                    Step { deferred: asked, ..carry_out(command) }
                }
            },
            Asked::Discard => match self.transaction.take() {
                None => answer(error("ERR DISCARD without MULTI")),
                Some(_) => self.unwatch(Reply::Ok),
            },
            Asked::Watch(_) if self.transaction.is_some() => {
                answer(error("ERR WATCH inside MULTI is not allowed"))
            }
            Asked::Watch(keys) => match engine::distinct_watched_keys(keys) {
                Ok(keys) => {
                    self.watches = true;
                    carry_out(Command::Watch(keys, self.watcher.clone()))
                }
                Err(too_many) => answer(too_many),
            },
            Asked::Quit => Step { close: true, ..answer(Reply::Ok) },
            Asked::Reset => {
                self.transaction = None;
                self.no_database = None;
                self.authenticated = self.shared.settings.password.is_none();
                parser.authenticated = self.authenticated;
                parser.version = RespVersion::V2;
                self.outbox.profile.note(|info| {
                    info.name.clear();
                    info.resp = 2;
                });
                self.unwatch(Reply::Simple("RESET"))
            }
            // EXEC ends all watching anyway, and until then a transaction does nothing.
            Asked::Unwatch if self.transaction.is_some() => {
                answer(self.gather(Command::Answered(Reply::Ok)))
            }
            Asked::Unwatch => self.unwatch(Reply::Ok),
            // At once, for what comes next may not be queued either.
            Asked::Select(Err(text)) => {
                self.no_database = Some(text.clone());
                if let Some(transaction) = &mut self.transaction {
                    transaction.no_database = Some(text.clone());
                }
                self.refuse(text)
            }
            asked => {
                let Some(transaction) = &mut self.transaction else {
                    let (reply, close) = self.perform(asked, parser);
                    return Step { close, ..answer(reply) };
                };
                if let Asked::Select(Ok(())) = asked {
                    transaction.no_database = None;
                }
                answer(self.defer(asked))
            }
        }
    }

    /// Does at EXEC what had to wait for it; says also whether it is the last thing.
    pub fn catch_up(&mut self, deferred: Deferred, parser: &mut Parser) -> (Reply<'static>, bool) {
        self.perform(deferred.asked, parser)
    }

    fn perform(&mut self, asked: Asked, parser: &mut Parser) -> (Reply<'static>, bool) {
        match asked {
            Asked::ClientKill(filter) => self.kill(&filter),
            asked => {
                let reply = self.about(asked, parser);
                (reply, self.failed_logins >= FAILED_LOGINS)
            }
        }
    }

    fn about(&mut self, asked: Asked, parser: &mut Parser) -> Reply<'static> {
        let profile = &self.outbox.profile;
        match asked {
            Asked::Hello(hello) => self.hello(hello, parser),
            Asked::Auth(None, _) if self.shared.settings.password.is_none() => error(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ),
            Asked::Auth(user, password) => {
                let user = user.as_deref().unwrap_or(USER.as_bytes());
                self.log_in(user, &password, parser).map_or_else(|reply| reply, |()| Reply::Ok)
            }
            Asked::ClientId => Reply::Integer(self.outbox.id as i64),
            Asked::ClientGetName => match profile.info().name {
                name if name.is_empty() => Reply::Null,
                name => Reply::bulk(name.as_bytes()),
            },
            Asked::ClientSetName(name) => {
                profile.note(|info| info.name = name);
                Reply::Ok
            }
            Asked::ClientSetInfo(LibraryField::Name, name) => {
                profile.note(|info| info.lib_name = name);
                Reply::Ok
            }
            Asked::ClientSetInfo(LibraryField::Version, version) => {
                profile.note(|info| info.lib_version = version);
                Reply::Ok
            }
            Asked::ClientInfo => Reply::text(self.outbox.line()),
            Asked::ClientList(choice) => {
                let list = self.shared.clients.list(&choice, self.shared.settings.unread.one);
                list.map_or(error(engine::TOO_LONG), Reply::text)
            }
            Asked::Command(what) => what.reply(),
            Asked::Info(sections) => Reply::text(self.shared.info(&sections)),
            Asked::ConfigGet(patterns) => {
                let settings = self.shared.shown_settings();
                let mut wanted = vec![false; settings.len()];
                for mut glob in patterns.iter().map(|pattern| Glob::new(pattern)) {
                    for ((name, _), wanted) in settings.iter().zip(&mut wanted) {
                        *wanted |= glob.matches(name.as_bytes());
                    }
                }
                let found = settings.into_iter().zip(wanted);
                let found = found.filter_map(|(setting, wanted)| wanted.then_some(setting));
                let pair = |(name, value): (&str, String)| {
                    [Reply::bulk(name.as_bytes()), Reply::bulk(value.as_bytes())]
                };
                Reply::Map(found.flat_map(pair).collect())
            }
            Asked::Compact => match self.shared.engine.compact() {
                Ok(()) => Reply::Simple("Background append only file rewriting started"),
                Err(NotCompacted::Running) => {
                    error("ERR Background append only file rewriting already in progress")
                }
                Err(NotCompacted::NoLog) => {
                    error("ERR nothing is kept on disk, so there is nothing to compact")
                }
                Err(NotCompacted::Closed(why)) => Reply::Error(
                    format!("ERR Can't execute an AOF background rewriting: {why}").into(),
                ),
            },
            Asked::LastSave => Reply::Integer(self.shared.saved_at()),
            Asked::Select(Ok(())) => {
                self.no_database = None;
                Reply::Ok
            }
            other => unreachable!("{other:?} is decided before"),
        }
    }

    fn hello(&mut self, hello: Hello, parser: &mut Parser) -> Reply<'static> {
        if let Some((user, password)) = &hello.auth
            && let Err(reply) = self.log_in(user, password, parser)
        {
            return reply;
        }
        if !self.authenticated {
            return error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                 the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                 client and select the RESP protocol version at the same time",
            );
        }
        parser.version = hello.version.unwrap_or(parser.version);
        let proto = match parser.version {
            RespVersion::V2 => 2,
            RespVersion::V3 => 3,
        };
        self.outbox.profile.note(|info| {
            info.resp = proto;
            if let Some(name) = hello.name {
                info.name = name;
            }
        });
        let text = |text: &str| Reply::bulk(text.as_bytes());
        Reply::Map(vec![
            text("server"),
            text("redis"),
            text("version"),
            text(REDIS_VERSION),
            text("proto"),
            Reply::Integer(proto.into()),
            text("id"),
            Reply::Integer(self.outbox.id as i64),
            text("mode"),
            text("standalone"),
            text("role"),
            text("master"),
            text("modules"),
            Reply::Array(Vec::new()),
        ])
    }

    /// Without a password configured any will do, as in Redis: some clients send one always. The
    /// comparison takes as long for a password that is nearly right as for any other of its length.
    fn log_in(
        &mut self,
        user: &[u8],
        password: &[u8],
        parser: &mut Parser,
    ) -> Result<(), Reply<'static>> {
        let expected = self.shared.settings.password.as_deref();
        let is_right = || {
            let fits = expected.is_none_or(|expected| expected.ct_eq(password).into());
            user == USER.as_bytes() && fits
        };
        let address = self.outbox.profile.address;
        match self.shared.logins.judge(address, is_right, |time| self.outbox.pause(time)) {
            Verdict::Right => {}
            Verdict::Wrong => {
                self.shared.metrics.failed_logins.add(1);
                self.failed_logins += 1;
                return Err(error("WRONGPASS invalid username-password pair or user is disabled."));
            }
            Verdict::NotLookedAt => {
                self.failed_logins += 1;
                return Err(error(
                    "ERR too many logins from this address fail, this one was not looked at, try again later",
                ));
            }
        }
        self.failed_logins = 0;
        self.authenticated = true;
        parser.authenticated = true;
        Ok(())
    }

    /// Ends all watching, and is answered with this.
    fn unwatch(&mut self, reply: Reply<'static>) -> Step {
        match std::mem::take(&mut self.watches) {
            false => answer(reply),
            true => carry_out(Command::Unwatch(self.watcher.clone(), reply)),
        }
    }

    fn kill(&mut self, filter: &KillFilter) -> (Reply<'static>, bool) {
        let (killed, is_asking) = self.shared.clients.kill(filter, self.outbox.id);
        let reply = match (filter.old_form, killed) {
            (true, 0) => error("ERR No such client"),
            (true, _) => Reply::Ok,
            (false, killed) => Reply::Integer(killed as i64),
        };
        (reply, is_asking)
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

/// Whether it matters in which database it happens.
fn is_about_data(request: &Request) -> bool {
    match request {
        Request::Command(command) => !command.is_answered(),
        Request::Session(asked) => matches!(asked, Asked::Watch(_)),
        Request::Mistake(_) | Request::Refused(_) => false,
    }
}

fn carry_out(command: Command) -> Step {
    Step { command, deferred: Vec::new(), close: false }
}

fn answer(reply: Reply<'static>) -> Step {
    carry_out(Command::Answered(reply))
}

fn error(text: &'static str) -> Reply<'static> {
    Reply::Error(text.into())
}
