//! What the two SQL stores share: how an outbox row holds its events, and what a batch adds to the rollups.
//! SQL itself belongs to the adapters.

mod counts;
pub mod outbox_payload;

pub use counts::BatchCounts;
