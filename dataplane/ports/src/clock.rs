//! Time as a port, so that tests and the simulation can set it.

use ping_core::Millis;

/// The current time: the system's, or a simulation's virtual time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Millis;
}
