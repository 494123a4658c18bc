//! Who may call `pingd`: each test plays an attacker who must fail, beside a caller who must not.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

mod access;
mod authority;
mod issuer;
mod policy;
#[path = "../pipeline/processes.rs"]
mod processes;
mod scopes;
mod streams;
mod tls;
mod tokens;
