//! In-process adapters: store, log, caches, clock. The embedded mode uses the log and the caches, and the store with
//! `--memory`; the simulation uses all of them. Nothing is persisted, so every start begins empty.

mod cache;
mod clock;
mod dropped;
mod event_retention;
mod log;
mod minutes;
mod quotas;
mod state;
mod statuses;
mod storage;
mod store;
mod view_audit;
mod views;

pub use cache::MemoryCache;
pub use clock::SystemClock;
pub use log::{MemoryConsumer, MemoryLog};
pub use minutes::LoggedMinutes;
pub use statuses::MemoryStatuses;
pub use store::MemoryStore;
