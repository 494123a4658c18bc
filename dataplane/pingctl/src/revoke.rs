//! `pingctl revoke`

use clap::Args;
use ping_client::Client;
use ping_proto::RevokeStatusRequest;

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

/// Revokes the negative status of a source.
pub(crate) async fn run(args: RevokeArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::at(&settings.admin_addr(), settings, settings.timeout())?;
    let request = RevokeStatusRequest { source: args.source, reason: args.reason };
    let (answer, _) = server.call(&request, is_retryable, Client::revoke_status).await?;
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
