//! The API: gRPC, gRPC-Web and Connect on one port. Transport only: proto ↔ domain, errors → status.

mod api;
mod connect;
mod errors;
mod grpc;
mod serve;

pub use api::Api;
pub use serve::serve;
