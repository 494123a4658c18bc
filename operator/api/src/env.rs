//! Environment variables of servers and processors that users may not set.

use ping_runtime::env;

/// Every name that the operator sets on a workload.
const RESERVED: [&str; 32] = [
    env::LISTEN,
    env::ADMIN_LISTEN,
    env::POSTGRES_URL,
    env::KAFKA_BROKERS,
    env::KAFKA_TOPIC,
    env::KAFKA_DEAD_LETTER_TOPIC,
    env::KAFKA_MINUTES_TOPIC,
    env::KAFKA_GROUP,
    env::KAFKA_SECURITY_PROTOCOL,
    env::KAFKA_SASL_MECHANISM,
    env::KAFKA_SASL_USERNAME,
    env::KAFKA_SASL_PASSWORD,
    env::KAFKA_CA_FILE,
    env::KAFKA_CERT_FILE,
    env::KAFKA_KEY_FILE,
    env::CACHE_URL,
    env::CACHE_PASSWORD,
    env::FLUSH_RECORDS,
    env::FLUSH_INTERVAL_MS,
    env::WINDOW_MINUTES,
    env::WINDOW_RETENTION_DAYS,
    env::DAY_RETENTION_DAYS,
    env::STATUS_NEGATIVE_WHEN,
    env::STATUS_POSITIVE_WHEN,
    env::STATUS_LABELS,
    env::LANES,
    env::ROLE,
    env::TRUSTED_PROXIES,
    env::DRAIN_SECONDS,
    env::LOG,
    env::LOG_FORMAT,
    env::IN_MEMORY,
];

/// True for a variable that the operator sets itself. `spec.server.env` and `spec.processor.env` may not contain it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}
