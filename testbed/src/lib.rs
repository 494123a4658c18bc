//! Starts real dependencies for tests and benchmarks, without a container engine: Postgres, Kafka and Redis (the *parts*),
//! a Kubernetes control plane, and a cluster with nodes.
//!
//! Everything listens on 127.0.0.1 only, keeps its data in a temporary folder, and stops when its value is dropped or the
//! process that owns it is killed. `testbed/install.sh parts` installs the parts.
//!
//! This crate knows nothing about pings, except for the environment names through which programs find the parts.

pub mod certificates;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod control_plane;
pub mod detached;
pub mod kafka;
pub mod link;
pub mod parts;
pub mod pid;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod redis;
pub mod reference;

mod folder;
mod tools;
mod volume;

pub use kafka::{Compiler, Kafka};
pub use parts::Parts;
pub use postgres::Postgres;
pub use redis::Redis;
