//! The flags about messages: their form, and which commands are slow enough for one.

use super::number;
use crate::messages::Form;
use crate::metrics::{MOST_SLOW, SlowCommands, SlowMessages};

/// Flags about messages.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// What messages on stderr look like. Where journald reads them they bring no time of their own
    #[arg(long = "log-format", value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub(super) form: Form,

    /// Microseconds from which a command is slow, for SLOWLOG and for messages; -1: none is
    #[arg(
        long = "slowlog-log-slower-than",
        default_value_t = SlowCommands::default().micros(),
        value_name = "MICROSECONDS",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..)
    )]
    slower_than: i64,

    /// How many slow commands SLOWLOG keeps
    #[arg(
        long = "slowlog-max-len",
        default_value_t = SlowCommands::default().most() as u64,
        value_name = "0-10000",
        value_parser = number(0, MOST_SLOW)
    )]
    most_slow: u64,

    /// Whether there is a message about each slow command, at most ten a second: with its key, or redacted without; never
    /// with a value
    #[arg(
        long = "slowlog-messages",
        value_enum,
        default_value_t = SlowMessages::No,
        value_name = "no|yes|redacted"
    )]
    slow_messages: SlowMessages,
}

impl Flags {
    /// Sets the time from which on a command is slow, and the way in which slow ones are told.
    pub fn begin(&self, slow: &SlowCommands) {
        slow.set_micros(self.slower_than);
        slow.set_most(self.most_slow as usize);
        slow.messages.set(self.slow_messages);
    }
}
