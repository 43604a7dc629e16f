//! CLIENT REPLY: which replies a client does not want. Messages come all the same, as in Redis.

use crate::command::Replying;

/// See the head of this file.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Muted {
    /// All are sent.
    #[default]
    No,
    /// None is.
    All,
    /// This many are not, from that of the current command on.
    Next(u8),
}

impl Muted {
    /// What CLIENT REPLY asks for. It is answered itself only if replies are on then.
    pub fn set(&mut self, replying: Replying) {
        *self = match replying {
            Replying::On => Muted::No,
            Replying::Off => Muted::All,
            Replying::Skip if *self == Muted::All => Muted::All,
            Replying::Skip => Muted::Next(2),
        };
    }

    /// Whether the reply to the current command is not sent; the next one is current from now on.
    pub fn take(&mut self) -> bool {
        match self {
            Muted::No => false,
            Muted::All => true,
            Muted::Next(count) => {
                *count -= 1;
                if *count == 0 {
                    *self = Muted::No;
                }
                true
            }
        }
    }
}
