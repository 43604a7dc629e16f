//! The tests that need a whole server, or a whole engine: bytes in, bytes out; a directory in, its state out.
//!
//! | | |
//! |---|---|
//! | [`scripts`] | conversations, a line a step: what each command answers |
//! | [`durability`] | nothing acknowledged is lost, whatever fails, is killed, or loses power |
//! | [`behaviour`] | what no script can say: many clients, slow ones, limits, starts |
//! | [`doors`] | where clients come in: addresses, a Unix socket |
//! | `replicated` | a real etcd understands this server, and this server it |
//! | [`tools`] | check, dump, repair and backup on logs that a real server wrote |
//!
//! They are one program, and its threads share one process: a test that changes anything of the process as a
//! whole runs in a process of its own ([`common::alone`]).

mod behaviour;
mod common;
mod doors;
mod double;
mod durability;
#[cfg(feature = "replicated")]
mod replicated;
mod scripts;
#[cfg(feature = "tools")]
mod tools;
