//! One call after the other goes wrong: on a double of the disk (`disk`), as a system call of the real
//! server (`calls`), as a file that cannot grow (`log`), as a device that loses what the page cache still
//! has (`page_cache`).

mod calls;
pub mod disk;
mod log;
mod page_cache;
mod scenarios;
mod traced;
mod work;
