//! Errors of sqlx, for reports.

/// An error of sqlx without its source: sqlx repeats the source in its own text, so a report of the whole chain would print it
/// twice.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SqlError(pub sqlx::Error);
