//! The facts about a client that make its line in CLIENT LIST.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::accounts::Login;
use crate::command::{
    ClientKind, KillFilter, Mark, Switch, TrackingMode, TrackingState, USER, Watcher,
};
use crate::doors::Address;
use crate::sync::Mutex;

/// See the head of this file.
pub struct Profile {
    /// The client's own address.
    pub address: Address,
    /// The address that it has connected to.
    pub local: Option<Address>,
    /// How much it watches.
    pub watcher: Arc<Watcher>,
    /// How much it has subscribed to.
    pub subscribed: Subscribed,
    /// Whether it sees every request.
    pub watches_all: AtomicBool,
    /// Redis's `no-evict`.
    pub is_kept: AtomicBool,
    touches_nothing: AtomicBool,
    tracking: Tracking,
    since: Instant,
    info: Mutex<ClientInfo>,
}

/// How much a client has subscribed to.
#[derive(Default)]
pub struct Subscribed {
    pub channels: AtomicUsize,
    pub patterns: AtomicUsize,
    pub shard_channels: AtomicUsize,
    /// Bytes of memory that this takes up.
    pub bytes: AtomicUsize,
}

impl Subscribed {
    /// Channels, patterns and shard channels.
    fn counts(&self) -> [usize; 3] {
        let Subscribed { channels, patterns, shard_channels, .. } = self;
        [channels, patterns, shard_channels].map(|count| count.load(Ordering::Relaxed))
    }
}

/// How a client tracks what it reads, for CLIENT LIST.
#[derive(Default)]
struct Tracking {
    is_on: AtomicBool,
    is_broadcast: AtomicBool,
    is_broken: AtomicBool,
    /// Redis's `redir`: a client's number, 0 for none, -1 if it does not track.
    redirect: AtomicI64,
}

/// What a client tells of itself, and what it does.
#[derive(Clone, Default)]
pub struct ClientInfo {
    pub name: String,
    pub lib_name: String,
    pub lib_version: String,
    /// As whom it is logged in, if it is.
    pub login: Option<Arc<Login>>,
    /// Since when it is not, if it was before.
    pub left_at: Option<Instant>,
    /// The number of the database that it has selected.
    pub database: u16,
    /// The version of RESP it speaks.
    pub resp: u8,
    /// The name of its last command.
    pub command: &'static str,
    /// When that came.
    pub active: Option<Instant>,
    /// Bytes received that are not yet part of a whole request.
    pub query: usize,
    /// Room for more of them.
    pub query_room: usize,
    /// Bytes that the parser keeps for a request that has not arrived as a whole.
    pub arguments: usize,
    /// Commands of a transaction, if it has begun one.
    pub queued: Option<usize>,
    /// Bytes that they take up.
    pub queued_bytes: usize,
    /// Bytes of replies that its thread has not handed over yet.
    pub replies: usize,
}

impl ClientInfo {
    /// Its user, or the one it would be.
    fn user(&self) -> &str {
        self.login.as_ref().map_or(USER, |login| &login.user.name)
    }
}

impl Profile {
    pub fn new(id: u64, address: Address, local: Option<Address>) -> Profile {
        let watcher = Arc::new(Watcher::new(id));
        let info = ClientInfo { resp: 2, command: "NULL", ..ClientInfo::default() };
        let info = Mutex::new(info);
        let (subscribed, tracking) = (Subscribed::default(), Tracking::default());
        tracking.redirect.store(-1, Ordering::Relaxed);
        let [watches_all, is_kept, touches_nothing] = [const { AtomicBool::new(false) }; 3];
        Profile {
            address,
            local,
            watcher,
            subscribed,
            watches_all,
            is_kept,
            touches_nothing,
            tracking,
            since: Instant::now(),
            info,
        }
    }

    pub fn info(&self) -> ClientInfo {
        self.info.lock().clone()
    }

    pub fn note(&self, change: impl FnOnce(&mut ClientInfo)) {
        change(&mut self.info.lock());
    }

    /// Its line in CLIENT LIST. Fields of Redis that are missing are not known here.
    pub fn line(&self, id: u64, descriptor: RawFd, sending: &Sending) -> String {
        let info = self.info();
        let age = self.since.elapsed().as_secs();
        let idle = info.active.map_or(age, |active| active.elapsed().as_secs());
        let local = self.local.as_ref().map(Address::to_string).unwrap_or_default();
        let Sending { unsent_room, unsent, flushing, waiting_bytes, outbox_bytes } = *sending;
        let buffers = info.query + info.query_room + info.arguments + info.replies + unsent_room;
        let words = info.name.len() + info.lib_name.len() + info.lib_version.len();
        let total = outbox_bytes
            + buffers
            + info.queued_bytes
            + waiting_bytes
            + words
            + self.watcher.bytes()
            + self.subscribed.bytes.load(Ordering::Relaxed);
        let [channels, patterns, shard_channels] = self.subscribed.counts();
        format!(
            "id={id} addr={} laddr={local} fd={descriptor} name={} age={age} idle={idle} flags={} db={} \
             sub={channels} psub={patterns} ssub={shard_channels} multi={} watch={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} obl={} \
             oll={} omem={unsent_room} tot-mem={total} events={} cmd={} user={} redir={} resp={} \
             lib-name={} lib-ver={}\n",
            self.address,
            info.name,
            self.flags(&info),
            info.database,
            info.queued.map_or(-1, |queued| queued as i64),
            self.watcher.keys(),
            info.query,
            info.query_room,
            info.arguments,
            info.queued_bytes,
            info.replies,
            usize::from(unsent > 0),
            if flushing { "rw" } else { "r" },
            info.command,
            info.user(),
            self.tracking.redirect.load(Ordering::Relaxed),
            info.resp,
            info.lib_name,
            info.lib_version,
        )
    }

    /// Redis's letters: `O` sees every request, `P` subscribed to something, `t` tracks what it reads, `B` by
    /// prefixes, `R` for one that has gone, `x` in a transaction, `d` if a watched key has changed, `U` by a Unix socket,
    /// `e` no-evict, `T` no-touch, `N` if none.
    fn flags(&self, info: &ClientInfo) -> String {
        let is_subscriber = self.kind() == ClientKind::Subscriber;
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let flags = [
            (is(&self.watches_all), 'O'),
            (is_subscriber, 'P'),
            (info.queued.is_some(), 'x'),
            (self.watcher.has_changed(), 'd'),
            (is(&self.tracking.is_on), 't'),
            (is(&self.tracking.is_broken), 'R'),
            (is(&self.tracking.is_broadcast), 'B'),
            (matches!(self.address, Address::Path(_)), 'U'),
            (is(&self.is_kept), 'e'),
            (is(&self.touches_nothing), 'T'),
        ];
        let flags: String =
            flags.iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| flag).collect();
        if flags.is_empty() { "N".to_owned() } else { flags }
    }

    /// Gives it a mark, or takes it away.
    pub fn set_mark(&self, mark: Mark, switch: Switch) {
        let flag = match mark {
            Mark::NoEvict => &self.is_kept,
            Mark::NoTouch => &self.touches_nothing,
        };
        flag.store(switch == Switch::On, Ordering::Relaxed);
    }

    /// Notes how it tracks.
    pub fn note_tracking(&self, state: Option<&TrackingState>) {
        let Tracking { is_on, is_broadcast, is_broken, redirect } = &self.tracking;
        let mode = state.map(|state| state.mode);
        is_on.store(mode.is_some(), Ordering::Relaxed);
        is_broadcast.store(mode == Some(TrackingMode::Broadcast), Ordering::Relaxed);
        is_broken.store(state.is_some_and(|state| state.is_broken), Ordering::Relaxed);
        let number = state.map_or(-1, |state| state.redirect as i64);
        redirect.store(number, Ordering::Relaxed);
    }

    /// Whether other clients, or its own commands, may cause something to be sent that is no reply.
    pub fn hears(&self) -> bool {
        self.kind() == ClientKind::Subscriber || self.tracking.is_on.load(Ordering::Relaxed)
    }

    /// Its type, for CLIENT LIST and KILL.
    pub fn kind(&self) -> ClientKind {
        match self.subscribed.counts() {
            [0, 0, 0] => ClientKind::Normal,
            _ => ClientKind::Subscriber,
        }
    }

    /// For how long it has not been logged in; `None` if it is.
    pub fn waits_for_login(&self) -> Option<Duration> {
        let info = self.info.lock();
        let is_stranger = info.login.is_none();
        is_stranger.then(|| info.left_at.unwrap_or(self.since).elapsed())
    }

    /// How long ago it has asked something.
    pub fn idle(&self) -> Duration {
        let active = self.info.lock().active;
        active.unwrap_or(self.since).elapsed()
    }

    /// Whether its addresses, type and age are among those that CLIENT KILL means.
    pub fn fits(&self, filter: &KillFilter) -> bool {
        let is = |address: Option<&Address>, wanted: &Option<Vec<u8>>| match wanted {
            None => true,
            Some(wanted) => address.is_some_and(|it| it.to_string().as_bytes() == wanted),
        };
        is(Some(&self.address), &filter.address)
            && is(self.local.as_ref(), &filter.local)
            && filter.user.as_ref().is_none_or(|user| self.info.lock().user().as_bytes() == user)
            && filter.kind.is_none_or(|kind| self.kind() == kind)
            && filter.age.is_none_or(|age| self.since.elapsed().as_secs() >= age)
    }
}

/// The state of a client's replies, for CLIENT LIST.
#[derive(Default)]
pub struct Sending {
    /// Bytes that the socket has not taken.
    pub unsent: usize,
    /// The memory that they are in.
    pub unsent_room: usize,
    /// Whether the flusher has them.
    pub flushing: bool,
    /// Bytes of requests that are not answered yet.
    pub waiting_bytes: usize,
    /// Bytes of the outbox itself.
    pub outbox_bytes: usize,
}
