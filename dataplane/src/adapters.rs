//! One technology each. Adapters translate; they never retry, log or count by themselves.

mod counts;
pub mod kafka;
pub mod memory;
mod outbox_payload;
pub mod postgres;
pub mod redis;
pub mod sqlite;
