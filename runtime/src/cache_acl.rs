//! The access control list of the cache: the commands and keys that servers and processors need, and no others.
//!
//! The operator writes the list, the data plane runs under it. The contract tests of the cache run as these users. Redis 7 and
//! Dragonfly accept the same text: upper-case `ON` and `OFF`, lower-case `user`, passwords as SHA-256.

/// Line of the default user: it may only log in as another user. Without this line, Dragonfly gives it every permission.
pub const DEFAULT_USER: &str = "user default OFF -@all +auth";

/// Rules of a server: it reads counters and statuses, and caches the statuses that it had to read from Postgres.
pub const SERVER: &str = "-@all +multi +exec +eval +evalsha +get +mget +set +hget +hmget +hgetall +hexists +time \
                          %R~ping:* ~ping:status:*";

/// Rules of a processor: it also writes counters.
pub const PROCESSOR: &str = "-@all +multi +exec +eval +evalsha +get +mget +set +incrby +del +expire +hget +hmget +hgetall \
                             +hexists +hkeys +hlen +hset +hdel +hincrby +zadd +zrangebyscore +zremrangebyscore +time ~ping:*";

/// The line of the user `name`, whose password has this SHA-256 in hexadecimal digits.
#[must_use]
pub fn user(name: &str, password_sha256: &str, rules: &str) -> String {
    format!("user {name} ON #{password_sha256} {rules}")
}
