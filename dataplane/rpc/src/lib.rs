//! The API: gRPC, gRPC-Web and Connect on one port, and the web page.
//!
//! Conversion only: messages, errors, who may call, and what a message may cost. Connections belong to `ping-transport`; counting and storage to
//! `ping-ingest` and `ping-query`.

// A method of a service returns its message; the trait promises only something that can be encoded.
#![allow(refining_impl_trait)]

mod access;
mod admin;
mod admin_gate;
mod api;
mod audit;
mod cloud_events;
mod credit;
mod dead_letters;
mod deadline;
mod errors;
mod events;
mod front;
mod guard;
pub mod health;
mod hosts;
mod json_error;
mod json_shape;
mod limits;
mod live;
mod log_rate;
mod measure;
mod metrics;
mod page;
mod pings;
mod quotas;
mod record;
mod requirement;
mod revocation;
mod serve;
mod sources;

pub use access::{Access, Reflection};
pub use admin::Admin;
pub use admin_gate::AdminGate;
pub use api::{Api, Queries, StatusLabels};
pub use audit::Audited;
pub use front::Answer;
pub use health::Health;
pub use hosts::Hosts;
pub use metrics::{AccessMetrics, RpcMetrics};
pub use revocation::Revocations;
pub use serve::{HttpService, MaybeCors, serve, service};
