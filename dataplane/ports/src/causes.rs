//! Errors of adapters, and how they are shown.

use std::error::Error;

/// The cause of an adapter's error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The disk of the store is full. An adapter puts it into the chain of its error.
#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
pub struct DiskFull(#[source] pub Cause);

impl DiskFull {
    /// Whether it is `error`, or one of its causes.
    #[must_use]
    pub fn causes(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

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
