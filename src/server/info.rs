//! INFO: the sections of the other modules and of the server itself, in Redis's order.

use std::fmt::Display;

use super::Shared;
use crate::command::{Group, Keeper, KeeperStatus, REDIS_VERSION, Role};
use crate::doors::Listening;
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
        let listening = self.listening.get().map_or(&[][..], Vec::as_slice);
        let listeners = listening.iter().map(Listening::to_string).enumerate();
        let listeners: Vec<(String, String)> =
            listeners.map(|(at, shown)| (format!("listener{at}"), shown)).collect();
        let listeners: Vec<(&str, &dyn Display)> =
            listeners.iter().map(|(name, shown)| (name.as_str(), shown as &dyn Display)).collect();
        let of_server: [(&str, &dyn Display); 12] = [
            ("redis_version", &REDIS_VERSION),
            ("server_name", &env!("CARGO_PKG_NAME")),
            ("server_version", &env!("CARGO_PKG_VERSION")),
            ("redis_mode", &"standalone"),
            ("os", &std::env::consts::OS),
            ("arch_bits", &usize::BITS),
            ("process_id", &std::process::id()),
            ("run_id", &format_args!("{:040x}", self.metrics.run.id)),
            ("tcp_port", &self.port()),
            ("uptime_in_seconds", &uptime.as_secs()),
            ("uptime_in_days", &(uptime.as_secs() / 86_400)),
            ("hz", &10),
        ];
        info.section("Server", &[&of_server[..], &listeners].concat());
    }

    /// The port without TLS, or with it if there is no other; 0 if there is none.
    pub fn port(&self) -> u16 {
        let ports = ["tcp", "tls"].map(|kind| self.port_of(kind));
        ports.into_iter().find(|port| *port > 0).unwrap_or(0)
    }

    /// The port of this kind of door, or 0 if there is none.
    pub fn port_of(&self, kind: &str) -> u16 {
        let mut listening = self.listening.get().into_iter().flatten();
        listening.find(|all| all.kind == kind).map_or(0, |all| all.port)
    }

    /// As in Redis, with what it cannot say: the term, the lease, and how far behind this machine is, in records.
    fn show_replication(&self, info: &mut Info<'_>) {
        let group = self.settings.nodes.as_ref().map(|nodes| nodes.group());
        let Some(group) = group else {
            let fields: [(&str, &dyn Display); 3] =
                [("role", &"master"), ("connected_slaves", &0), ("master_repl_offset", &0)];
            return info.section("Replication", &fields);
        };
        let rows = rows_of(&group);
        let Group { name, role, leader, others, term, lsn, lag, lease, lease_left, store, .. } =
            group;
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
        let of_group: [(&str, &dyn Display); 10] = [
            ("connected_slaves", &0),
            ("master_repl_offset", &lsn),
            ("group_name", &name),
            ("group_role", &format_args!("{role:?}")),
            ("group_nodes", &nodes),
            ("group_term", &term),
            ("group_lag", &lag),
            ("group_lease_ms", &lease.as_millis()),
            ("group_lease_left_ms", &lease_left.as_millis()),
            ("group_store", &store),
        ];
        let rows: Vec<(&str, &dyn Display)> =
            rows.iter().map(|(name, row)| (name.as_str(), row as &dyn Display)).collect();
        let role: (&str, &dyn Display) = ("role", if leads { &"master" } else { &"slave" });
        let follows = if leads { &[][..] } else { &to_leader[..] };
        info.section("Replication", &[&[role], follows, &of_group, &rows].concat());
    }

    fn show_clients(&self, info: &mut Info<'_>) {
        let Shared { metrics, clients, hub, .. } = self;
        let facts = self.client_facts();
        info.section(
            "Clients",
            &[
                ("connected_clients", &facts.connected),
                ("blocked_clients", &facts.blocked),
                ("maxclients", &facts.most),
                ("tracking_clients", &hub.tracking.counts().clients),
                ("pubsub_clients", &facts.subscribers),
                ("watching_clients", &facts.watching),
                ("total_watched_keys", &metrics.watched_keys.get()),
                ("watched_keys_bytes", &metrics.watched_bytes.get()),
                ("client_recent_max_output_buffer", &clients.largest_unread()),
            ],
        );
    }
}

/// A line for each machine of a group, and for each member of the cluster that keeps its log. They are not named as
/// Redis names replicas: a client would read from them.
fn rows_of(group: &Group) -> Vec<(String, String)> {
    let nodes = [&group.own].into_iter().chain(&group.others);
    let nodes = nodes.map(|node| format!("id={},ip={},port={}", node.id, node.host, node.port));
    let nodes = nodes.enumerate().map(|(at, row)| (format!("group_node{at}"), row));
    let keepers = group.keepers.iter().map(describe).enumerate();
    nodes.chain(keepers.map(|(at, row)| (format!("group_member{at}"), row))).collect()
}

fn describe(keeper: &Keeper) -> String {
    let address = &keeper.address;
    match &keeper.status {
        Ok(KeeperStatus { version, leads, file_bytes, used_bytes, alarms }) => format!(
            "address={address},state=up,version={version},leads={},file_bytes={file_bytes},used_bytes={used_bytes},\
             alarms={}",
            u8::from(*leads),
            one_word(&alarms.join(";"))
        ),
        Err(why) => format!("address={address},state=down,why={}", one_word(why)),
    }
}

/// A text in a field of a line.
fn one_word(text: &str) -> String {
    text.trim().replace([',', '\r', '\n'], ";")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::Node;

    #[test]
    fn a_group_has_a_line_for_each_machine_and_each_member_that_keeps_its_log() {
        let node = |port| Node { id: format!("{port:040x}"), host: "10.0.0.7".into(), port };
        let up = KeeperStatus {
            version: "3.4.23".into(),
            leads: true,
            file_bytes: 9,
            used_bytes: 7,
            alarms: vec!["memberID:5 alarm:NOSPACE ".into(), "x,\r\ny".into()],
        };
        let keepers = [Ok(up), Err("etcd does not answer: a,b\r\nrole:master".to_owned())];
        let keeper = |(at, status)| Keeper { address: format!("h{at}:2379"), status };
        let group = Group {
            name: "shop".into(),
            own: node(7),
            role: Role::Following,
            leader: None,
            others: vec![node(8)],
            term: 1,
            lsn: 1,
            lag: 0,
            lease: Duration::ZERO,
            lease_left: Duration::ZERO,
            store: String::new(),
            keepers: keepers.into_iter().enumerate().map(keeper).collect(),
        };
        let expected = [
            "group_node0:id=0000000000000000000000000000000000000007,ip=10.0.0.7,port=7",
            "group_node1:id=0000000000000000000000000000000000000008,ip=10.0.0.7,port=8",
            "group_member0:address=h0:2379,state=up,version=3.4.23,leads=1,file_bytes=9,used_bytes=7,\
             alarms=memberID:5 alarm:NOSPACE ;x;;;y",
            "group_member1:address=h1:2379,state=down,why=etcd does not answer: a;b;;role:master",
        ];
        let rows: Vec<String> =
            rows_of(&group).into_iter().map(|(name, row)| format!("{name}:{row}")).collect();
        assert_eq!(rows, expected);
    }
}
