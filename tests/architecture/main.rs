//! Tests of the source itself, from its text and from what Cargo says of it: they start nothing and build in seconds.
//!
//! - `alerts`: every alert has a runbook, a unit test and a drill, every panel a description.
//! - `summary`: the book has every page.
//! - `versions`: the page of tested versions says what is pinned.
//! - `links`: links in the documentation lead somewhere, and guarantees name tests that exist.
//! - `layers`: which crate may depend on which, and what must not be linked into a program.
//! - `cycles`: no files of a crate import each other in a circle.
//! - `sizes`: how long a file and a function may be.
//! - `names`, `sentences`: what `lint/names.txt` and `lint/sentences.txt` replace does not come back.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

mod alerts;
mod cycles;
mod imports;
mod layers;
mod links;
mod names;
mod rules;
mod sentences;
mod sizes;
mod source;
mod summary;
mod tokens;
mod toolchain;
mod tree;
mod versions;
