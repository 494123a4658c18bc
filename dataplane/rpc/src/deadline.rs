//! Deadlines that callers set, as headers.

use std::time::Duration;

use connectrpc::ConnectError;
use http::{HeaderMap, HeaderValue};

use super::errors;

/// Refuses a deadline that cannot be read. The protocol library would ignore it, and the call could then take any time.
pub(super) fn check(headers: &HeaderMap) -> Result<(), ConnectError> {
    for (name, is_valid, form) in [
        ("connect-timeout-ms", is_connect_timeout as fn(&str) -> bool, "up to 10 digits: milliseconds"),
        ("grpc-timeout", is_grpc_timeout, "up to 8 digits and a unit: H, M, S, m, u or n"),
    ] {
        let Some(value) = headers.get(name) else { continue };
        if !value.to_str().is_ok_and(is_valid) {
            return Err(invalid(name, value, form));
        }
    }
    Ok(())
}

fn invalid(name: &str, value: &HeaderValue, form: &str) -> ConnectError {
    let value: String = String::from_utf8_lossy(value.as_bytes()).chars().take(40).collect();
    errors::invalid_field(name, format!("the header {name} is \"{value}\"; send {form}"))
}

fn is_connect_timeout(value: &str) -> bool {
    (1..=10).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_grpc_timeout(value: &str) -> bool {
    let Some(digits) = value.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n']) else { return false };
    (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The call took longer than the server allows.
pub(super) fn exceeded(limit: Duration) -> ConnectError {
    let message = format!("the call took longer than {} s; retry with the same event_id", limit.as_secs());
    ConnectError::deadline_exceeded(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &'static str, value: &str) -> Result<(), String> {
        let headers = [(http::HeaderName::from_static(name), value.parse().unwrap())].into_iter().collect();
        check(&headers).map_err(|error| error.message.unwrap())
    }

    #[test]
    fn deadlines_of_both_protocols_are_read_strictly() {
        for value in ["1H", "99999999M", "3S", "5m", "6u", "7n"] {
            assert_eq!(checked("grpc-timeout", value), Ok(()), "{value}");
        }
        for value in ["", "S", "1", "1x", "-1S", "9999999999999999999H", "1.5S"] {
            assert!(checked("grpc-timeout", value).unwrap_err().contains("unit"), "{value}");
        }
        assert_eq!(checked("connect-timeout-ms", "5000"), Ok(()));
        for value in ["", "-1", "5s", "99999999999"] {
            assert!(checked("connect-timeout-ms", value).unwrap_err().contains("milliseconds"), "{value}");
        }
    }
}
