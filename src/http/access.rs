//! Whether a request may look.
//!
//! Beyond this machine it takes the server's password, by HTTP's Basic scheme, judged by the same judge as a client's:
//! failures here and there add up for an address, and slow both down. The password crosses the network in clear, as it
//! does from a client without TLS: put a proxy with TLS before this port where that matters.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::places::Connection;
use super::response::{Response, Status};
use crate::command::USER;
use crate::server::{Login, NoLogin, Watch};

/// The clients that may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone who reaches the address, which is on this machine.
    Everyone,
    /// Those who have the password; nobody, if there is none.
    Password,
    /// Those who have the password, or everyone if there is none: protected mode is off.
    PasswordIfAny,
}

impl Access {
    /// Whether no password is asked for.
    pub(super) fn is_open(self, server: &Watch) -> bool {
        match self {
            Access::Everyone => true,
            Access::PasswordIfAny => !server.needs_password(),
            Access::Password => false,
        }
    }
}

/// A client's permission to look: the login by which it has it, unless it needed none.
pub struct Pass(Option<Login>);

impl Pass {
    /// Whether it still may: not once the password of its login was replaced, as for a client.
    pub fn holds(&self, server: &Watch) -> bool {
        self.0.as_ref().is_none_or(|login| server.holds(login))
    }
}

/// Refuses a request that may not be answered. `rest` waits, and returns whether the connection may go on.
pub fn judge(
    access: Access,
    server: &Watch,
    authorization: Option<&str>,
    connection: &Connection,
    rest: &dyn Fn(Duration) -> bool,
) -> Result<Pass, Response> {
    if access.is_open(server) {
        return Ok(Pass(None));
    }
    if !server.needs_password() {
        return Err(Response::error(Status::Forbidden, "the server has no password; set one"));
    }
    // A request without one is how a browser asks for the prompt: no failure.
    let Some(text) = authorization else { return Err(unauthorized("a password is needed")) };
    let Some((user, password)) = basic(text) else {
        return Err(unauthorized("expected the Basic scheme"));
    };
    // Tools may leave the user out, as AUTH does.
    let user = if user.is_empty() { USER.into() } else { user };
    let pause = |time| pause(&connection.socket, time, rest);
    match server.log_in(connection.from, (&user, &password), pause) {
        Ok(login) => Ok(Pass(Some(login))),
        Err(NoLogin::Wrong) => Err(unauthorized("wrong user or password")),
        Err(NoLogin::NotLookedAt) => {
            let text = "too many logins from this address fail, this one was not looked at";
            Err(Response::error(Status::TooManyRequests, text))
        }
    }
}

fn unauthorized(text: &str) -> Response {
    Response::error(Status::Unauthorized, text)
}

/// User and password of the Basic scheme (RFC 7617).
fn basic(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, encoded) = text.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    is_basic.then(|| (decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

/// Waits, and returns whether the client is still there. One that sends more after its request is, and waits no
/// longer than others: what it sends is not read.
fn pause(socket: &TcpStream, time: Duration, rest: &dyn Fn(Duration) -> bool) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        if socket.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        match socket.peek(&mut [0]) {
            Ok(0) => return false,
            // It cannot be told whether it hangs up after these bytes; the pause is not cut short by them.
            Ok(_) => return rest(left),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons_and_a_user_may_not() {
        let decoded = basic("basic ZGVmYXVsdDphOmI=").expect("default:a:b");
        assert_eq!(decoded, (b"default".to_vec(), b"a:b".to_vec()));
        for text in ["", "Basic", "Basic !!", "Bearer ZGVmYXVsdDphOmI=", "Basic ZGVmYXVsdA=="] {
            assert!(basic(text).is_none(), "{text}");
        }
    }
}
