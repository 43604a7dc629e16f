//! Nothing acknowledged is lost, and nothing else appears, whatever fails, is killed, or loses power.

mod compaction;
mod databases;
pub mod failures;
mod fuzz;
pub mod history;
mod kill;
pub mod linearizable;
mod log_damage;
mod model;
pub mod pairs;
pub mod power_cut;
mod syncer;
