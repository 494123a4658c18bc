//! Opens connections.

use std::time::Duration;

use sqlx::{ConnectOptions, Error, PgConnection, postgres::PgConnectOptions};

use super::{
    failure::{ConnectError, is_tls},
    tls::PostgresTls,
};

/// Where Postgres is and how to log in. Certificates and keys are read from their files for each connection.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    options: PgConnectOptions,
    tls: PostgresTls,
}

impl Connector {
    /// `options` with `tls` applied.
    pub(super) fn new(options: PgConnectOptions, tls: PostgresTls) -> Self {
        Self { options, tls }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<PgConnection, ConnectError> {
        match self.options.connect().await {
            // The certificate and its key are two files. They may have been replaced between the two reads; the next attempt finds a
            // pair.
            Err(error) if self.tls.client.is_some() && is_tls(&error) => self.options.connect().await,
            connected => connected,
        }
        .map_err(|error| self.failed(&error))
    }

    /// Describes why connecting failed.
    pub(super) fn failed(&self, error: &Error) -> ConnectError {
        match self.tls.unreadable_file() {
            Some(reason) => ConnectError::unreadable(&self.options, reason),
            None => ConnectError::new(&self.options, error),
        }
    }

    /// No connection within `limit`: the server does not answer, or every connection is in use.
    pub(super) fn timed_out(&self, limit: Duration) -> ConnectError {
        ConnectError::timed_out(&self.options, limit)
    }
}
