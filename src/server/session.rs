//! What a connection remembers between requests: its password, its version of RESP, its
//! transaction. Turns what a client asks of its connection or of the server into an answer.
//!
//! It touches no data: a transaction is gathered here and carried out by the engine as one command.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::Shared;
use super::outbox::Outbox;
use crate::command::{Command, Reply, RespVersion, Watch};
use crate::engine::NotCompacted;
use crate::glob;
use crate::protocol::{ClientChoice, Hello, LibraryField, Parser, Request, Session as Asked, Spec};

/// The most that the commands of one transaction may take up, as for a single request.
const TRANSACTION_BYTES: usize = crate::protocol::REQUEST_BYTES;

/// The version of Redis whose commands and texts these are. Clients look at it to decide what they
/// may use; with 7.2 they ask for nothing that is missing here.
pub const REDIS_VERSION: &str = "7.2.4";

/// One connection's state.
pub struct Session<'a> {
    shared: &'a Shared,
    outbox: &'a Arc<Outbox>,
    authenticated: bool,
    transaction: Option<Transaction>,
    watch: Option<Watch>,
}

#[derive(Default)]
struct Transaction {
    commands: Vec<Command>,
    bytes: usize,
    /// One of its commands made no sense, so none is carried out.
    aborted: bool,
}

/// What to do with a request.
pub struct Step {
    /// What to answer or carry out.
    pub command: Command,
    /// Whether that is the last thing.
    pub close: bool,
}

impl<'a> Session<'a> {
    /// A new connection's.
    pub fn new(shared: &'a Shared, outbox: &'a Arc<Outbox>) -> Session<'a> {
        let authenticated = shared.settings.password.is_none();
        Session { shared, outbox, authenticated, transaction: None, watch: None }
    }

    /// Decides what becomes of a request.
    pub fn step(&mut self, request: Request, spec: Option<&Spec>, parser: &mut Parser) -> Step {
        if !self.authenticated && !spec.is_some_and(Spec::needs_no_password) {
            return answer(error("NOAUTH Authentication required."));
        }
        let request = match request {
            Request::Command(command) if self.transaction.is_none() => {
                return Step { command, close: false };
            }
            request => request,
        };
        match request {
            Request::Command(command) => answer(self.gather(command)),
            Request::Mistake(text) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.aborted = true;
                }
                answer(Reply::Error(text))
            }
            Request::Session(asked) => self.asked(asked, parser),
        }
    }

    fn gather(&mut self, command: Command) -> Reply<'static> {
        let Some(transaction) = &mut self.transaction else {
            unreachable!("only within a transaction");
        };
        transaction.bytes += command.bytes();
        if transaction.bytes > TRANSACTION_BYTES {
            transaction.aborted = true;
            transaction.commands = Vec::new();
            return error("ERR the transaction is too large");
        }
        if !transaction.aborted {
            transaction.commands.push(command);
        }
        Reply::Simple("QUEUED")
    }

    fn asked(&mut self, asked: Asked, parser: &mut Parser) -> Step {
        match asked {
            Asked::Multi if self.transaction.is_some() => {
                answer(error("ERR MULTI calls can not be nested"))
            }
            Asked::Multi => {
                self.transaction = Some(Transaction::default());
                answer(Reply::Ok)
            }
            Asked::Exec => match self.transaction.take() {
                None => answer(error("ERR EXEC without MULTI")),
                Some(Transaction { aborted: true, .. }) => {
                    self.watch = None;
                    answer(error("EXECABORT Transaction discarded because of previous errors."))
                }
                Some(transaction) => {
                    let command = Command::Transaction(transaction.commands, self.watch.take());
                    Step { command, close: false }
                }
            },
            Asked::Discard => answer(match self.transaction.take() {
                None => error("ERR DISCARD without MULTI"),
                Some(_) => {
                    self.watch = None;
                    Reply::Ok
                }
            }),
            Asked::Watch(_) if self.transaction.is_some() => {
                answer(error("ERR WATCH inside MULTI is not allowed"))
            }
            Asked::Watch(keys) => {
                let watch = self.watch.get_or_insert_default().clone();
                Step { command: Command::Watch(keys, watch), close: false }
            }
            Asked::Quit => Step { command: Command::Answered(Reply::Ok), close: true },
            Asked::Reset => {
                self.transaction = None;
                self.watch = None;
                self.authenticated = self.shared.settings.password.is_none();
                parser.authenticated = self.authenticated;
                parser.version = RespVersion::V2;
                self.outbox.profile.tell(|told| {
                    told.name.clear();
                    told.resp = 2;
                });
                answer(Reply::Simple("RESET"))
            }
            Asked::ClientKill(choice, old_form) => self.kill(&choice, old_form),
            // EXEC ends all watching anyway, and until then a transaction does nothing.
            Asked::Unwatch if self.transaction.is_some() => {
                answer(self.gather(Command::Answered(Reply::Ok)))
            }
            Asked::Hello(_)
            | Asked::Auth(..)
            | Asked::ClientSetName(_)
            | Asked::ClientSetInfo(..)
                if self.transaction.is_some() =>
            {
                if let Some(transaction) = &mut self.transaction {
                    transaction.aborted = true;
                }
                answer(error("ERR Command not allowed inside a transaction"))
            }
            asked => {
                let reply = self.about(asked, parser);
                match self.transaction {
                    None => answer(reply),
                    Some(_) => answer(self.gather(Command::Answered(reply))),
                }
            }
        }
    }

    fn about(&mut self, asked: Asked, parser: &mut Parser) -> Reply<'static> {
        let profile = &self.outbox.profile;
        match asked {
            Asked::Hello(hello) => self.hello(hello, parser),
            Asked::Auth(user, password) => match self.log_in(&user, &password, parser) {
                Ok(()) => Reply::Ok,
                Err(reply) => reply,
            },
            Asked::Unwatch => {
                self.watch = None;
                Reply::Ok
            }
            Asked::ClientId => Reply::Integer(self.outbox.id as i64),
            Asked::ClientGetName => match profile.told().name {
                name if name.is_empty() => Reply::Null,
                name => Reply::bulk(name.as_bytes()),
            },
            Asked::ClientSetName(name) => {
                profile.tell(|told| told.name = name);
                Reply::Ok
            }
            Asked::ClientSetInfo(LibraryField::Name, name) => {
                profile.tell(|told| told.lib_name = name);
                Reply::Ok
            }
            Asked::ClientSetInfo(LibraryField::Version, version) => {
                profile.tell(|told| told.lib_version = version);
                Reply::Ok
            }
            Asked::ClientInfo => Reply::text(profile.line(self.outbox.id)),
            Asked::ClientList => Reply::text(self.shared.clients.list()),
            Asked::Info(sections) => Reply::text(self.shared.info(&sections)),
            Asked::ConfigGet(patterns) => {
                let fits = |name: &str| {
                    patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()))
                };
                let settings = self.shared.settings.shown.iter();
                let found = settings.filter(|(name, _)| fits(name));
                let pair = |(name, value): &(&str, String)| {
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
        self.outbox.profile.tell(|told| {
            told.resp = proto;
            if let Some(name) = hello.name {
                told.name = name;
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

    /// The comparison takes as long for a password that is nearly right as for any other of its
    /// length.
    fn log_in(
        &mut self,
        user: &[u8],
        password: &[u8],
        parser: &mut Parser,
    ) -> Result<(), Reply<'static>> {
        let Some(expected) = &self.shared.settings.password else {
            return Err(error(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        };
        if user != b"default" || !bool::from(expected.as_slice().ct_eq(password)) {
            return Err(error("WRONGPASS invalid username-password pair or user is disabled."));
        }
        self.authenticated = true;
        parser.authenticated = true;
        Ok(())
    }

    fn kill(&mut self, choice: &ClientChoice, old_form: bool) -> Step {
        let (found, is_self) = self.shared.clients.kill(choice, self.outbox.id);
        let reply = match (old_form, found) {
            (true, true) => Reply::Ok,
            (true, false) => error("ERR No such client"),
            (false, found) => Reply::Integer(found.into()),
        };
        Step { command: Command::Answered(reply), close: is_self }
    }
}

fn answer(reply: Reply<'static>) -> Step {
    Step { command: Command::Answered(reply), close: false }
}

fn error(text: &'static str) -> Reply<'static> {
    Reply::Error(text.into())
}
