//! The plugin against a real API server with the real CRDs. It shares the controller's test harness.
#![cfg(test)]

#[expect(dead_code, reason = "the controller's tests use more of it")]
#[path = "../../../controller/tests/harness/mod.rs"]
mod harness;
mod kubelet;
mod plugin;
#[path = "../../../controller/tests/harness/tls.rs"]
mod tls;
