//! Who may call `pingd`: each test plays an attacker who must fail, beside a caller who must not.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

mod access;
mod authority;
#[path = "../pipeline/collector.rs"]
mod collector;
mod discovery;
mod issuer;
mod new_names;
mod policy;
#[path = "../pipeline/processes.rs"]
mod processes;
mod quotas;
mod replicas;
mod revocation;
mod rotation;
mod scopes;
mod streams;
mod tls;
mod token_key;
mod tokens;
mod traces;
