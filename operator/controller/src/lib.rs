//! The operator: turns one PingPipeline into a running pipeline, and reports its state in the status.
//!
//! A reconcile is read → validate → build → apply → status. Each step is a function in the file of the same name; `reconcile`
//! is these steps in order. Only `read` and `apply` (and `report`, which writes the status) talk to the cluster.

pub mod apply;
pub mod build;
pub mod client;
pub mod cluster_state;
pub mod condition;
pub mod context;
pub mod controller;
pub mod desired;
pub mod error;
pub mod external;
pub mod index;
pub mod leader;
pub mod metrics;
pub mod pipeline;
pub mod read;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod stats;
pub mod status;
pub mod teardown;
pub mod validate;
pub mod watches;
