//! Reasons for rejecting a pipeline.

use ping_api::reason::Reason;

/// Why a pipeline is rejected. The message says what to do instead.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// `Exact` is combined with settings that can lose acknowledged events.
    #[error(
        "durability: Exact guarantees that no acknowledged event is lost, but {}. Change that, or set durability: BestEffort",
        .0.join("; and ")
    )]
    UnsafeForExact(Vec<String>),
    /// A setting is invalid, or two settings conflict.
    #[error("{0}")]
    Conflicting(String),
    /// The change would lose data or is not possible.
    #[error("{0}")]
    Irreversible(String),
    /// Something outside of the spec has to change first: a Secret, a grant, or what the operator allows.
    #[error("{1}")]
    Refused(Reason, String),
}

impl Invalid {
    /// The reason for the conditions.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnsafeForExact(_) => Reason::UnsafeForExact,
            Self::Conflicting(_) => Reason::Invalid,
            Self::Irreversible(_) => Reason::Irreversible,
            Self::Refused(reason, _) => *reason,
        }
    }
}

/// A conflict with a fixed message.
pub(super) fn conflicting(message: &str) -> Invalid {
    Invalid::Conflicting(message.into())
}
