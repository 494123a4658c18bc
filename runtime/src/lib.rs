//! What all programs share: environment names, logging, the admin port, watched files and shutdown.
//!
//! Nothing here depends on Kubernetes, a database or the data plane's domain.

pub mod admin;
pub mod env;
pub mod files;
pub mod shutdown;
pub mod telemetry;
