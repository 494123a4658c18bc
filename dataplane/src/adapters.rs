//! One technology each. Adapters translate; they never retry, log or count by themselves.

pub mod kafka;
pub mod memory;
pub mod redis;
