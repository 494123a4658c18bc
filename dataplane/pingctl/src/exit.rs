//! What the exit codes mean: the one table.

use std::{fmt::Write, process::ExitCode};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    No = 1,
    Usage = 2,
    Unavailable = 3,
    Refused = 4,
    Broken = 5,
}

/// Every exit code and its meaning.
const TABLE: [(Exit, &str); 6] = [
    (Exit::Done, "done; the answer is yes"),
    (Exit::No, "the answer is no: verify or --check found a difference, or the ping of --after is not counted yet"),
    (Exit::Usage, "the command line is wrong"),
    (Exit::Unavailable, "the server is unreachable or unavailable, or the outcome stayed unknown"),
    (Exit::Refused, "the server refused the input"),
    (Exit::Broken, "pingctl itself failed, e.g. its output could not be written"),
];

/// The table, for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:");
    for (exit, meaning) in TABLE {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {}  {meaning}", exit as u8);
    }
    text
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
