//! Conversations that are written down, a line a step.

mod conversations;
