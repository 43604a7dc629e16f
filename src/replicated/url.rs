//! The address of a log in etcd, as `-wal` takes it: `etcd://host:port,host:port/name?user=u&compact=no`.
//!
//! `etcds` in place of `etcd` means TLS. The name is the first part of every key, and the one that clients ask
//! SENTINEL for, so that it is kept to characters that need no escape anywhere. A password is never part of
//! the address, because the arguments of a process can be read by every user of its machine.

/// The schemes, and whether the connection is encrypted.
const SCHEMES: [(&str, Encryption); 2] =
    [("etcd://", Encryption::None), ("etcds://", Encryption::Tls)];
/// The longest name. It is in every key, and 64 is what fits into a line of INFO or of a message.
pub const LONGEST_NAME: usize = 64;
/// The most members. An etcd cluster has three or five, at most seven by its own documentation; the rest is for
/// a cluster that is being replaced by another, with both in the list.
pub const MOST_MEMBERS: usize = 16;
/// The longest host: that of a name in DNS.
const LONGEST_HOST: usize = 253;
/// The longest name of a user; etcd itself has no limit.
const LONGEST_USER: usize = 128;

/// Whether what goes to etcd is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// It is not.
    None,
    /// By TLS, and the member proves who it is.
    Tls,
}

/// Whether this server tells etcd to forget old revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// It does: the cluster is for it alone.
    Ours,
    /// It does not: `compact=no`, the operator has etcd do so itself.
    Theirs,
}

/// Where a log in etcd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Plain or TLS.
    pub encryption: Encryption,
    /// The members, each `host:port`, in the order given, none twice.
    pub members: Vec<String>,
    /// The name of the log.
    pub name: String,
    /// The user of etcd, if it asks for one.
    pub user: Option<String>,
    /// Whose task it is to compact revisions.
    pub compaction: Compaction,
}

impl Url {
    /// Reads an address. The error is for the person who wrote it, and says what is expected.
    pub fn parse(text: &str) -> Result<Url, String> {
        let found =
            SCHEMES.iter().find_map(|(it, kind)| text.strip_prefix(it).map(|rest| (rest, *kind)));
        let (rest, encryption) = found
            .ok_or("a log in etcd begins with etcd:// or etcds://, and a directory does not")?;
        if rest.contains('#') {
            return Err("an address of etcd has no part after a #".into());
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
        let (hosts, name) = rest.split_once('/').ok_or_else(|| {
            format!("{text} has no name: after the members comes /name, such as /shop")
        })?;
        let (user, compaction) = options(query)?;
        Ok(Url {
            encryption,
            members: members(hosts)?,
            name: checked_name(name)?,
            user,
            compaction,
        })
    }
}

fn members(hosts: &str) -> Result<Vec<String>, String> {
    if hosts.contains('@') {
        return Err("a user is given as ?user=name, and a password in a file or the environment, \
                    never in the address: every user of this machine can read it there"
            .into());
    }
    let mut members: Vec<String> = Vec::new();
    for member in hosts.split(',') {
        let member = checked_member(member)?;
        if members.contains(&member) {
            return Err(format!("the member {member} is named twice"));
        }
        members.push(member);
    }
    if members.len() > MOST_MEMBERS {
        return Err(format!("{} members, and at most {MOST_MEMBERS} can be named", members.len()));
    }
    Ok(members)
}

/// A member is `host:port`, with a host by name, by IPv4 address, or by IPv6 address in brackets.
fn checked_member(member: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("the member {member:?} {what}; it is to be host:port"));
    if member.is_empty() {
        return wrong("is empty");
    }
    let Some((host, port)) = member.rsplit_once(':') else { return wrong("has no port") };
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if !is_number || port.parse::<u16>().map_or(true, |port| port == 0) {
        return wrong("has no port between 1 and 65535");
    }
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !host.is_empty() && host.len() <= LONGEST_HOST && host.bytes().all(is_plain)
        }
    };
    match (is_host, host.contains(':') && inside.is_none()) {
        (true, _) => Ok(format!("{host}:{}", port.trim_start_matches('0'))),
        (false, true) => wrong("is an IPv6 address without its brackets"),
        (false, false) => wrong("has no host that could be one"),
    }
}

fn checked_name(name: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_fine = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.len() <= LONGEST_NAME
        && name.bytes().all(is_plain);
    if !is_fine {
        return Err(format!(
            "{name:?} cannot be the name of a log: it is 1 to {LONGEST_NAME} of A-Z a-z 0-9 - _ . and begins \
             with a letter or a digit"
        ));
    }
    Ok(name.to_owned())
}

fn options(query: Option<&str>) -> Result<(Option<String>, Compaction), String> {
    let (mut user, mut compaction) = (None, None);
    for option in query.into_iter().flat_map(|query| query.split('&')) {
        match option.split_once('=') {
            Some(("user", it)) if user.is_none() => user = Some(checked_user(it)?),
            Some(("compact", "yes")) if compaction.is_none() => compaction = Some(Compaction::Ours),
            Some(("compact", "no")) if compaction.is_none() => {
                compaction = Some(Compaction::Theirs)
            }
            Some(("compact", it)) if compaction.is_none() => {
                return Err(format!("compact={it} means nothing: it is yes or no"));
            }
            Some(("user" | "compact", _)) => return Err(format!("{option} is a second time")),
            Some(("password", _)) => {
                return Err(
                    "a password is given in a file or the environment, never in the address: \
                            every user of this machine can read it there"
                        .into(),
                );
            }
            _ => {
                return Err(format!(
                    "{option:?} is no option of an address of etcd: they are user=NAME and compact=yes or no"
                ));
            }
        }
    }
    Ok((user, compaction.unwrap_or(Compaction::Ours)))
}

fn checked_user(user: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"%:\"\\".contains(&b);
    if user.is_empty() || user.len() > LONGEST_USER || !user.bytes().all(is_plain) {
        return Err(format!(
            "user={user}: the name of a user is 1 to {LONGEST_USER} printable characters, none of them % : \" \\"
        ));
    }
    Ok(user.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_members_a_name_and_options() {
        let url =
            Url::parse("etcd://a:2379,10.0.0.2:1,[::1]:65535/shop-1?user=root&compact=no").unwrap();
        let members = ["a:2379", "10.0.0.2:1", "[::1]:65535"].map(str::to_owned).to_vec();
        assert_eq!(
            url,
            Url {
                encryption: Encryption::None,
                members,
                name: "shop-1".into(),
                user: Some("root".into()),
                compaction: Compaction::Theirs,
            }
        );
        let plain = Url::parse("etcds://a:02379/x").unwrap();
        assert_eq!((plain.encryption, plain.user), (Encryption::Tls, None));
        assert_eq!(
            (plain.compaction, plain.members),
            (Compaction::Ours, vec!["a:2379".to_owned()])
        );
    }

    #[test]
    fn every_wrong_address_is_refused_with_a_reason() {
        let long = "x".repeat(LONGEST_NAME + 1);
        let many = (1..=MOST_MEMBERS + 1).map(|n| format!("h:{n}")).collect::<Vec<_>>().join(",");
        let wrong: &[(&str, &str)] = &[
            ("", "begins with etcd://"),
            ("http://a:1/x", "begins with etcd://"),
            ("ETCD://a:1/x", "begins with etcd://"),
            ("etcd://a:1", "has no name"),
            ("etcd://a:1/", "cannot be the name"),
            ("etcd://a:1/a/b", "cannot be the name"),
            ("etcd://a:1/a b", "cannot be the name"),
            ("etcd://a:1/.a", "cannot be the name"),
            ("etcd://a:1/ä", "cannot be the name"),
            (&format!("etcd://a:1/{long}"), "cannot be the name"),
            ("etcd:///x", "is empty"),
            ("etcd://a:1,/x", "is empty"),
            ("etcd://a/x", "has no port"),
            ("etcd://a:/x", "between 1 and 65535"),
            ("etcd://a:0/x", "between 1 and 65535"),
            ("etcd://a:65536/x", "between 1 and 65535"),
            ("etcd://a:+1/x", "between 1 and 65535"),
            ("etcd://:1/x", "no host"),
            ("etcd://a b:1/x", "no host"),
            ("etcd://::1:1/x", "without its brackets"),
            ("etcd://[::g]:1/x", "no host"),
            ("etcd://a:1,a:01/x", "named twice"),
            (&format!("etcd://{many}/x"), "at most 16"),
            ("etcd://u:p@a:1/x", "never in the address"),
            ("etcd://a:1/x?password=p", "never in the address"),
            ("etcd://a:1/x?user=", "printable"),
            ("etcd://a:1/x?user=a&user=b", "second time"),
            ("etcd://a:1/x?compact=maybe", "yes or no"),
            ("etcd://a:1/x?compact=no&compact=no", "second time"),
            ("etcd://a:1/x?", "is no option"),
            ("etcd://a:1/x?tls=1", "is no option"),
            ("etcd://a:1/x#y", "after a #"),
        ];
        for (text, reason) in wrong {
            let said = Url::parse(text).expect_err(text);
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
