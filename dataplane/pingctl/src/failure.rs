//! Why a command failed: what, why, and how to fix it. Errors with an exit code.

use std::{error::Error, io, process::ExitCode};

use serde_json::{Value, json};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use crate::{exit::Exit, output::Format};

/// A failure in words, with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) code: &'static str,
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    pub(crate) fix: Option<String>,
}

impl Failure {
    /// The command line asks for something that makes no sense, or is not allowed.
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage", what: what.into(), why: None, fix: Some(fix.into()) }
    }

    /// What the server, or the way to it, said to a call of `address`.
    pub(crate) fn of(status: &Status, address: &str) -> Self {
        let (code, exit) = (code(status), exit(status));
        let (what, why, fix) = if caused_by::<ConnectError>(status) {
            let fix = "start a server with `pingd dev`, or name another with --addr or PINGCTL_ADDR";
            (format!("cannot reach {address}"), root_cause(status), Some(fix))
        } else if caused_by::<TimeoutExpired>(status) {
            (format!("{address} did not answer in time"), None, Some("try again, or allow more with --timeout"))
        } else if exit == Exit::Refused {
            let fix = (status.code() == Code::Unimplemented).then_some("is this a ping server? see --addr");
            (format!("{address} refused"), Some(status.message().to_owned()), fix)
        } else {
            let why = if status.message().is_empty() { root_cause(status) } else { Some(status.message().to_owned()) };
            (format!("{address} is unavailable"), why, Some("try again, or more often with --retries"))
        };
        Self { exit, code, what, why, fix: fix.map(str::to_owned) }
    }

    /// What and why, in one line.
    pub(crate) fn line(&self) -> String {
        self.why.as_ref().map_or_else(|| self.what.clone(), |why| format!("{}: {why}", self.what))
    }

    /// Everything, as an object.
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
        if let Some(why) = &self.why {
            eprintln!("  why: {why}");
        }
        if let Some(fix) = &self.fix {
            eprintln!("  fix: {fix}");
        }
    }
}

/// A status by its name and exit code.
const fn meaning(code: Code) -> (&'static str, Exit) {
    match code {
        Code::Ok => ("ok", Exit::Done),
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

/// A status by name, as Connect spells it.
pub(crate) fn code(status: &Status) -> &'static str {
    let code = if caused_by::<TimeoutExpired>(status) { Code::DeadlineExceeded } else { status.code() };
    meaning(code).0
}

/// The exit code of a status: `Refused` is final, `Unavailable` may be tried again.
pub(crate) fn exit(status: &Status) -> Exit {
    meaning(status.code()).1
}

/// Whether an error of type `E` is among the causes.
fn caused_by<E: Error + 'static>(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<E>())
}

fn root_cause(status: &Status) -> Option<String> {
    causes(status).last().map(ToString::to_string)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// Prints what ended the program, and says how to exit.
pub(crate) fn report(error: &anyhow::Error, format: Format) -> ExitCode {
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return Exit::Done.into(); // The reader has seen enough, as `head` does.
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        failure.print(format);
        return failure.exit.into();
    }
    let what = format!("{error:#}");
    Failure { exit: Exit::Broken, code: "internal", what, why: None, fix: None }.print(format);
    Exit::Broken.into()
}

/// Prints what is wrong with the command line, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error, format: Format) -> ExitCode {
    if error.use_stderr() && format == Format::Json {
        let text = error.render().to_string();
        let what = text.trim_start_matches("error: ").trim_end().to_owned();
        Failure { exit: Exit::Usage, code: "usage", what, why: None, fix: None }.print(format);
        return Exit::Usage.into();
    }
    // A closed pipe is no reason to complain about help.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}
