//! The whole data plane from outside, as processes: embedded, and on real parts.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

mod embedded;
mod events;
mod known_bugs;
mod minutes;
mod processes;
mod protocols;
mod real_parts;
mod sources;
