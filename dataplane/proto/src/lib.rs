//! The wire contract: messages, services, proto3 JSON and descriptors, generated from `proto/ping/v1` by `build.rs`.
//!
//! Nothing here is written by hand. Conversions belong to the crates that use the messages.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("ping.v1");
include!(concat!(env!("OUT_DIR"), "/ping.v1.serde.rs"));

/// The encoded `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
