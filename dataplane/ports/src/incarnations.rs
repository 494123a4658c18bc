//! Changes of incarnation: the store or the log is no longer the one that something was derived from.

use async_trait::async_trait;
use ping_core::Millis;

use super::store::StoreError;

/// Changes that are noted within this time after each other are one change: every partition and every projection notices it.
pub const SAME_CHANGE: Millis = 10 * 60_000;

/// What exists in several incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incarnation {
    /// That of the store. It changes when the store goes back in time: it is restored, or a failover loses commits.
    Store,
    /// That of the log. It changes when the topic is created again.
    Log,
}

impl Incarnation {
    /// The number that stores keep.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Store => 1,
            Self::Log => 2,
        }
    }

    /// What a number stands for.
    #[must_use]
    pub fn of_code(code: i16) -> Option<Self> {
        [Self::Store, Self::Log].into_iter().find(|incarnation| incarnation.code() == code)
    }
}

/// A change of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncarnationChange {
    /// What has changed.
    pub of: Incarnation,
    /// When a processor first noticed it.
    pub noticed: Millis,
    /// Phantom events that were sent to the dead letters because of it. A processor that stops meanwhile sends some twice.
    pub phantoms: i64,
}

/// Keeps the last change of an incarnation. [`ViewAuditState`](super::ViewAuditState) has it.
#[async_trait]
pub trait Incarnations: Send + Sync {
    /// Notes that the incarnation `of` has changed, and that `phantoms` more events were sent to the dead letters. It is the change that was
    /// noted last, if that was of the same and less than [`SAME_CHANGE`] before `at`.
    async fn note_change(&self, of: Incarnation, phantoms: i64, at: Millis) -> Result<(), StoreError>;
}
