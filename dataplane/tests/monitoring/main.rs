//! Metrics, dashboards and alerts, by a real Prometheus that scrapes real programs.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

mod alerts;
#[path = "../identity/authority.rs"]
mod authority;
mod dashboards;
mod drill;
#[path = "../identity/policy.rs"]
mod policy;
#[path = "../pipeline/processes.rs"]
mod processes;
mod reference;
mod scraped;
#[path = "../pipeline/topic.rs"]
mod topic;

use std::path::PathBuf;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
