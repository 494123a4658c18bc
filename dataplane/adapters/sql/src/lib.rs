//! What the two SQL stores share: the encoding of an outbox row's events, what a batch adds to the counts, how an error of sqlx is
//! reported, how migrations are run, the rows of segments and of their audit, and the last numbers of writers. SQL itself belongs to the adapters.

mod counts;
mod error;
mod last_seqs;
mod migrations;
pub mod outbox_payload;
mod row;
mod segment_row;
mod view_audit;

pub use counts::{BatchCounts, EventCount};
pub use error::SqlError;
pub use last_seqs::last_seqs;
pub use migrations::migrator;
pub use segment_row::{SegmentRow, family, place, stored_segments};
pub use view_audit::{
    AccountRow, AuditStateRow, AuditedRow, added_sums, audited_segments, view_audit_state, view_sums,
};
