//! The operator against a real API server with the real CRDs. All tests share one control plane; each has its own namespace and
//! operator. The other operators do not run: `harness::fake_operators` writes statuses that were recorded from them.
#![cfg(test)]

mod access;
mod changes;
mod chart;
mod cut_points;
mod dependencies;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod isolation;
mod leaders;
mod life;
mod links;
mod refusals;
mod renewal;
mod rights;
mod roles;
mod sources;
mod volumes;
