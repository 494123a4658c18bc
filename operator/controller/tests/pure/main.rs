//! The pure steps: validate, build, status, teardown's plan. No cluster, no clock, no network.
#![cfg(test)]

mod building;
mod fixture;
mod generated;
mod refusals;
mod status;
mod teardown;
