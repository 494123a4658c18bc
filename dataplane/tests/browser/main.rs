//! The page at `/` in a real browser: Debian's Chromium, driven by WebDriver.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

mod access;
mod accessibility;
mod browser;
mod live;
mod outages;
mod page;
#[path = "../identity/policy.rs"]
mod policy;
#[path = "../pipeline/processes.rs"]
mod processes;
mod screenshots;
mod sharing;
mod tools;
