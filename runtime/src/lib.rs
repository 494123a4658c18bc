//! What all programs share: environment names, the cache's access control list, logging, metrics of the process, the admin port, watched files and
//! shutdown.
//!
//! Nothing here depends on Kubernetes, a database or the data plane's domain.

pub mod admin;
pub mod cache_acl;
pub mod env;
pub mod files;
pub mod process;
pub mod shutdown;
pub mod telemetry;
