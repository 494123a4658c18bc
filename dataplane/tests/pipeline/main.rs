//! The whole data plane as processes, tested from outside: in the embedded mode, and on Postgres, Kafka and Redis.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

mod cache_faults;
mod cloud_events;
mod collector;
mod embedded;
mod events;
mod full_disk;
mod full_volume;
mod incarnations;
mod known_bugs;
mod live;
mod minutes;
mod name_limits;
mod original_client;
mod processes;
mod protocols;
mod real_parts;
mod restores;
mod silent_parts;
mod sources;
mod statuses;
mod topic;
mod traces;
mod view_audit;
