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

    /// Opens a connection to a primary. A standby may lack what was acknowledged, so counts that it answers would be wrong.
    pub(super) async fn connect(&self) -> Result<PgConnection, ConnectError> {
        let mut connection = self.log_in().await.map_err(|error| self.failed(&error))?;
        let is_standby = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await;
        if is_standby.map_err(|error| self.failed(&error))? {
            return Err(ConnectError::standby(&self.options));
        }
        Ok(connection)
    }

    async fn log_in(&self) -> Result<PgConnection, Error> {
        match self.options.connect().await {
            // The certificate and its key are two files. They may have been replaced between the two reads; the next attempt finds a
            // pair.
            Err(error) if self.tls.client.is_some() && is_tls(&error) => self.options.connect().await,
            connected => connected,
        }
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
