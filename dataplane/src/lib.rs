//! The data plane: server → store → log → processor → cache, and the reads that go the other way.

pub mod adapters;
pub mod count;
pub mod domain;
pub mod ingest;
pub mod metrics;
pub mod ports;
