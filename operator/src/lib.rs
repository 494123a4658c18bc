//! The operator: one PingPipeline in, a running pipeline out, and the truth in its status.
//!
//! A pass is read → validate → build → apply → status; each step is the function and the file of that name. Pure steps
//! decide, thin ones do I/O.

pub mod apply;
pub mod build;
pub mod client;
pub mod context;
pub mod controller;
pub mod crd;
pub mod error;
pub mod figures;
pub mod foreign;
pub mod index;
pub mod kinds;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod object;
pub mod pipeline;
pub mod quantity;
pub mod read;
pub mod refs;
pub mod report;
pub mod run;
pub mod servers;
pub mod status;
pub mod teardown;
pub mod validate;
pub mod watches;
