//! What an answer did wrong.

use std::fmt;

use crate::{Count, Interval};

/// An answer that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A count lacks events that it promises.
    Missing {
        /// When it was read.
        at: Interval,
        /// The answer.
        answer: Count,
        /// It promises at least this many.
        promised: i64,
    },
    /// A count has more events than were sent before it ended.
    Excess {
        /// When it was read.
        at: Interval,
        /// The answer.
        answer: Count,
        /// Events that may have been recorded by then.
        possible: i64,
    },
    /// A strong count contradicts an earlier one.
    NotLinearizable {
        /// When it was read.
        at: Interval,
        /// The answer.
        answer: Count,
        /// A strong count that had ended before.
        earlier: i64,
        /// The least it may be after the earlier one.
        least: i64,
        /// The most it may be after the earlier one.
        most: i64,
    },
    /// A source that had a final status has another one.
    StatusChanged {
        /// The source.
        source: Box<str>,
        /// When the final status was read.
        was_final: Interval,
        /// When the other one was read.
        at: Interval,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { at, answer, promised } => {
                write!(formatter, "lost: the count {answer:?}, read at {at:?}, must be at least {promised}")
            }
            Self::Excess { at, answer, possible } => {
                write!(formatter, "counted twice: the count {answer:?}, read at {at:?}, can be at most {possible}")
            }
            Self::NotLinearizable { at, answer, earlier, least, most } => write!(
                formatter,
                "not linearizable: after a strong count of {earlier}, the count {answer:?}, read at {at:?}, must be {least} to {most}"
            ),
            Self::StatusChanged { source, was_final, at } => {
                write!(formatter, "the status of {source} was final at {was_final:?} and another one at {at:?}")
            }
        }
    }
}
