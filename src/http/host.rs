//! Whether a request is meant for this server, by its header `Host`.
//!
//! A page on another site can have its own name lead to this machine (DNS rebinding), and would then read what is
//! here as if it were its own. Its requests name that site. So an address, `localhost` or the name that `-http-name`
//! gives is expected; an address cannot be rebound.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `host`, a name or address with or without a port, means this server.
pub fn is_ours(host: &str, name: Option<&str>) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
    }
    let (host, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let is_known = host.parse::<Ipv4Addr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || name.is_some_and(|name| host.eq_ignore_ascii_case(name));
    is_known && (port.is_empty() || is_port(port))
}

fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':').unwrap_or_default();
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_ours() {
        for host in ["127.0.0.1", "127.0.0.1:4280", "10.0.0.7:80", "[::1]", "[::1]:4280"] {
            assert!(is_ours(host, None), "{host}");
        }
        assert!(is_ours("LocalHost:1", None) && is_ours("db.example:4280", Some("DB.example")));
        for host in [
            "",
            ":",
            ":80",
            "evil.example",
            "evil.example:4280",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:+80",
            "127.0.0.1:99999",
            "127.0.0.1:80:80",
            "[::1",
            "[::1]x",
            "[a]",
            "::1",
            "127.0.0.1/",
            "localhost@evil.example",
            "2130706433",
            "0x7f000001",
            "127.1",
            "db.example",
        ] {
            assert!(!is_ours(host, None), "{host}");
        }
    }
}
