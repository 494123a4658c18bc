//! What the operator and the data plane do alike: nothing here knows Kubernetes or a database.

pub mod admin;
pub mod env;
pub mod shutdown;
pub mod telemetry;
