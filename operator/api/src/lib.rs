//! The PingPipeline API, shared by the controller, the kubectl plugin and tests: the custom resources, the names and kinds of
//! the objects that belong to a pipeline, and the condition types and reasons in its status.
//!
//! Plain data and pure functions. Nothing here talks to a cluster.

pub mod condition;
pub mod crd;
pub mod env;
pub mod grant;
pub mod kinds;
pub mod names;
pub mod quantity;
pub mod reason;
pub mod roles;
