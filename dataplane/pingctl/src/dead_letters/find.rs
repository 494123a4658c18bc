//! Finding dead letters.

use clap::Args;
use ping_client::{Client, find_dead_letters};
use ping_proto::{DeadLetter, DeadLettersRequest, DeadLettersResponse};

use crate::{
    client::{Server, is_retryable},
    failure::Failure,
    settings::Settings,
    time::{self, Millis},
};

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only those whose reason contains this text, in upper or lower case.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// Only those that were sent to the dead-letter topic in the last …, e.g. 90s, 1h, 2d, by this machine's clock.
    #[arg(long, value_name = "DURATION", value_parser = time::parse_ago)]
    pub(super) since: Option<Millis>,
}

/// The first `limit` dead letters that match `filter` and are wanted. The token is empty if there are no others.
pub(super) async fn find(
    filter: &FilterArgs,
    limit: usize,
    is_wanted: impl Fn(&DeadLetter) -> bool,
    settings: &Settings,
) -> Result<DeadLettersResponse, Failure> {
    let server = Server::at(&settings.admin_addr(), settings, settings.timeout())?;
    let request = DeadLettersRequest {
        reason: filter.reason.clone(),
        since_ms: filter.since.unwrap_or(0),
        ..DeadLettersRequest::default()
    };
    let page = async |request: &DeadLettersRequest| {
        server.call(request, is_retryable, Client::dead_letters).await.map(|(answer, _)| answer)
    };
    find_dead_letters(request, limit, is_wanted, page).await
}
