//! The pure steps: validate, build, status, teardown's plan. No cluster, no clock, no network.
#![cfg(test)]

mod access;
mod access_refusals;
mod building;
mod certificates;
mod docs;
mod encryption;
mod fixture;
mod gauges;
mod generated;
mod isolation;
mod network;
mod recovery;
mod refusals;
mod renewal;
mod status;
mod teardown;
