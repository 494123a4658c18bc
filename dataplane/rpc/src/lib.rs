//! The API: gRPC, gRPC-Web and Connect on one port, and the web page.
//!
//! Transport only: this crate converts messages and errors. Counting and storage belong to `ping-ingest` and `ping-query`.

mod api;
mod caller;
mod connect;
mod errors;
mod events;
mod grpc;
pub mod health;
mod json_error;
mod metrics;
mod page;
mod pings;
mod record;
mod serve;
mod sources;

pub use api::{Api, Queries, StatusLabels};
pub use caller::TrustedProxies;
pub use metrics::RpcMetrics;
pub use serve::serve;
