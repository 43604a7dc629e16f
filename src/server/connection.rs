//! One client: its thread reads requests and answers them or submits them to the engine, in order.
//!
//! A read is answered here, from the store, unless an earlier operation of this connection is
//! still in the queue; then it is queued after it, so that one connection's commands take effect in
//! order and a mixed pipeline pays one sync. Nothing here waits for another client.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Shared;
use super::direct::{Direct, SEND_BYTES};
use super::gets::Gets;
use super::outbox::Outbox;
use super::preemption::Preemption;
use super::received::{LINGER, Received, drain};
use super::session::{Session, Step};
use super::transaction::Deferred;
use crate::command::{Command, CommandId, Dialect, Packed, Reply, Run, Spec, TOO_LONG, Words};
use crate::commands;
use crate::doors::Waits;
use crate::engine::{Engine, Operation, Recipient, Submission};
use crate::protocol::{self, Parsed};
use crate::sync::{Condvar, Mutex};

/// After a read that filled the buffer there is probably more of the pipeline. It is read before anything is
/// queued, as long as the operations gathered so far take up less than this.
const PIPELINE_BYTES: usize = 1 << 20;

/// The most reads that are queued at a time after a write: their replies may be long, and the client has
/// to take them before there are more.
const QUEUED_READS: usize = 1024;

/// When the server stops, a client that has sent nothing for this long is taken to have no more to send.
const QUIET: Duration = Duration::from_millis(100);

const TOO_LONG_VALUE: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// Serves a client until it leaves, makes a fatal mistake, or the server stops.
pub fn serve(shared: &Shared, outbox: &Arc<Outbox>, stopping: &AtomicBool) {
    let mut connection = Connection {
        engine: &shared.engine,
        outbox,
        stopping,
        session: Session::new(shared, outbox),
        replies: Vec::new(),
        gets: Gets::default(),
        operations: Vec::new(),
        operation_bytes: 0,
        queued_reads: 0,
        nothing_queued: false,
        is_muted: false,
        last_read: Instant::now(),
        preemption: Preemption::default(),
    };
    let mut received = Received::new(&shared.metrics.request_memory);
    received.make_room();
    connection.tell(received.told(), None, 0);
    let mut end = End::Left;
    while !stopping.load(Ordering::Relaxed) {
        let goes_on = received.was_filled && connection.operation_bytes < PIPELINE_BYTES;
        if !goes_on {
            connection.hand_over();
        }
        let waits = if goes_on { Waits::No } else { Waits::Yes };
        match received.read_more(outbox.wire(), waits) {
            Ok(0) => break,
            Ok(count) => {
                shared.metrics.input_bytes.add(count as u64);
                connection.last_read = Instant::now();
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) =>
            {
                continue;
            }
            // By its encryption: the client would not understand the replies on their way to it either.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let from = &outbox.profile.address;
                let complain = || format!("client {} from {from}: closed, {error}", outbox.id);
                shared.refused_by_tls.say(log::Level::Warn, complain);
                outbox.abandon();
                break;
            }
            Err(error) => {
                log::debug!("client {}: cannot read: {error}", outbox.id);
                break;
            }
        }
        end = connection.take_requests(&mut received);
        if end != End::NotYet || outbox.is_broken() {
            break;
        }
        end = End::Left;
    }
    // Before the last reply: a client that has read it is known to be gone.
    outbox.leave();
    connection.session.stop_hearing();
    connection.hand_over();
    outbox.wait_until_empty();
    let speaks = connection.last_read.elapsed() < LINGER;
    // Its watches are forgotten before its input is drained.
    drop(connection);
    let wire = outbox.wire();
    wire.say_goodbye();
    if end == End::Closing {
        drain(wire, LINGER);
    } else if stopping.load(Ordering::Relaxed) && speaks {
        drain(wire, QUIET);
    }
}

/// Whether and why a connection ends.
#[derive(PartialEq, Eq)]
enum End {
    NotYet,
    /// The client closed its side, or the server stops.
    Left,
    /// It sent something that makes no sense, or has said goodbye: nothing more is read.
    Closing,
}

struct Connection<'a> {
    engine: &'a Engine,
    outbox: &'a Arc<Outbox>,
    stopping: &'a AtomicBool,
    session: Session<'a>,
    /// Replies that come before those to `gets` and to `operations`.
    replies: Vec<u8>,
    /// To be answered together; then nothing is to be queued.
    gets: Gets,
    /// To be queued.
    operations: Vec<Operation>,
    /// Bytes that they take up.
    operation_bytes: usize,
    /// How many of them are reads.
    queued_reads: usize,
    /// Everything that was queued before is known to be answered.
    nothing_queued: bool,
    /// The reply to the current command is not sent.
    is_muted: bool,
    /// When the last bytes arrived, or the connection began.
    last_read: Instant,
    preemption: Preemption,
}

impl Connection<'_> {
    /// Answers all whole requests received so far, or gathers them for the queue.
    fn take_requests(&mut self, received: &mut Received<'_>) -> End {
        let mut last = None;
        let end = loop {
            // It may have been killed while it waited: nothing more of what it sent is carried out.
            if self.outbox.is_gone() {
                break End::Left;
            }
            let (unread, room) = received.told();
            let (length, end) = match self.session.parser.parse(received.bytes()) {
                Parsed::Incomplete => (0, Some(End::NotYet)),
                Parsed::Nothing(length) => (length, None),
                Parsed::Request(words, dialect, length) => {
                    (length, self.take_request(&words, dialect, (unread - length, room), &mut last))
                }
                Parsed::TooLong(dialect, length) => {
                    let Step { command, .. } = self.session.refuse_words(TOO_LONG_VALUE.into());
                    self.is_muted = self.session.muted.take();
                    self.run(command, dialect, None, None);
                    (length, None)
                }
                Parsed::Http => {
                    let complain = || format!("client {}: closed, it speaks HTTP", self.outbox.id);
                    self.session.shared.speak_http.say(log::Level::Warn, complain);
                    self.outbox.abandon();
                    (0, Some(End::Left))
                }
                Parsed::Tls => {
                    let id = self.outbox.id;
                    let complain =
                        || format!("client {id}: closed, it speaks TLS, and this port does not");
                    self.session.shared.speak_tls.say(log::Level::Warn, complain);
                    self.outbox.abandon();
                    (0, Some(End::Left))
                }
                Parsed::Fatal(error, dialect) => {
                    self.answer_gets();
                    self.submit();
                    self.session.stop_hearing();
                    self.outbox.wait_until_empty();
                    let error = Reply::Error(error);
                    protocol::encode(&[], dialect, &error, &mut self.replies);
                    (0, Some(End::Closing))
                }
            };
            received.consume(length);
            if let Some(end) = end {
                break end;
            }
        };
        self.answer_gets();
        received.make_room();
        // Zero, because replies are handed over before this thread waits for anything.
        self.tell(received.told(), last, 0);
        end
    }

    /// Answers a request, or gathers it with others of its kind. Returns whether the connection ends with it.
    fn take_request(
        &mut self,
        words: &Words<'_>,
        dialect: Dialect,
        (unread, room): (usize, usize),
        last: &mut Option<&'static Spec>,
    ) -> Option<End> {
        let longest_key = self.session.shared.settings.limits.key;
        let version = self.session.parser.version;
        let asked = commands::look_up(words, dialect, version, longest_key);
        let (named, mut dialect) = (asked.named, asked.dialect);
        *last = named.or(*last);
        if named.is_none_or(|spec| spec.name != "get") {
            // The command finds everything as it is after them, counters too.
            self.answer_gets();
        }
        if self.session.shared.pause.is_on()
            && let Ok(spec) = asked.found
            && !self.wait_for_pause(spec)
        {
            return Some(End::Left);
        }
        let hub = &self.session.shared.hub;
        if hub.monitors.is_on() && self.session.parser.authenticated {
            let database = self.session.database;
            let show = |spec| hub.show(spec, words, database, self.outbox);
            asked.found.iter().copied().for_each(show);
        }
        // The command may ask for what CLIENT LIST has of this client.
        if let Ok(Spec { run: Run::Ask(_) | Run::Session(_), .. }) = asked.found {
            self.tell((unread, room), *last, self.replies.len());
        }
        if let Ok(spec) = asked.found
            && self.session.answers_among_messages(spec)
        {
            self.hear(spec, words);
            self.session.muted.take();
            return None;
        }
        let slow = &self.session.shared.metrics.slow;
        let kept = match asked.found {
            Ok(spec) if slow.keeps_words() && !spec.has("skip_slowlog") => {
                Some(commands::without_secrets(spec, words))
            }
            _ => None,
        };
        let Step { command, deferred } = self.session.step(asked, words);
        self.is_muted = self.session.muted.take();
        if self.session.has_stopped {
            return Some(End::Left);
        }
        let id = named.map(|spec| spec.id);
        if deferred.is_empty() {
            // HELLO is answered in the version that it asks for.
            if let Dialect::Resp(_) = dialect {
                dialect = Dialect::Resp(self.session.parser.version);
            }
            self.run(command, dialect, id, kept);
            if self.session.parser.version != version {
                self.send_held();
            }
        } else {
            self.run_with(command, deferred, id);
        }
        if self.session.caching_given {
            self.session.end_caching(named);
        }
        self.session.ends.then_some(End::Closing)
    }

    /// Updates what CLIENT LIST shows of this client.
    fn tell(&self, (unread, room): (usize, usize), last: Option<&Spec>, replies: usize) {
        self.outbox.profile.note(|info| {
            if let Some(spec) = last {
                info.command = spec.name;
                info.active = Some(self.last_read);
            }
            info.query = unread;
            info.query_room = room - unread;
            info.replies = replies;
            self.session.tell(info);
        });
    }

    /// Sends the replies and queues the operations gathered so far.
    fn hand_over(&mut self) {
        self.answer_gets();
        if !self.replies.is_empty() {
            self.outbox.send(&mut self.replies);
            self.outbox.wait_for_reader();
        }
        self.submit();
    }

    /// Answers a read at once if nothing of this client is queued before it; gathers anything else for the
    /// queue.
    fn run(
        &mut self,
        command: Command,
        dialect: Dialect,
        id: Option<CommandId>,
        kept: Option<Packed>,
    ) {
        if command.is_long_read() {
            // Carried out on this thread, so that only this client waits, with all earlier replies sent.
            self.hand_over();
            self.outbox.wait_until_answered();
        }
        let is_get = matches!(command, Command::Get(_)) && kept.is_none();
        if !is_get {
            self.answer_gets();
        }
        // Only this thread queues for this client, so once nothing is queued that stays so until it submits.
        self.nothing_queued = self.nothing_queued || !self.outbox.has_queued();
        let in_order = self.operations.is_empty() && self.nothing_queued;
        if command.is_write() || !in_order {
            self.queued_reads += usize::from(!command.is_write());
            let operation = Operation::new(command, dialect, id);
            let mut operation = operation.in_database(self.session.database);
            operation.is_remembered = self.session.remembers();
            operation.is_muted = self.is_muted;
            operation.words = kept;
            self.operation_bytes += operation.bytes;
            self.operations.push(operation);
            let is_much = self.operation_bytes >= PIPELINE_BYTES;
            if self.queued_reads >= QUEUED_READS || is_much {
                self.submit();
            }
            return;
        }
        if self.session.remembers() {
            // Before the read: see `pubsub::tracking`.
            self.session.shared.hub.remember(self.outbox.id, &command);
        }
        self.preemption.note_read();
        if is_get {
            self.gets.begin(self.session.database, id);
            if self.gets.add(command, dialect, self.is_muted) {
                self.answer_gets();
            }
            return;
        }
        // A message to itself comes after the reply.
        let is_heard = self.outbox.profile.hears() && command.publishes();
        if is_heard {
            self.outbox.hold_messages();
        }
        let start = self.replies.len();
        let mut reply =
            Direct::new(self.outbox, self.stopping, &command, dialect, &mut self.replies);
        let database = self.session.database;
        let (outcome, elapsed) = self.engine.read(&command, database, id, &mut reply);
        let is_long = reply.end(outcome);
        if self.is_muted {
            self.replies.truncate(start);
        }
        self.note(&command, kept, elapsed);
        if is_heard {
            self.outbox.send(&mut self.replies);
            self.outbox.release_messages();
        }
        self.send_much(is_long);
    }

    /// Answers the GETs gathered so far.
    fn answer_gets(&mut self) {
        while !self.gets.is_empty() {
            let client = (self.outbox, self.stopping);
            let done = self.gets.answer(self.engine, client, &mut self.replies);
            let words = [&b"get"[..], &done.last];
            if self.session.shared.metrics.slow.is_slow(done.elapsed) {
                self.outbox.note_slow_words(&words, done.elapsed);
            }
            self.send_much(done.is_long);
        }
    }

    /// Sends all replies, and then the messages that wait for them.
    fn send_held(&mut self) {
        self.hand_over();
        self.outbox.wait_until_answered();
        self.outbox.release_messages();
    }

    /// Notes a read that took long, by the words that were kept or those that are known of it.
    fn note(&self, command: &Command, kept: Option<Packed>, elapsed: Duration) {
        if self.session.shared.metrics.slow.is_slow(elapsed) {
            let words = kept.as_ref().map_or_else(|| command.words(), |kept| kept.list());
            self.outbox.note_slow_words(&words, elapsed);
        }
    }

    /// Subscribes to something, or ends that. Its replies are put among the messages, after all earlier replies.
    fn hear(&mut self, spec: &Spec, words: &Words<'_>) {
        self.hand_over();
        self.outbox.wait_until_answered();
        let began = Instant::now();
        let outbox = self.outbox;
        self.session.hear(spec, words, &mut |said| outbox.put(said));
        // What was put is sent.
        outbox.send(&mut Vec::new());
        outbox.wait_for_reader();
        let metrics = self.engine.metrics();
        metrics.commands.count_call(Some(spec.id), began.elapsed());
        metrics.answered.add(1);
    }

    /// Sends the replies, if the last one is long or there are many.
    fn send_much(&mut self, is_long: bool) {
        if is_long || self.replies.len() >= SEND_BYTES {
            self.outbox.send(&mut self.replies);
            self.outbox.wait_for_reader();
        }
    }

    /// Carries out a transaction that also asks something of its connection or of the server. That part is
    /// done here, after the part about data, and not at all if that part is refused.
    fn run_with(&mut self, data: Command, deferred: Vec<Deferred>, id: Option<CommandId>) {
        self.hand_over();
        self.outbox.queue(&[], 0);
        // Its reply is sent piece by piece, and may subscribe to something.
        self.outbox.hold_messages();
        self.carry_out_with(data, deferred, id);
        self.outbox.send(&mut self.replies);
        self.outbox.release_messages();
    }

    fn carry_out_with(&mut self, data: Command, deferred: Vec<Deferred>, id: Option<CommandId>) {
        let outcome = Arc::new(Outcome { client: self.outbox.id, ..Outcome::default() });
        let dialect = Dialect::Resp(self.session.parser.version);
        let mut operation = Operation::new(data, dialect, id).in_database(self.session.database);
        operation.is_remembered = self.session.remembers();
        let operations = vec![operation];
        if self.engine.submit(Submission::new(outcome.clone(), operations)).is_err() {
            self.outbox.abandon();
            self.session.ends = true;
            return;
        }
        let reply = outcome.wait();
        let Reply::Array(items) = reply else {
            self.say_part(|out| protocol::encode(&[], dialect, &reply, out));
            return;
        };
        let mut bytes = 0;
        let mut deferred = deferred.into_iter().peekable();
        self.say_part(|out| protocol::encode_array_head(items.len(), out));
        for (place, mut item) in items.into_iter().enumerate() {
            if let Some(deferred) = deferred.next_if(|deferred| deferred.place == place) {
                let replies = &mut self.replies;
                let mut say = |said: &[u8]| replies.extend_from_slice(said);
                let Some(reply) = self.session.catch_up(deferred, &mut say) else {
                    // Confirmations of a SUBSCRIBE are messages: they come even if replies are off.
                    self.send_much(false);
                    continue;
                };
                self.session.shared.metrics.commands.count_error(None, &reply, true);
                // Replies about data were limited while it was carried out.
                bytes += reply.bytes();
                let is_too_long = bytes > self.session.shared.settings.unread.one;
                item = if is_too_long { Reply::Error(TOO_LONG.into()) } else { reply };
            }
            // A HELLO among them changes the version for the replies after it.
            let resp = Dialect::Resp(self.session.parser.version);
            self.say_part(|out| protocol::encode(&[], resp, &item, out));
            self.send_much(false);
        }
    }

    /// Forms a part of a reply that is made piece by piece, unless nobody wants it.
    fn say_part(&mut self, form: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_muted {
            form(&mut self.replies);
        }
    }

    /// Waits with a request while clients are paused. False if the client goes meanwhile.
    fn wait_for_pause(&mut self, spec: &Spec) -> bool {
        let Some(held_by) = self.session.held_by(spec) else { return true };
        self.hand_over();
        self.outbox.wait_until_answered();
        self.session.shared.pause.wait(held_by, || self.outbox.has_hung_up())
    }

    fn submit(&mut self) {
        if self.operations.is_empty() {
            return;
        }
        if !self.replies.is_empty() {
            self.outbox.send(&mut self.replies);
        }
        match self.queued_reads {
            0 => self.preemption.note_write(self.engine.writers()),
            _ => self.preemption.note_read(),
        }
        let operations = std::mem::take(&mut self.operations);
        let bytes = std::mem::take(&mut self.operation_bytes);
        self.queued_reads = 0;
        self.nothing_queued = false;
        self.operations = self.outbox.queue(&operations, bytes);
        let recipient = self.outbox.clone();
        if self.engine.submit(Submission::new(recipient, operations)).is_err() {
            // The server has stopped: these operations get no replies, and the connection ends.
            self.outbox.abandon();
        }
    }
}

/// Takes the reply to a transaction whose client's thread waits for it.
#[derive(Default)]
struct Outcome {
    client: u64,
    reply: Mutex<Option<Reply<'static>>>,
    arrived: Condvar,
}

impl Outcome {
    fn wait(&self) -> Reply<'static> {
        let mut reply = self.reply.lock();
        loop {
            match reply.take() {
                Some(reply) => return reply,
                None => self.arrived.wait(&mut reply),
            }
        }
    }
}

impl Recipient for Outcome {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        *self.reply.lock() = answered.first().map(|operation| operation.reply.clone());
        self.arrived.notify_all();
    }

    fn client(&self) -> u64 {
        self.client
    }
}
