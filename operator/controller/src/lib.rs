//! The operator: turns one PingPipeline into a running pipeline, and reports its state in the status.
//!
//! A reconcile is read → validate → build → apply → status. Each step is a function in the file of the same name; `reconcile`
//! is these steps in order. After read, `credentials` issues certificates and passwords that are missing or due. For a spec that `validate` refuses,
//! `renewal` takes the place of `build`. Only `read` and `apply` (and `report`, which writes the status) talk to the cluster.

pub mod access_policy;
pub mod apply;
pub mod build;
pub mod certificates;
pub mod client;
pub mod cluster_state;
pub mod condition;
pub mod connections;
pub mod context;
pub mod controller;
pub mod credentials;
pub mod desired;
pub mod error;
pub mod external;
pub mod gauges;
pub mod incarnation;
pub mod index;
pub mod issued;
pub mod leader;
pub mod metrics;
pub mod ownership;
pub mod pipeline;
pub mod read;
pub mod reconcile;
pub mod references;
pub mod renewal;
pub mod report;
pub mod restored;
pub mod run;
pub mod scope;
pub mod server_connection;
pub mod stats;
pub mod status;
pub mod storage;
pub mod teardown;
pub mod validate;
pub mod watches;
