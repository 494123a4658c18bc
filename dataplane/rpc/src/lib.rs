//! The API: gRPC, gRPC-Web and Connect on one port. Transport only: proto ↔ domain, errors → status.

mod api;
mod caller;
mod connect;
mod errors;
mod events;
mod grpc;
pub mod health;
mod metrics;
mod page;
mod serve;
mod sources;

pub use api::{Answers, Api};
pub use caller::TrustedProxies;
pub use metrics::RpcMetrics;
pub use serve::serve;
pub use sources::StatusLabels;
