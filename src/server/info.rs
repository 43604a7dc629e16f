//! INFO: the sections of the other modules and of the server itself, in Redis's order.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::command::REDIS_VERSION;
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
        info.section(
            "Replication",
            &[("role", &"master"), ("connected_slaves", &0), ("master_repl_offset", &0)],
        );
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
