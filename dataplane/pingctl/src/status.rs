//! `pingctl status`

use clap::Args;
use ping_client::Client;
use ping_proto::GetStatusRequest;

use crate::{
    client::{Server, is_retryable_query},
    exit::Exit,
    output::{self, Format},
    settings::Settings,
};

/// Arguments of `pingctl status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingctl status example.com                           # the label, e.g. positive")]
pub(crate) struct StatusArgs {
    /// Name of the source: a client, a domain, an address, …
    source: String,
}

/// Shows a source's status, as the server's rule classifies it.
pub(crate) async fn run(args: StatusArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let request = GetStatusRequest { source: args.source };
    let called = server.call(&request, is_retryable_query, Client::get_status);
    let (answer, _) = called.await?;
    match settings.format() {
        Format::Text => output::line(&answer.status)?,
        Format::Name => output::line(&request.source)?,
        format => output::object(format, &answer)?,
    }
    Ok(Exit::Success)
}
