//! INFO: the sections of the other modules and of the server itself, in Redis's order.

use std::fmt::Display;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::command::{Group, REDIS_VERSION, Role};
use crate::metrics::Info;

impl Shared {
    /// The sections that were asked for.
    pub fn info(&self, asked: &[String]) -> String {
        let Shared { engine, metrics, flusher, hub, .. } = self;
        let mut info = Info::new(asked);
        self.show_server(&mut info);
        self.show_clients(&mut info);
        engine.show_memory(&mut info, flusher.unread_bytes());
        engine.show_persistence(&mut info);
        let (counts, tracked) = (hub.counts(), hub.tracking.counts());
        metrics.show_stats(
            &mut info,
            &[
                ("pubsub_channels", &counts.channels),
                ("pubsub_patterns", &counts.patterns),
                ("pubsubshard_channels", &counts.shard_channels),
                ("tracking_total_keys", &tracked.keys),
                ("tracking_total_items", &tracked.items),
                ("tracking_total_prefixes", &tracked.prefixes),
            ],
        );
        self.show_replication(&mut info);
        metrics.show_cpu(&mut info);
        info.section("Cluster", &[("cluster_enabled", &0)]);
        engine.show_keyspace(&mut info);
        metrics.show_commands(&mut info);
        info.into_text()
    }

    fn show_server(&self, info: &mut Info<'_>) {
        let uptime = self.metrics.run.began.elapsed();
        info.section(
            "Server",
            &[
                ("redis_version", &REDIS_VERSION),
                ("server_name", &env!("CARGO_PKG_NAME")),
                ("server_version", &env!("CARGO_PKG_VERSION")),
                ("redis_mode", &"standalone"),
                ("os", &std::env::consts::OS),
                ("arch_bits", &usize::BITS),
                ("process_id", &std::process::id()),
                ("run_id", &format_args!("{:040x}", self.metrics.run.id)),
                ("tcp_port", &self.port.load(Ordering::Relaxed)),
                ("uptime_in_seconds", &uptime.as_secs()),
                ("uptime_in_days", &(uptime.as_secs() / 86_400)),
                ("hz", &10),
            ],
        );
    }

    /// As in Redis, with what it cannot say: the term, the lease, and how far behind this machine is, in records.
    fn show_replication(&self, info: &mut Info<'_>) {
        let group = self.settings.nodes.as_ref().map(|nodes| nodes.group());
        let Some(Group { name, role, leader, others, term, lsn, lag, lease, .. }) = group else {
            let fields: [(&str, &dyn Display); 3] =
                [("role", &"master"), ("connected_slaves", &0), ("master_repl_offset", &0)];
            return info.section("Replication", &fields);
        };
        let leads = role == Role::Leading;
        let (host, port) = leader.map_or(("?".into(), 0), |leader| (leader.host, leader.port));
        let link = if role == Role::Following && port > 0 { "up" } else { "down" };
        let nodes = others.len() + 1;
        let to_leader: [(&str, &dyn Display); 4] = [
            ("master_host", &host),
            ("master_port", &port),
            ("master_link_status", &link),
            ("slave_repl_offset", &lsn),
        ];
        let of_group: [(&str, &dyn Display); 8] = [
            ("connected_slaves", &0),
            ("master_repl_offset", &lsn),
            ("group_name", &name),
            ("group_role", &format_args!("{role:?}")),
            ("group_nodes", &nodes),
            ("group_term", &term),
            ("group_lag", &lag),
            ("group_lease_ms", &lease.as_millis()),
        ];
        let role: (&str, &dyn Display) = ("role", if leads { &"master" } else { &"slave" });
        let follows = if leads { &[][..] } else { &to_leader[..] };
        info.section("Replication", &[&[role], follows, &of_group].concat());
    }

    fn show_clients(&self, info: &mut Info<'_>) {
        let Shared { metrics, settings, clients, hub, pause, .. } = self;
        let counts = hub.counts();
        info.section(
            "Clients",
            &[
                ("connected_clients", &metrics.connected_clients.get()),
                ("blocked_clients", &pause.waiting()),
                ("maxclients", &settings.changeable.max_clients()),
                ("tracking_clients", &hub.tracking.counts().clients),
                ("pubsub_clients", &counts.clients),
                ("watching_clients", &metrics.watching_clients.get()),
                ("total_watched_keys", &metrics.watched_keys.get()),
                ("watched_keys_bytes", &metrics.watched_bytes.get()),
                ("client_recent_max_output_buffer", &clients.largest_unread()),
            ],
        );
    }
}
