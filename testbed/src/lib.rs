//! Starts real parts for tests and measurements: Postgres, Kafka and Redis, a Kubernetes control plane, a whole cluster with
//! nodes; all without a container engine.
//!
//! Everything listens on 127.0.0.1 only, keeps its data in a temporary folder and goes when its value is dropped, and
//! also when the program that owns it is killed. `testbed/install.sh parts` installs what they need.

pub mod cluster;
pub mod control_plane;
pub mod kafka;
pub mod left;
pub mod parts;
pub mod pid;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod redis;

mod folder;
mod tools;

pub use kafka::{Compiler, Kafka};
pub use parts::Parts;
pub use postgres::Postgres;
pub use redis::Redis;
