//! The wire contract, generated from `proto/ping/v1` by `build.rs`: messages with proto3 JSON, the traits of the services, and
//! descriptors.
//!
//! Nothing here is written by hand. Conversions belong to the crates that use the messages.

/// When JSON leaves a field out that has its default value: see `show_zeros` in `build.rs`.
fn never<T: ?Sized>(_: &T) -> bool {
    false
}

/// Messages and services of the API.
#[allow(missing_docs, unreachable_pub, unexpected_cfgs, clippy::all, clippy::pedantic, reason = "generated")]
mod api {
    connectrpc::include_generated!("connect.rs");
}

/// Messages of the log and of the outbox. Not part of the API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
pub mod log {
    include!(concat!(env!("OUT_DIR"), "/log/ping.v1.rs"));
}

pub use api::{google::rpc as errors, grpc::health::v1 as health, ping::v1::*};

/// The encoded `FileDescriptorSet` of the API and of the health service, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
