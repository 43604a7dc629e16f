//! The parts of the server's life, and the system calls on its log in each of them.

use super::traced::Traced;
use super::traced::Way::{self, Error, Kill, Returns};

/// Rounds of writing that fill the first segment of 1 MiB and go on in the second.
pub const OVER_A_SEGMENT: usize = 30;
pub const SHORT: usize = 3;

/// What is at the log's path before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// A log of one segment, killed.
    Log,
    /// A log whose server was killed between the two renames of a rotation, with a torn batch.
    Interrupted,
    /// A log of the seed's own program.
    Foreign,
}

/// A part of the server's life.
pub struct Scenario {
    pub name: &'static str,
    pub before: Before,
    pub traced: Traced,
    /// The names of the files that count; none means all.
    pub only: &'static [&'static str],
    pub flags: &'static [&'static str],
    pub rounds: usize,
    pub calls: &'static [(&'static str, &'static [Way])],
}

const FAILS: &[Way] = &[Error("EIO"), Error("ENOSPC"), Error("EINTR")];
const FAILS_OR_DIES: &[Way] = &[Error("EIO"), Error("ENOSPC"), Error("EINTR"), Kill];
const READS: &[Way] = &[Error("EIO"), Error("EINTR")];
const WRITES: &[Way] = &[Error("EIO"), Error("ENOSPC"), Error("EINTR"), Returns(0), Kill];
/// A short count leaves out nothing but zeros here, in a new file.
const FILLS: &[Way] =
    &[Error("EIO"), Error("ENOSPC"), Error("EINTR"), Returns(0), Returns(4096), Kill];

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a start on nothing",
        before: Before::Nothing,
        traced: Traced::Main,
        only: &[],
        flags: &[],
        rounds: SHORT,
        calls: &[
            ("statx", READS),
            ("(new)?fstat", READS),
            ("getdents64", READS),
            ("flock", FAILS),
            ("openat", FAILS_OR_DIES),
            ("close", READS),
            ("ftruncate", FAILS),
            ("write", WRITES),
            ("fsync", FAILS_OR_DIES),
            ("pwrite64", FILLS),
            ("pwritev2", WRITES),
            ("rename", FAILS_OR_DIES),
        ],
    },
    Scenario {
        name: "a start in the middle of a rotation, with a torn batch",
        before: Before::Interrupted,
        traced: Traced::Main,
        only: &[],
        flags: &[],
        rounds: SHORT,
        calls: &[
            ("statx", READS),
            ("(new)?fstat", READS),
            ("getdents64", READS),
            ("openat", FAILS),
            ("close", READS),
            ("pread64", READS),
            ("fsync", FAILS_OR_DIES),
            ("pwrite64", FILLS),
            ("rename", FAILS_OR_DIES),
        ],
    },
    Scenario {
        name: "an import",
        before: Before::Foreign,
        traced: Traced::Main,
        only: &[],
        flags: &[],
        rounds: SHORT,
        calls: &[
            ("openat", FAILS),
            ("pread64", READS),
            ("fsync", FAILS_OR_DIES),
            ("pwrite64", FILLS),
            ("pwritev2", WRITES),
            ("rename", FAILS_OR_DIES),
        ],
    },
    Scenario {
        name: "commits, a rotation, an ordered stop",
        before: Before::Nothing,
        traced: Traced::Committing,
        only: &[],
        flags: &[],
        rounds: OVER_A_SEGMENT,
        calls: &[
            ("pwritev2", WRITES),
            ("pwrite64", WRITES),
            ("fsync", FAILS_OR_DIES),
            ("rename", FAILS_OR_DIES),
            ("openat", FAILS),
            ("statx", READS),
            ("close", READS),
            ("ftruncate", FAILS_OR_DIES),
            ("unlink", FAILS_OR_DIES),
        ],
    },
    Scenario {
        name: "the same with -fsync no",
        before: Before::Nothing,
        traced: Traced::Committing,
        only: &[],
        flags: &["-fsync", "no"],
        rounds: OVER_A_SEGMENT,
        calls: &[("pwrite64", WRITES), ("fsync", FAILS_OR_DIES)],
    },
    Scenario {
        name: "commits by the clients' own threads",
        before: Before::Log,
        traced: Traced::All,
        only: &["wal_file"],
        flags: &[],
        rounds: OVER_A_SEGMENT,
        calls: &[("pwritev2", WRITES), ("pwrite64", WRITES), ("fsync", FAILS_OR_DIES)],
    },
    Scenario {
        name: "the next segment is prepared",
        before: Before::Log,
        traced: Traced::All,
        only: &["wal_file.next"],
        flags: &[],
        rounds: OVER_A_SEGMENT,
        calls: &[
            ("openat", FAILS_OR_DIES),
            ("statx", READS),
            ("pwrite64", FILLS),
            ("fsync", FAILS_OR_DIES),
        ],
    },
    Scenario {
        name: "a full segment is cut, one more is prepared",
        before: Before::Nothing,
        traced: Traced::Thread("segments"),
        only: &[],
        flags: &[],
        rounds: OVER_A_SEGMENT,
        calls: &[
            ("openat", FAILS_OR_DIES),
            ("statx", READS),
            ("ftruncate", FAILS_OR_DIES),
            ("fsync", FAILS_OR_DIES),
            ("close", READS),
        ],
    },
];
