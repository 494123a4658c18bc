//! Environment variables of servers and processors that users may not set.

use ping_runtime::env;

/// Variables of `pingd` that a user may set. All others that start with `PING_` are the operator's, also those of later versions.
const TUNABLE: [&str; 10] = [
    env::MAX_REQUEST_MEMORY,
    env::MAX_CONNECTIONS,
    env::MAX_CONNECTIONS_PER_ADDRESS,
    env::MAX_STREAMS_PER_CONNECTION,
    env::HEADER_TIMEOUT_SECONDS,
    env::IDLE_TIMEOUT_SECONDS,
    env::PEER_TIMEOUT_SECONDS,
    env::FLUSH_BYTES,
    env::STATUS_SOURCES,
    env::THREADS,
];

/// Variables that decide which code runs, or whom TLS trusts.
const UNSAFE: [&str; 11] = [
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSLKEYLOGFILE",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "SASL_PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
];

/// True for a variable that the operator sets itself, or that overrides a security setting. `spec.server.env` and `spec.processor.env`
/// may not contain it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let own = upper.starts_with("PING_") || name == env::IN_MEMORY;
    let is_unsafe = upper.starts_with("LD_") || UNSAFE.contains(&&*upper);
    (own && !TUNABLE.contains(&name)) || is_unsafe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_operator_and_of_the_loader_are_reserved() {
        for name in
            [env::POSTGRES_URL, env::IN_MEMORY, "PING_OF_A_LATER_VERSION", "ping_log", "LD_PRELOAD", "https_proxy"]
        {
            assert!(is_reserved(name), "{name}");
        }
        for name in [env::STATUS_SOURCES, env::THREADS, "TZ", "TEAM", "PINGS"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
