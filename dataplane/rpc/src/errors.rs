//! Domain errors as gRPC status, and gRPC status as Connect errors.

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
        // For programs: without an id of their own, only a ping of which nothing was recorded is safe to send again.
        Refusal::Unavailable(_) | Refusal::ShuttingDown => unavailable_with(refusal, "nothing-recorded"),
        Refusal::OutcomeUnknown(_) => unavailable_with(refusal, "unknown"),
    }
}

fn unavailable_with(refusal: &Refusal, outcome: &'static str) -> Status {
    let mut status = Status::unavailable(refusal.to_string());
    status.metadata_mut().insert("ping-outcome", MetadataValue::from_static(outcome));
    status
}

/// The id stands for something else.
pub(super) const CONFLICT: &str = "event_id was used before for a ping with other content; send a new id for a new ping, or the same content for a retry";

pub(super) fn unanswered(error: &QueryError) -> Status {
    match error {
        QueryError::Store(error) => unavailable(error),
        QueryError::NotYet => Status::deadline_exceeded(error.to_string()),
    }
}

pub(super) fn source(error: &SourceError) -> Status {
    match error {
        SourceError::Store(error) => unavailable(error),
        SourceError::Gone { .. } => Status::out_of_range(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}

pub(super) fn unavailable(error: &StoreError) -> Status {
    Status::unavailable(format!("{}; retry", chain(error)))
}

/// A code's name in Connect JSON, and its HTTP status.
pub(super) fn connect_code(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::Ok => ("ok", StatusCode::OK),
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
