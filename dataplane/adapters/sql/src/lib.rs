//! What the two SQL stores share: the encoding of an outbox row's events, what a batch adds to the counts, and how an error of
//! sqlx is reported. SQL itself belongs to the adapters.

mod counts;
mod error;
pub mod outbox_payload;

pub use counts::BatchCounts;
pub use error::SqlError;
