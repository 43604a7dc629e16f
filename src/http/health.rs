//! Whether the process serves, and whether requests should be sent to it.

use super::response::{Response, Status};
use crate::command::Role;
use crate::server::Watch;

/// The process serves: it accepts, reads and answers. To restart it for any other reason makes things worse.
pub fn alive() -> Response {
    Response::plain(Status::Ok, "alive\n".to_owned())
}

/// Whether requests should be sent here, with the reason if not.
pub fn ready(server: Option<&Watch>) -> Response {
    match why_not(server) {
        None => Response::plain(Status::Ok, "ready\n".to_owned()),
        Some(why) => Response::error(Status::Unavailable, why),
    }
}

/// Why requests should be sent elsewhere, if they should. The reason of a failure, with its path, is for those who
/// have the password: INFO and the page have it. A log without room takes removals and recovers by itself, so the
/// server stays ready.
pub fn why_not(server: Option<&Watch>) -> Option<&'static str> {
    let Some(server) = server else { return Some("the log is being replayed") };
    if server.is_stopping() {
        return Some("the server stops");
    }
    if !server.listens() {
        return Some("the server starts");
    }
    if server.engine().health().failure().is_some() {
        return Some("the log is closed for writing until a restart; reads are answered");
    }
    let role = server.group().map(|group| group.role)?;
    why_not_leading(role, server.engine().leads())
}

/// The same of a server of a group; only the one that leads takes writes, and answers reads.
fn why_not_leading(role: Role, can_prove: bool) -> Option<&'static str> {
    match role {
        Role::Following => Some("another server leads"),
        Role::Loading => Some("the log is being read"),
        Role::Leading if !can_prove => Some("this server cannot prove that it leads"),
        Role::Leading => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_group_only_the_server_that_can_prove_that_it_leads_is_ready() {
        for (role, can_prove, is_ready) in [
            (Role::Leading, true, true),
            (Role::Leading, false, false),
            (Role::Following, false, false),
            (Role::Loading, false, false),
        ] {
            assert_eq!(why_not_leading(role, can_prove).is_none(), is_ready, "{role:?}");
        }
    }
}
