//! The generated wire types of `proto/ping/v1`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("ping.v1");
include!(concat!(env!("OUT_DIR"), "/ping.v1.serde.rs"));

/// The descriptors of the above, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
