//! An error and its causes on one line, for whoever has to act on it.

use std::error::Error;

/// `cannot connect: refused: port 5432`.
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
