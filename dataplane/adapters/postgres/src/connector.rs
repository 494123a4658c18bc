//! Opens connections.

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Error, Executor, PgConnection, Row, postgres::PgConnectOptions};

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

    /// Opens a connection to a primary, and runs `settings` in it: statements, each with a semicolon after it. A standby may lack what was
    /// acknowledged, so counts that it answers would be wrong.
    pub(super) async fn connect(&self, settings: &str) -> Result<PgConnection, ConnectError> {
        let connected = async {
            let mut connection = self.log_in().await?;
            // One round trip for all statements.
            let statements = sqlx::raw_sql(AssertSqlSafe(format!("{settings} SELECT pg_is_in_recovery()")));
            let is_standby: bool = connection.fetch_one(statements).await?.try_get(0)?;
            Ok((connection, is_standby))
        };
        let (connection, is_standby) = connected.await.map_err(|error: Error| self.failed(&error))?;
        if is_standby { Err(ConnectError::standby(&self.options)) } else { Ok(connection) }
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
