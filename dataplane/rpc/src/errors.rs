//! Converts domain errors to errors of the protocol: a code, a message that says how to fix it, and standard details for programs.
//!
//! What goes wrong inside (addresses, SQL, user names) is logged under an id; the caller gets the id.

use std::time::Duration;

use connectrpc::{ConnectError, ErrorDetail};
use http::{HeaderMap, HeaderValue, header};
use ping_core::{EventError, RangeError};
use ping_identity::AuthenticationError;
use ping_ingest::Refusal;
use ping_ports::{LogError, StoreError, chain};
use ping_proto::errors::{BadRequest, ErrorInfo, RetryInfo, bad_request::FieldViolation};
use ping_query::{QueryError, SourceError};
use ping_quota::{Limit, QuotaRefusal};
use uuid::Uuid;

/// Who defines the reasons in `ErrorInfo`.
const DOMAIN: &str = "pingpipeline.io";
/// Pause before a retry while the store is unavailable.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Pause before a retry while the store has no disk space left.
const FULL_RETRY: Duration = Duration::from_secs(10);
/// Pause before a retry while there are too many sources.
const NAMES_RETRY: Duration = Duration::from_secs(60);
/// Response header that says whether an event may have been recorded: `nothing-recorded` or `unknown`.
const OUTCOME: &str = "ping-outcome";

/// The event id is already used for different content.
pub(super) const CONFLICT: &str = "event_id is already used for an event with different content; send a new id for a new event, or the same content for a retry";

/// `PingCountRequest.after` cannot be read.
const INVALID_TOKEN: &str = "`after` is not a valid token; use the `token` returned by Ping with receipt=true";

/// An invalid request. `field` is the path of the field that is wrong.
pub(super) fn invalid_field(field: &str, message: String) -> ConnectError {
    let violation = FieldViolation { field: field.to_owned(), description: message.clone() };
    let details = BadRequest { field_violations: vec![violation] };
    ConnectError::invalid_argument(message).with_detail(ErrorDetail::from_message("google.rpc.BadRequest", &details))
}

pub(super) fn invalid_event(error: &EventError) -> ConnectError {
    let field = match error {
        EventError::Negative(_) | EventError::TooEarly(_) | EventError::TooLate { .. } => "timestamp_ms",
        EventError::NotAUuid(_) | EventError::IdTooOld { .. } | EventError::IdTooNew(_) => "event_id",
        EventError::Source(_) => "source",
        EventError::Kind(_) | EventError::ReservedKind => "kind",
    };
    invalid_field(field, error.to_string())
}

pub(super) fn invalid_range(error: &RangeError) -> ConnectError {
    invalid_field("time_range", error.to_string())
}

pub(super) fn invalid_token() -> ConnectError {
    invalid_field("after", INVALID_TOKEN.to_owned())
}

pub(super) fn conflict() -> ConnectError {
    with_reason(ConnectError::already_exists(CONFLICT), "EVENT_ID_CONFLICT", [])
}

/// A limit is reached: the caller may retry after `delay`.
pub(super) fn exhausted(message: impl Into<String>, reason: &str, delay: Duration) -> ConnectError {
    retry_after(with_reason(ConnectError::resource_exhausted(message), reason, []), delay)
}

/// The process holds as much for requests as it may.
pub(super) fn out_of_memory() -> ConnectError {
    let message = "the server holds as many requests as its memory allows; retry later";
    exhausted(message, "MEMORY_LIMIT", Duration::from_secs(1))
}

pub(super) fn refused(refusal: &Refusal) -> ConnectError {
    match refusal {
        Refusal::Full(delay) => exhausted(refusal.to_string(), "QUEUE_FULL", *delay),
        // For programs: an event sent without an id is safe to retry only if nothing was recorded.
        Refusal::ShuttingDown => {
            outcome(ConnectError::unavailable(refusal.to_string()), "SHUTTING_DOWN", "nothing-recorded")
        }
        Refusal::Unavailable(cause) => {
            let id = log("the store is unavailable", cause);
            let message = format!("the store is unavailable and nothing was recorded; retry (error {id})");
            retry_after(
                outcome(ConnectError::unavailable(message), "STORE_UNAVAILABLE", "nothing-recorded"),
                STORE_RETRY,
            )
        }
        Refusal::Expired => retry_after(
            outcome(ConnectError::unavailable(refusal.to_string()), "EVENT_ID_EXPIRED", "nothing-recorded"),
            STORE_RETRY,
        ),
        Refusal::StoreFull(cause) => {
            let id = log("the store has run out of disk space", cause);
            let message = format!(
                "the store has run out of disk space and nothing was recorded; retry later with the same event_id, or ask its operator to \
                 enlarge the volume (error {id})"
            );
            let error = outcome(ConnectError::resource_exhausted(message), "STORE_FULL", "nothing-recorded");
            retry_after(error, FULL_RETRY)
        }
        Refusal::OutcomeUnknown(cause) => {
            let id = log("the outcome of a commit is unknown", cause);
            let message =
                format!("the events may or may not have been recorded; retry with the same event_id (error {id})");
            retry_after(outcome(ConnectError::unavailable(message), "OUTCOME_UNKNOWN", "unknown"), STORE_RETRY)
        }
    }
}

/// There is nothing to revoke.
pub(super) fn not_negative() -> ConnectError {
    let message = "the status of this source is not negative, so there is nothing to revoke; look at it with GetStatus. An event that was \
                   sent just now counts within about a second: retry then";
    with_reason(ConnectError::failed_precondition(message), "STATUS_NOT_NEGATIVE", [])
}

/// A revocation that is not acknowledged.
pub(super) fn revocation_refused(refusal: &Refusal) -> ConnectError {
    let Refusal::OutcomeUnknown(cause) = refusal else { return refused(refusal) };
    let id = log("the outcome of a revocation is unknown", cause);
    let message = format!("the revocation may or may not have been recorded; retry, which is safe (error {id})");
    retry_after(outcome(ConnectError::unavailable(message), "OUTCOME_UNKNOWN", "unknown"), STORE_RETRY)
}

/// A quota of the caller does not allow the call.
pub(super) fn over_quota(refusal: &QuotaRefusal) -> ConnectError {
    match refusal {
        // Waiting does not help.
        QuotaRefusal::TooLarge { limit, .. } => {
            let field = match limit {
                Limit::Events | Limit::Bytes => "events",
                Limit::Sources | Limit::AllSources => "source",
                Limit::Kinds | Limit::KindNames => "kind",
            };
            invalid_field(field, refusal.to_string())
        }
        QuotaRefusal::Exceeded { quota, limit, retry_in, .. } => {
            let metadata = [("quota", &**quota), ("limit", limit.as_str())];
            let error = ConnectError::resource_exhausted(refusal.to_string());
            retry_after(with_reason(error, "QUOTA_EXCEEDED", metadata), *retry_in)
        }
        QuotaRefusal::TooManySources { .. } => exhausted(refusal.to_string(), "SOURCE_LIMIT", NAMES_RETRY),
        QuotaRefusal::TooManyKindNames { retry_in, .. } => exhausted(refusal.to_string(), "KIND_LIMIT", *retry_in),
        QuotaRefusal::TooManyBuckets { retry_in } => exhausted(refusal.to_string(), "TOO_MANY_QUOTAS", *retry_in),
        QuotaRefusal::Unavailable(cause) => refused(&Refusal::Unavailable(cause.clone())),
        QuotaRefusal::ShuttingDown => refused(&Refusal::ShuttingDown),
    }
}

pub(super) fn query(error: &QueryError) -> ConnectError {
    match error {
        QueryError::Store(error) => unavailable(error),
        QueryError::EdgeDropped(error) => ConnectError::out_of_range(error.to_string()),
        QueryError::NotCountedYet => ConnectError::deadline_exceeded(error.to_string()),
        QueryError::TooManyWaiting(_) => exhausted(error.to_string(), "TOO_MANY_WAITING", Duration::from_secs(1)),
        QueryError::TooManyWatchers(_) => exhausted(error.to_string(), "TOO_MANY_WATCHERS", Duration::from_secs(10)),
    }
}

pub(super) fn source(error: &SourceError) -> ConnectError {
    let field = match error {
        SourceError::Store(error) => return unavailable(error),
        SourceError::Expired { .. } | SourceError::DaysExpired { .. } => {
            return ConnectError::out_of_range(error.to_string());
        }
        SourceError::InvalidSource(_) => "source",
        SourceError::StepTooShort | SourceError::TooManySteps(_) => "step",
        SourceError::Unaligned => "time_range",
        SourceError::Limit(_) => "limit",
    };
    invalid_field(field, error.to_string())
}

pub(super) fn unavailable(error: &StoreError) -> ConnectError {
    let id = log("the store did not answer", &chain(error));
    let message = format!("the store did not answer; retry (error {id})");
    let error = with_reason(ConnectError::unavailable(message), "STORE_UNAVAILABLE", []);
    retry_after(error, STORE_RETRY)
}

pub(super) fn log_unavailable(error: &LogError) -> ConnectError {
    let id = log("the log did not answer", &chain(error));
    let message = format!("the log did not answer; retry, or look for error {id} in the log of the server");
    retry_after(with_reason(ConnectError::unavailable(message), "LOG_UNAVAILABLE", []), STORE_RETRY)
}

/// The caller has no valid credentials.
pub(super) fn unauthenticated(error: &AuthenticationError) -> ConnectError {
    if matches!(error, AuthenticationError::KeysUnavailable(_)) {
        let error = with_reason(ConnectError::unavailable(error.to_string()), "KEYS_UNAVAILABLE", []);
        return retry_after(error, STORE_RETRY);
    }
    let challenge = match error {
        AuthenticationError::Missing(_) => "Bearer",
        _ => "Bearer error=\"invalid_token\"",
    };
    let reason = error.reason().to_ascii_uppercase();
    let mut refused = with_reason(ConnectError::unauthenticated(error.to_string()), &reason, []);
    refused.response_headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    refused
}

/// The caller lacks a permission.
pub(super) fn permission_denied(message: &str) -> ConnectError {
    with_reason(ConnectError::permission_denied(message), "PERMISSION_DENIED", [])
}

/// `error`, of the event at `index` of a batch.
pub(super) fn of_event(index: i32, mut error: ConnectError) -> ConnectError {
    let message = error.message.unwrap_or_default();
    error.message = Some(format!("nothing of the batch was recorded: event {index}: {message}"));
    error
}

/// A call arrived without having been admitted.
pub(super) fn not_admitted() -> ConnectError {
    let id = log("a call was not admitted", "its caller was not authenticated, which is a defect");
    ConnectError::internal(format!("the call failed because of a defect; report it with the log of error {id}"))
}

/// A call panicked.
pub(super) fn defect() -> ConnectError {
    let id = log("a call panicked", "see the panic before this line");
    ConnectError::internal(format!("the call failed because of a defect; report it with the log of error {id}"))
}

/// A count as the wire has it. Batches and windows are small, so the conversion cannot fail in practice.
pub(super) fn wire_count(count: usize) -> Result<i64, ConnectError> {
    i64::try_from(count).map_err(|_| ConnectError::internal(format!("{count} does not fit in 64 bits")))
}

/// Logs a cause and returns the id to look it up by.
fn log(what: &str, cause: &str) -> String {
    let id = Uuid::now_v7().simple().to_string();
    tracing::warn!(error_id = id, cause, "{what}");
    id
}

fn with_reason<const N: usize>(error: ConnectError, reason: &str, metadata: [(&str, &str); N]) -> ConnectError {
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let info = ErrorInfo { reason: reason.to_owned(), domain: DOMAIN.to_owned(), metadata };
    error.with_detail(ErrorDetail::from_message("google.rpc.ErrorInfo", &info))
}

fn outcome(error: ConnectError, reason: &str, outcome: &'static str) -> ConnectError {
    let mut headers = HeaderMap::new();
    headers.insert(OUTCOME, HeaderValue::from_static(outcome));
    with_reason(error, reason, [("outcome", outcome)]).with_headers(headers)
}

fn retry_after(mut error: ConnectError, delay: Duration) -> ConnectError {
    let seconds = delay.as_secs_f64().ceil().max(1.0).to_string();
    if let Ok(seconds) = seconds.parse() {
        error.response_headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    let info = RetryInfo { retry_delay: buffa::MessageField::some(delay.into()) };
    error.with_detail(ErrorDetail::from_message("google.rpc.RetryInfo", &info))
}
