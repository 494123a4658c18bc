//! The API: gRPC, gRPC-Web and Connect on one port, and the web page.
//!
//! Conversion only: messages, errors, and what a message may cost. Connections belong to `ping-transport`; counting and storage to
//! `ping-ingest` and `ping-query`.

// A method of a service returns its message; the trait promises only something that can be encoded.
#![allow(refining_impl_trait)]

mod admin;
mod api;
mod deadline;
mod errors;
mod events;
mod front;
mod guard;
pub mod health;
mod json_error;
mod json_shape;
mod limits;
mod metrics;
mod page;
mod pings;
mod record;
mod serve;
mod sources;

pub use admin::Admin;
pub use api::{Api, Queries, StatusLabels};
pub use front::Answer;
pub use health::Health;
pub use metrics::RpcMetrics;
pub use serve::{HttpService, MaybeCors, serve, service};
