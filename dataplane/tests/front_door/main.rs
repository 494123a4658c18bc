//! The API's port, as strangers use it: what standard clients send by default, and what no caller may do to the server.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

mod attack;
mod browsers;
mod clients;
mod limits;
mod memory;
mod outages;
#[path = "../pipeline/processes.rs"]
mod processes;
mod shutdown;
mod tools;
mod wire;
