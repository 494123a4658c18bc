//! `pingctl revoke`

use clap::Args;
use ping_client::Client;
use ping_proto::{RevokeStatusRequest, RevokeStatusResponse};
use tonic::Status;

use crate::{
    client::{Server, is_retryable},
    exit::Exit,
    output::{self, Format, events, time},
    settings::Settings,
};

/// Arguments of `pingctl revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "The events stay counted, but no longer count against the source. The server's audit log has who revoked it and why.

Example:
  pingctl revoke example.com --reason 'sent by a test' --admin-addr https://localhost:8081"
)]
pub(crate) struct RevokeArgs {
    /// Name of the source.
    source: String,
    /// Why, for the audit log: at most 255 bytes.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// The reason of a refusal because there is nothing to revoke, in the details of a status.
const NOT_NEGATIVE: &[u8] = b"STATUS_NOT_NEGATIVE";

/// What failed attempts say.
#[derive(Default)]
struct Attempts {
    /// One of them may have been recorded.
    may_be_recorded: bool,
    /// The last one found nothing to revoke.
    found_nothing: bool,
}

impl Attempts {
    /// Notes why an attempt failed. Whether to repeat it.
    fn failed(&mut self, status: &Status) -> bool {
        let is_retryable = is_retryable(status);
        let nothing_recorded = status.metadata().get("ping-outcome").is_some_and(|value| value == "nothing-recorded");
        self.may_be_recorded |= is_retryable && !nothing_recorded;
        self.found_nothing = status.details().windows(NOT_NEGATIVE.len()).any(|part| part == NOT_NEGATIVE);
        is_retryable
    }

    /// Whether the status is as it should be: an attempt without an answer may have revoked it.
    fn are_done(&self) -> bool {
        self.may_be_recorded && self.found_nothing
    }
}

/// Revokes the negative status of a source.
pub(crate) async fn run(args: RevokeArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::at(&settings.admin_addr(), settings, settings.timeout())?;
    let request = RevokeStatusRequest { source: args.source, reason: args.reason };
    let mut attempts = Attempts::default();
    let called = server.call(&request, |status| attempts.failed(status), Client::revoke_status).await;
    let (answer, _) = match called {
        Err(_) if attempts.are_done() => {
            let source = &request.source;
            match settings.format() {
                Format::Text => output::line(format!(
                    "{source} is not negative; an earlier attempt, whose answer was lost, may have revoked its status"
                ))?,
                format => output::object(format, &RevokeStatusResponse::default())?,
            }
            return Ok(Exit::Success);
        }
        called => called?,
    };
    match settings.format() {
        Format::Text => output::line(format!(
            "revoked: {} until {} no longer count against {} (event {})",
            events(answer.revoked_events),
            time(answer.as_of_ms),
            request.source,
            answer.event_id
        ))?,
        format => output::object(format, &answer)?,
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use tonic::{Code, metadata::MetadataMap};

    use super::*;

    fn unavailable(outcome: &'static str) -> Status {
        let mut status = Status::unavailable("");
        status.metadata_mut().insert("ping-outcome", outcome.parse().unwrap());
        status
    }

    fn not_negative() -> Status {
        let details = b"\x0a\x13STATUS_NOT_NEGATIVE\x12\x04ping".as_slice().into();
        Status::with_details_and_metadata(Code::FailedPrecondition, "", details, MetadataMap::new())
    }

    #[test]
    fn nothing_to_revoke_after_an_unknown_outcome_is_success() {
        for (first, done) in [
            (unavailable("unknown"), true),
            (Status::deadline_exceeded(""), true),
            (unavailable("nothing-recorded"), false),
        ] {
            let mut attempts = Attempts::default();
            assert!(attempts.failed(&first) && !attempts.are_done());
            assert!(!attempts.failed(&not_negative()));
            assert_eq!(attempts.are_done(), done, "{first}");
        }
        let mut attempts = Attempts::default();
        assert!(!attempts.failed(&not_negative()) && !attempts.are_done(), "the first attempt");
        let mut attempts = Attempts::default();
        attempts.failed(&unavailable("unknown"));
        attempts.failed(&Status::failed_precondition("another role"));
        assert!(!attempts.are_done());
    }
}
