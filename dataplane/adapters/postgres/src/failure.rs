//! What is certain after a call failed, and how it is reported.

use std::{io::ErrorKind, time::Duration};

use sqlx::{
    Error,
    postgres::{PgConnectOptions, PgDatabaseError, PgSeverity},
};

use ping_ports::{Cause, CommitError, DiskFull, StoreError};
use ping_sql::SqlError;

/// The constraint of tables of events that refuses ids before the cutoff.
pub(super) const CUTOFF_CONSTRAINT: &str = "events_cutoff";

/// Postgres cannot be reached, or rejects the login.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to Postgres at {host}:{port}: {reason}; {remedy}")]
pub struct ConnectError {
    host: String,
    port: u16,
    reason: String,
    remedy: &'static str,
}

/// A table cannot grow (an ERROR, and the statement is rolled back), or the write-ahead log cannot (a PANIC, and Postgres restarts).
const DISK_FULL: &str = "53100";

const CHECK_URL: &str = "check --postgres-url";
const CHECK_TLS: &str =
    "check --postgres-root-cert, and that the host in --postgres-url is one that the certificate covers";
const TURN_ON_TLS: &str = "no password was sent. Turn on ssl in Postgres, or see --postgres-sslmode";
const USE_PRIMARY: &str = "use the address of the primary, also in --postgres-read-url";
const CHECK_FILES: &str = "check --postgres-root-cert, --postgres-client-cert and --postgres-client-key";

impl ConnectError {
    /// Describes `error` in one phrase: sqlx and the system repeat each other's text.
    pub(super) fn new(options: &PgConnectOptions, error: &Error) -> Self {
        let reason = match error {
            Error::Io(error) => match error.kind() {
                known @ (ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NotFound
                | ErrorKind::TimedOut
                | ErrorKind::UnexpectedEof) => known.to_string(),
                _ => error.to_string(),
            },
            Error::Database(error) => error.message().to_owned(),
            Error::Tls(cause) => format!("TLS: {cause}"),
            other => other.to_string(),
        };
        let remedy = match error {
            Error::Tls(cause) if cause.to_string().contains("does not support TLS") => TURN_ON_TLS,
            error if is_tls(error) => CHECK_TLS,
            _ => CHECK_URL,
        };
        Self { remedy, ..Self::with_reason(options, reason) }
    }

    /// A certificate or key cannot be read.
    pub(super) fn unreadable(options: &PgConnectOptions, reason: String) -> Self {
        Self { remedy: CHECK_FILES, ..Self::with_reason(options, reason) }
    }

    /// The server is a standby.
    pub(super) fn standby(options: &PgConnectOptions) -> Self {
        let reason = "it is a standby, which may lack the latest events".to_owned();
        Self { remedy: USE_PRIMARY, ..Self::with_reason(options, reason) }
    }

    /// No connection within `limit`: the server does not answer, or every connection is in use.
    pub(super) fn timed_out(options: &PgConnectOptions, limit: Duration) -> Self {
        Self::with_reason(options, format!("no connection within {} s", limit.as_secs()))
    }

    fn with_reason(options: &PgConnectOptions, reason: String) -> Self {
        Self { host: options.get_host().to_owned(), port: options.get_port(), reason, remedy: CHECK_URL }
    }
}

/// True if the handshake failed, or a certificate or key is not valid.
pub(super) fn is_tls(error: &Error) -> bool {
    match error {
        Error::Tls(_) | Error::Configuration(_) => true,
        // rustls reports a rejected certificate as invalid data.
        Error::Io(error) => error.kind() == ErrorKind::InvalidData,
        _ => false,
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no connection: the statement was never sent.
    NotSent(Cause),
    /// The server reported that it rolled the statement back.
    RolledBack(Error),
    /// The statement may have taken effect, or may still do so.
    Unknown(Cause),
}

/// What a failure says about the connection it happened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionHealth {
    /// Only the statement failed.
    Usable,
    /// This connection must be closed.
    Broken,
    /// Most likely no connection made so far works.
    AllBroken,
}

#[derive(Debug, thiserror::Error)]
#[error("Postgres did not answer in time")]
pub(super) struct Timeout;

impl Failure {
    /// Classifies an error that came after the statement was sent.
    pub(super) fn classify(error: Error) -> (Self, ConnectionHealth) {
        let Error::Database(database) = &error else { return Self::unknown(error) };
        let severity = database.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
        let code = database.code().unwrap_or_default();
        let health = match code.get(..2) {
            Some("22" | "23" | "40") if severity == Some(PgSeverity::Error) => ConnectionHealth::Usable,
            // 25: read-only, so the server is no longer the primary. 57P: it is shutting down.
            Some("25" | "57" | "08") => ConnectionHealth::AllBroken,
            _ => ConnectionHealth::Broken,
        };
        // An ERROR of these classes aborts the statement and with it the transaction, which holds no other statement. 40003
        // means that the outcome is unknown; FATAL and PANIC end the session at any point.
        let rolled_back = matches!(
            code.get(..2),
            Some("0A" | "21" | "22" | "23" | "25" | "26" | "28" | "40" | "42" | "44" | "53" | "54" | "55" | "57")
        );
        if rolled_back && severity == Some(PgSeverity::Error) && code != "40003" {
            (Self::RolledBack(error), health)
        } else {
            Self::unknown(error)
        }
    }

    fn unknown(error: Error) -> (Self, ConnectionHealth) {
        (Self::Unknown(cause(error)), ConnectionHealth::AllBroken)
    }

    /// Nothing was committed because the store already has an event with the same id.
    pub(super) fn is_known_id(&self) -> bool {
        let Self::RolledBack(error) = self else { return false };
        // Each partition has a primary key of its own.
        let of_events = |name: &str| name.starts_with("events_") && name.ends_with("_pkey");
        let database = error.as_database_error();
        database.is_some_and(|error| error.is_unique_violation() && error.constraint().is_some_and(of_events))
    }

    /// Nothing was committed because an id is of a day that is no longer kept.
    fn is_expired_id(&self) -> bool {
        let Self::RolledBack(error) = self else { return false };
        let database = error.as_database_error();
        database.is_some_and(|error| error.is_check_violation() && error.constraint() == Some(CUTOFF_CONSTRAINT))
    }
}

/// The error as the store's callers see it.
fn cause(error: Error) -> Cause {
    let is_disk_full = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == DISK_FULL);
    let cause = SqlError(error).into();
    if is_disk_full { DiskFull(cause).into() } else { cause }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self(match failure {
            Failure::NotSent(cause) | Failure::Unknown(cause) => cause,
            Failure::RolledBack(error) => cause(error),
        })
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        if failure.is_expired_id() {
            return Self::Expired;
        }
        match failure {
            Failure::NotSent(cause) => Self::Refused(cause),
            Failure::RolledBack(error) => Self::Refused(cause(error)),
            Failure::Unknown(cause) => Self::Unknown(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io, str::FromStr};

    use super::*;

    #[test]
    fn a_refused_connection_is_reported_with_its_address_and_one_cause() {
        let options = PgConnectOptions::from_str("postgres://ping@db.example:6432/ping").unwrap();
        let error = ConnectError::new(&options, &Error::Io(io::Error::from(ErrorKind::ConnectionRefused)));
        let text = "cannot connect to Postgres at db.example:6432: connection refused; check --postgres-url";
        assert_eq!(error.to_string(), text);
        assert!(error.source().is_none());
    }

    #[test]
    fn a_failed_handshake_is_reported_with_the_setting_to_check() {
        let options = PgConnectOptions::from_str("postgres://ping@db.example/ping").unwrap();
        let rejected = io::Error::new(ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer");
        let error = ConnectError::new(&options, &Error::Io(rejected)).to_string();
        assert!(error.contains("UnknownIssuer; check --postgres-root-cert"), "{error}");
        let error = ConnectError::new(&options, &Error::Tls("server does not support TLS".into())).to_string();
        assert!(error.contains("TLS: server does not support TLS; no password was sent"), "{error}");
    }
}
