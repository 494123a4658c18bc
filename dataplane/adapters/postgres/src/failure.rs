//! What is certain after a call failed.

use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};

use ping_ports::{Cause, CommitError, StoreError};

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: the statement was never sent.
    NotSent(Cause),
    /// The server said that it undid the statement.
    Undone(Cause),
    /// The statement may have taken effect, or may yet.
    Unknown(Cause),
}

/// What a failure says about the connection it happened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Only the statement failed.
    Sound,
    /// This connection is of no more use.
    Broken,
    /// Most likely none of the connections made so far is.
    AllBroken,
}

#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
pub(super) struct NoAnswer;

impl Failure {
    /// Judges an error that came after sending.
    pub(super) fn judge(error: Error) -> (Self, Health) {
        let Error::Database(database) = &error else { return (Self::Unknown(error.into()), Health::AllBroken) };
        let severity = database.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
        let code = database.code().unwrap_or_default();
        let health = match code.get(..2) {
            Some("22" | "23" | "40") if severity == Some(PgSeverity::Error) => Health::Sound,
            // Read-only: the server is not the primary any more; 57P: it is going down.
            Some("25" | "57" | "08") => Health::AllBroken,
            _ => Health::Broken,
        };
        // An ERROR of these classes aborts the statement, and with it everything: there is no other in its transaction.
        // 40003 says itself that it does not know; FATAL and PANIC end the session wherever it was.
        let undone = matches!(
            code.get(..2),
            Some("0A" | "21" | "22" | "23" | "25" | "26" | "28" | "40" | "42" | "44" | "53" | "54" | "55" | "57")
        );
        if undone && severity == Some(PgSeverity::Error) && code != "40003" {
            (Self::Undone(error.into()), health)
        } else {
            (Self::Unknown(error.into()), Health::AllBroken)
        }
    }

    /// Nothing was done because an event's id is in the store.
    pub(super) fn is_known_id(&self) -> bool {
        let Self::Undone(cause) = self else { return false };
        let database = cause.downcast_ref().and_then(Error::as_database_error);
        database.is_some_and(|error| error.is_unique_violation() && error.constraint() == Some("events_pkey"))
    }

    fn cause(self) -> Cause {
        match self {
            Self::NotSent(cause) | Self::Undone(cause) | Self::Unknown(cause) => cause,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self(failure.cause())
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(cause) | Failure::Undone(cause) => Self::Refused(cause),
            Failure::Unknown(cause) => Self::Unknown(cause),
        }
    }
}
