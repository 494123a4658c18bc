//! Converts domain errors to gRPC status, and gRPC status to Connect errors.

use http::StatusCode;
use tonic::{Code, Status, metadata::MetadataValue};

use ping_core::{EventError, RangeError};
use ping_ingest::Refusal;
use ping_ports::{StoreError, chain};
use ping_query::{QueryError, SourceError};

pub(super) fn invalid(error: &EventError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(super) fn invalid_range(error: &RangeError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(super) fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Full(after) => {
            let mut status = Status::resource_exhausted(refusal.to_string());
            let seconds = after.as_secs_f64().ceil().max(1.0).to_string();
            if let Ok(seconds) = seconds.parse() {
                status.metadata_mut().insert("retry-after", seconds);
            }
            status
        }
        // For programs: an event sent without an id is safe to retry only if nothing was recorded.
        Refusal::Unavailable(_) | Refusal::ShuttingDown => unavailable_with(refusal, "nothing-recorded"),
        Refusal::OutcomeUnknown(_) => unavailable_with(refusal, "unknown"),
    }
}

fn unavailable_with(refusal: &Refusal, outcome: &'static str) -> Status {
    let mut status = Status::unavailable(refusal.to_string());
    status.metadata_mut().insert("ping-outcome", MetadataValue::from_static(outcome));
    status
}

/// The event id is already used for different content.
pub(super) const CONFLICT: &str = "event_id is already used for an event with different content; send a new id for a new event, or the same content for a retry";

/// `PingCountRequest.after` cannot be read.
pub(super) const INVALID_TOKEN: &str =
    "`after` is not a valid token; use the `token` returned by Ping with receipt=true";

pub(super) fn query(error: &QueryError) -> Status {
    match error {
        QueryError::Store(error) => unavailable(error),
        QueryError::NotCountedYet => Status::deadline_exceeded(error.to_string()),
    }
}

pub(super) fn source(error: &SourceError) -> Status {
    match error {
        SourceError::Store(error) => unavailable(error),
        SourceError::Expired { .. } => Status::out_of_range(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}

pub(super) fn unavailable(error: &StoreError) -> Status {
    Status::unavailable(format!("{}; retry", chain(error)))
}

/// A count as the wire has it. Batches and windows are small, so the conversion cannot fail in practice.
pub(super) fn wire_count(count: usize) -> Result<i64, Status> {
    i64::try_from(count).map_err(|_| Status::internal(format!("{count} does not fit in 64 bits")))
}

/// A code's name in Connect JSON, and its HTTP status.
pub(super) fn connect_code(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::Ok => ("ok", StatusCode::OK),
        // 499 is not registered, so `http` has no constant for it; every number from 100 to 999 is valid.
        Code::Cancelled => ("canceled", StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)),
        Code::Unknown => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
    }
}
