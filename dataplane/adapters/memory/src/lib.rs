//! In process, nothing kept: the embedded mode's log and cache, its store with `--memory`, and the stage of the simulation.

mod cache;
mod clock;
mod log;
mod minutes;
mod statuses;
mod store;
mod views;

pub use cache::MemoryCache;
pub use clock::SystemClock;
pub use log::{MemoryConsumer, MemoryLog};
pub use minutes::LoggedMinutes;
pub use statuses::MemoryStatuses;
pub use store::MemoryStore;
