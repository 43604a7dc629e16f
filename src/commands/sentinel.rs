//! SENTINEL, by which clients find the machine that leads: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>.
//!
//! Each machine answers for the one group that it belongs to, by the name that the group's log has. An address is
//! given only while the machine there is known to lead; until another one does there is none, and never an old one.
//! Machines that follow answer no reads, so that they are no replicas to a client.

use crate::command::{Client, Group, Node, Reply, Role, Text, Words};

type Said = Result<Reply<'static>, Text>;

const UNKNOWN_GROUP: &str = "ERR No such master with that name";

/// The machines of a group decide as a majority of the log's members does, so that any one of them may be asked.
const QUORUM: &str = "1";

pub fn get_master_addr(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let group = group(client, words)?;
    let leader = group.leader.filter(|_| words[2] == group.name.as_bytes());
    Ok(leader.map_or(Reply::NullArray, |Node { host, port, .. }| {
        Reply::Array(vec![text(host), text(port.to_string())])
    }))
}

pub fn masters(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let group = group(client, words)?;
    let leader = group.leader.clone();
    Ok(Reply::Array(leader.map(|leader| describe_leader(&group, leader)).into_iter().collect()))
}

pub fn master(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let group = named(client, words)?;
    let leader = group.leader.clone().ok_or(UNKNOWN_GROUP)?;
    Ok(describe_leader(&group, leader))
}

/// SENTINEL REPLICAS and SLAVES.
pub fn replicas(client: &mut dyn Client, words: &Words<'_>) -> Said {
    named(client, words)?;
    Ok(Reply::Array(Vec::new()))
}

pub fn sentinels(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let group = named(client, words)?;
    Ok(Reply::Array(
        group.others.into_iter().map(|node| describe(&node.id.clone(), node, "sentinel")).collect(),
    ))
}

pub fn myid(client: &mut dyn Client, words: &Words<'_>) -> Said {
    Ok(text(group(client, words)?.own.id))
}

pub fn ckquorum(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let group = named(client, words)?;
    let usable = group.others.len() + 1;
    match group.leader {
        Some(_) => Ok(text(format!(
            "OK {usable} usable Sentinels. Quorum and failover authorization can be reached"
        ))),
        None => {
            Err(format!("NOQUORUM {usable} usable Sentinels. No machine is known to lead").into())
        }
    }
}

/// ROLE, as Redis spells it: offsets are numbers of records.
pub fn role(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let Some(Group { role, leader, lsn, .. }) = client.group() else {
        return Ok(as_master(0));
    };
    let lsn = i64::try_from(lsn).unwrap_or(i64::MAX);
    if role == Role::Leading {
        return Ok(as_master(lsn));
    }
    let (host, port) = leader.map_or(("?".into(), 0), |leader| (leader.host, leader.port));
    let link = match role {
        Role::Loading => "sync",
        Role::Leading | Role::Following => "connected",
    };
    Ok(Reply::Array(vec![
        text("slave"),
        text(host),
        Reply::Integer(port.into()),
        text(link),
        Reply::Integer(lsn),
    ]))
}

fn as_master(lsn: i64) -> Reply<'static> {
    Reply::Array(vec![text("master"), Reply::Integer(lsn), Reply::Array(Vec::new())])
}

/// The group, or Redis's error on a server that belongs to none.
fn group(client: &dyn Client, words: &Words<'_>) -> Result<Group, Text> {
    client.group().ok_or_else(|| super::unknown(words))
}

/// The group, if it has this name.
fn named(client: &dyn Client, words: &Words<'_>) -> Result<Group, Text> {
    let group = group(client, words)?;
    match words[2] == group.name.as_bytes() {
        true => Ok(group),
        false => Err(UNKNOWN_GROUP.into()),
    }
}

fn describe_leader(group: &Group, leader: Node) -> Reply<'static> {
    let Reply::Map(mut fields) = describe(&group.name, leader, "master") else { unreachable!() };
    let [others, term] = [group.others.len().to_string(), group.term.to_string()];
    let lease = group.lease.as_millis().to_string();
    let more = [
        ("config-epoch", &term[..]),
        ("down-after-milliseconds", &lease),
        ("failover-timeout", &lease),
        ("num-other-sentinels", &others),
        ("num-slaves", "0"),
        ("parallel-syncs", "1"),
        ("quorum", QUORUM),
        ("role-reported", "master"),
    ];
    fields.extend(more.into_iter().flat_map(|(name, value)| [text(name), text(value)]));
    Reply::Map(fields)
}

fn describe(name: &str, node: Node, flags: &'static str) -> Reply<'static> {
    let port = node.port.to_string();
    let fields = [
        ("name", name),
        ("ip", &node.host),
        ("port", &port),
        ("runid", &node.id),
        ("flags", flags),
        ("link-pending-commands", "0"),
        ("link-refcount", "1"),
        ("last-ok-ping-reply", "0"),
        ("last-ping-reply", "0"),
    ];
    Reply::Map(fields.into_iter().flat_map(|(name, value)| [text(name), text(value)]).collect())
}

fn text(text: impl Into<String>) -> Reply<'static> {
    Reply::Bulk(text.into().into_bytes().into())
}
