//! The data plane: server → store → log → processor → cache, and the reads that go the other way.

pub mod adapters;
mod causes;
pub mod config;
pub mod count;
pub mod domain;
pub mod health;
pub mod ingest;
pub mod metrics;
pub mod ports;
pub mod query;
pub mod rpc;
pub mod wire;
