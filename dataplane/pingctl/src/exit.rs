//! The exit codes and their meaning.

use std::{fmt::Write, process::ExitCode};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    CheckFailed = 1,
    Usage = 2,
    Unavailable = 3,
    Refused = 4,
    Internal = 5,
}

/// Every exit code and its meaning.
const MEANINGS: [(Exit, &str); 6] = [
    (Exit::Success, "success"),
    (
        Exit::CheckFailed,
        "check failed: verify or --check found a difference, doctor found a problem, or the event of --after was not counted in time",
    ),
    (Exit::Usage, "invalid command line or configuration"),
    (Exit::Unavailable, "the server is unreachable or unavailable, or the outcome is unknown"),
    (Exit::Refused, "the server refused the input"),
    (Exit::Internal, "pingctl itself failed, e.g. it could not write its output"),
];

/// The exit codes, for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:");
    for (exit, meaning) in MEANINGS {
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
