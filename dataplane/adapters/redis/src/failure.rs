//! Why connecting or a command failed, and which setting to check.

use std::{io, path::Path};

use redis::{ErrorKind, RedisError};

use ping_ports::CacheError;

/// The cache cannot be reached, does not prove its identity, or rejects the login.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot connect to the cache at {address}: {reason}; {remedy}")]
pub(super) struct ConnectError {
    address: String,
    reason: String,
    remedy: &'static str,
    /// Whether the cache did not answer in time.
    pub(super) timed_out: bool,
}

/// The cache has not answered the last command in time, and this one was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the cache does not answer; it is asked again within seconds")]
pub(super) struct Silent;

const CHECK_URL: &str = "check --cache-url";
const CHECK_LOGIN: &str = "check --cache-username and --cache-password";
const CHECK_TLS: &str = "check --cache-ca-file, and that the host in --cache-url is one that the certificate covers";
const CHECK_FILE: &str = "check --cache-password-file, --cache-ca-file, --cache-cert-file and --cache-key-file";

impl ConnectError {
    /// Describes `error`.
    pub(super) fn new(address: impl ToString, error: &RedisError) -> Self {
        let text = error.to_string();
        let remedy = match error.kind() {
            ErrorKind::AuthenticationFailed => CHECK_LOGIN,
            ErrorKind::InvalidClientConfig => CHECK_FILE,
            ErrorKind::Io if text.contains("certificate") || text.contains("tls") => CHECK_TLS,
            _ => CHECK_URL,
        };
        Self { address: address.to_string(), reason: text, remedy, timed_out: error.is_timeout() }
    }

    /// A password, certificate or key cannot be read.
    pub(super) fn unreadable(address: impl ToString, path: &Path, error: &io::Error) -> Self {
        let reason = format!("cannot read {}: {error}", path.display());
        Self { address: address.to_string(), reason, remedy: CHECK_FILE, timed_out: false }
    }
}

/// A command that the cache rejected, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{error}; {remedy}")]
struct Rejected {
    error: RedisError,
    remedy: &'static str,
}

const GRANT: &str =
    "the user of --cache-username lacks a permission; docs/operator/README.md lists those that it needs";
const RAISE_LIMIT: &str =
    "raise its memory limit (--status-sources bounds what statuses use); counting then continues by itself";

/// The error to report for a failed command.
pub(super) fn command_failed(error: RedisError) -> CacheError {
    let text = error.to_string();
    if is_out_of_memory(&text) {
        CacheError::Full(Rejected { error, remedy: RAISE_LIMIT }.into())
    } else if text.contains("NoPerm") {
        // The driver writes NOPERM this way; a transaction wraps it.
        CacheError::Unavailable(Rejected { error, remedy: GRANT }.into())
    } else if text.contains("NOAUTH") {
        CacheError::Unavailable(Rejected { error, remedy: CHECK_LOGIN }.into())
    } else {
        CacheError::Unavailable(error.into())
    }
}

/// Dragonfly answers with a text of its own, and with no code of its own. Redis also refuses to read in a transaction.
fn is_out_of_memory(text: &str) -> bool {
    ["command not allowed when used memory", "Out of memory"].iter().any(|refusal| text.contains(refusal))
}
