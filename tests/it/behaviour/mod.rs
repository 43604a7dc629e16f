//! What no script can say: many clients at once, slow ones, limits, starts and stops.

mod clients;
mod commit_window;
mod costs;
mod events;
mod every_command;
mod flags;
mod info;
mod limits;
mod long_reads;
mod long_replies;
#[cfg(feature = "scripts")]
mod long_scripts;
#[cfg(feature = "http")]
mod looking;
mod max_memory;
mod message_forms;
mod messages;
mod read_path;
mod redis_crate;
mod request_limits;
mod resp;
#[cfg(feature = "scripts")]
mod scripts;
mod settings;
mod startup;
mod tracking;
#[cfg(feature = "users")]
mod users;
mod watches;
