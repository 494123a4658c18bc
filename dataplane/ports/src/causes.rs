//! Errors of adapters, and how they are shown.

use std::error::Error;

/// The cause of an adapter's error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// An error and its causes on one line: `cannot connect: refused: port 5432`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
