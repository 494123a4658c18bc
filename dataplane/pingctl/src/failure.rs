//! Failures of a command: what happened, its cause, how to fix it, and the exit code.

use std::{error::Error, io, process::ExitCode};

use serde_json::{Value, json};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use crate::{exit::Exit, output::Format};

/// How tonic's message ends when the answer is plain HTTP and not gRPC; the HTTP status code follows.
const NOT_GRPC: &str = "mapped from HTTP status code ";

/// A failure of a command.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// For programs, e.g. "unavailable".
    pub(crate) code: &'static str,
    pub(crate) what: String,
    pub(crate) cause: Option<String>,
    pub(crate) fix: Option<String>,
}

impl Failure {
    /// A command line that is invalid or not allowed.
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage", what: what.into(), cause: None, fix: Some(fix.into()) }
    }

    /// A failed call to the server at `address`.
    pub(crate) fn of_call(status: &Status, address: &str) -> Self {
        let (code, exit) = (code(status), exit(status));
        let message = (!status.message().is_empty()).then(|| status.message().to_owned());
        let http_status = status.message().split_once(NOT_GRPC).map(|(_, http_status)| http_status);
        let (what, cause, fix) = if let Some(cause) = tls_failure(status) {
            let fix = "check that the server uses TLS exactly if its address is https://, that --ca has the CA of its certificate, and \
                       that --cert and --key are accepted there";
            (format!("no secure connection to {address}"), Some(cause), Some(fix))
        } else if caused_by::<ConnectError>(status) {
            let fix = "start a server with `pingd dev`, or set another address with --addr, PINGCTL_ADDR or --context (for \
                       `verify`, `revoke` and `dead-letters`: --admin-addr or PINGCTL_ADMIN_ADDR)";
            (format!("cannot reach {address}"), root_cause(status), Some(fix))
        } else if caused_by::<TimeoutExpired>(status) {
            (format!("{address} did not answer in time"), None, Some("retry, or raise --timeout"))
        } else if let (Code::Unimplemented, Some(http_status)) = (status.code(), http_status) {
            let fix = "8081 is usually the admin port; the API is on 8080";
            (format!("no pingd API at {address} (HTTP {http_status})"), None, Some(fix))
        } else if exit == Exit::Refused {
            let fix = match status.code() {
                Code::Unimplemented => Some("check that pingctl and the server match"),
                _ => None,
            };
            (format!("{address} refused the request"), message, fix)
        } else {
            let cause = http_status.map(|http_status| format!("HTTP {http_status}"));
            let cause = cause.or(message).or_else(|| root_cause(status));
            (format!("{address} is unavailable"), cause, Some("retry later, or raise --retries"))
        };
        Self { exit, code, what, cause, fix: fix.map(str::to_owned) }
    }

    /// The same failure with another fix.
    pub(crate) fn with_fix(self, fix: &str) -> Self {
        Self { fix: Some(fix.to_owned()), ..self }
    }

    /// The failure and its cause, in one line.
    pub(crate) fn line(&self) -> String {
        self.cause.as_ref().map_or_else(|| self.what.clone(), |cause| format!("{}: {cause}", self.what))
    }

    /// The failure as an object.
    pub(crate) fn to_json(&self) -> Value {
        let message = self.fix.as_ref().map_or_else(|| self.line(), |fix| format!("{}; {fix}", self.line()));
        json!({ "error": { "code": self.code, "message": message } })
    }

    fn print(&self, format: Format) {
        if format == Format::Json {
            eprintln!("{}", self.to_json());
            return;
        }
        eprintln!("error: {}", self.what);
        if let Some(cause) = &self.cause {
            eprintln!("  cause: {cause}");
        }
        if let Some(fix) = &self.fix {
            eprintln!("  fix: {fix}");
        }
    }
}

/// The name and the exit code of a status code.
const fn describe(code: Code) -> (&'static str, Exit) {
    match code {
        Code::Ok => ("ok", Exit::Success),
        Code::InvalidArgument => ("invalid_argument", Exit::Refused),
        Code::NotFound => ("not_found", Exit::Refused),
        Code::AlreadyExists => ("already_exists", Exit::Refused),
        Code::PermissionDenied => ("permission_denied", Exit::Refused),
        Code::FailedPrecondition => ("failed_precondition", Exit::Refused),
        Code::OutOfRange => ("out_of_range", Exit::Refused),
        Code::Unimplemented => ("unimplemented", Exit::Refused),
        Code::Unauthenticated => ("unauthenticated", Exit::Refused),
        Code::Cancelled => ("canceled", Exit::Unavailable),
        Code::Unknown => ("unknown", Exit::Unavailable),
        Code::DeadlineExceeded => ("deadline_exceeded", Exit::Unavailable),
        Code::ResourceExhausted => ("resource_exhausted", Exit::Unavailable),
        Code::Aborted => ("aborted", Exit::Unavailable),
        Code::Internal => ("internal", Exit::Unavailable),
        Code::Unavailable => ("unavailable", Exit::Unavailable),
        Code::DataLoss => ("data_loss", Exit::Unavailable),
    }
}

/// The name of a status, as Connect spells it.
pub(crate) fn code(status: &Status) -> &'static str {
    let code = if caused_by::<TimeoutExpired>(status) { Code::DeadlineExceeded } else { status.code() };
    describe(code).0
}

/// The exit code of a status: `Refused` is final, `Unavailable` may be retried.
pub(crate) fn exit(status: &Status) -> Exit {
    describe(status.code()).1
}

/// Whether an error of type `E` is among the causes.
fn caused_by<E: Error + 'static>(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<E>())
}

/// Why TLS failed, or why HTTP/2 did because only one side uses TLS.
fn tls_failure(status: &Status) -> Option<String> {
    let words = ["certificate", "InvalidContentType", "corrupt message", "alert", "TLS", "INADEQUATE_SECURITY"];
    let of_tls = |cause: &&(dyn Error + 'static)| words.iter().any(|word| cause.to_string().contains(word));
    causes(status).filter(of_tls).last().map(ToString::to_string)
}

fn root_cause(status: &Status) -> Option<String> {
    causes(status).last().map(ToString::to_string)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// Prints the error that ended the command, and returns the exit code.
pub(crate) fn report(error: &anyhow::Error, format: Format) -> ExitCode {
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return Exit::Success.into(); // The reader, e.g. `head`, has read enough.
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        failure.print(format);
        return failure.exit.into();
    }
    let what = format!("{error:#}");
    Failure { exit: Exit::Internal, code: "internal", what, cause: None, fix: None }.print(format);
    Exit::Internal.into()
}

/// Prints what is wrong with the command line, or the help it asks for.
pub(crate) fn report_usage(error: &clap::Error, format: Format) -> ExitCode {
    if error.use_stderr() && format == Format::Json {
        let text = error.render().to_string();
        let what = text.trim_start_matches("error: ").trim_end().to_owned();
        Failure { exit: Exit::Usage, code: "usage", what, cause: None, fix: None }.print(format);
        return Exit::Usage.into();
    }
    // Help into a closed pipe is not a failure.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_at_the_address_names_the_ports() {
        let status = Status::unimplemented("grpc-status header missing, mapped from HTTP status code 404");
        let failure = Failure::of_call(&status, "http://localhost:8081");
        assert_eq!(
            (failure.exit, failure.line().as_str()),
            (Exit::Refused, "no pingd API at http://localhost:8081 (HTTP 404)")
        );
        assert_eq!(failure.fix.unwrap(), "8081 is usually the admin port; the API is on 8080");
        let status = Status::unavailable("grpc-status header missing, mapped from HTTP status code 502");
        assert_eq!(Failure::of_call(&status, "http://x:1").line(), "http://x:1 is unavailable: HTTP 502");
    }
}
