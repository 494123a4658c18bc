//! The operator against a real API server with the real CRDs. One control plane serves all tests; each has a namespace and
//! an operator of its own. The other operators do not run: `harness::fake_operators` writes what they were recorded to write.
#![cfg(test)]

mod changes;
mod chart;
mod cut_points;
mod dependencies;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod leaders;
mod life;
mod refusals;
mod rights;
mod roles;
mod sources;
