//! The count path: log → processor → projection. Events that are delivered twice, late, or to two processors at once are
//! counted once, because a projection changes sums and positions together or not at all. There are two projections, each with
//! its own processors: the counters in the cache ([`CounterProjection`]) and the views per source in the store
//! ([`SourceProjection`]).
//!
//! A [`Processor`] runs sessions. What a session does next is decided by pure code (`session_state`), done by a thin loop
//! (`session`), and collected in a `delta` until it is flushed.
//!
//! Here belongs whatever is derived from the log. Reading the results is the job of `ping-query`.

mod clock_check;
mod context;
mod counters;
mod crossings;
mod delta;
mod error;
mod event_retention;
mod merging;
mod metrics;
mod minutes;
mod pace;
mod processor;
mod projection;
mod retention;
mod session;
mod session_state;
mod settings;
mod sources;
mod status_cache;
mod status_state;
mod store_check;
mod view_audit;
mod watermark;

pub use counters::{CounterProjection, EventCounts};
pub use error::CountError;
pub use event_retention::{EventRetentionSettings, EventRetentionTask};
pub use metrics::CountMetrics;
pub use minutes::MinutePublisher;
pub use processor::Processor;
pub use projection::{AuditOutcome, Projection, Sums};
pub use settings::{CountSettings, LogPorts};
pub use sources::SourceProjection;
pub use status_cache::StatusProjection;
