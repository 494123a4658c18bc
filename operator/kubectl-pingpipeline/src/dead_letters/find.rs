//! Finding dead letters.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use jiff::{Span, SpanRelativeTo, Timestamp};
use ping_api::{crd::PingPipeline, names::Names, roles::ingest_role};
use ping_client::find_dead_letters;
use ping_proto::{DeadLetter, DeadLettersRequest, DeadLettersResponse};

use crate::{caller::Caller, cluster::Cluster};

/// Timeout of one call. A server reads a page within a few seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// Which dead letters.
#[derive(Args)]
pub(super) struct FilterArguments {
    /// Only those whose reason contains this text, in upper or lower case.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// Only those that were sent to the dead-letter topic in the last …, e.g. 90s, 1h, 2d, by this machine's clock.
    #[arg(long, value_name = "DURATION", value_parser = parse_ago)]
    pub(super) since: Option<i64>,
}

/// Parses a duration, and returns the time that long ago, in milliseconds since the Unix epoch.
fn parse_ago(text: &str) -> Result<i64, String> {
    let span = text.parse::<Span>().map_err(|_| "not a duration; write 90s, 1h30m or 2d")?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    if !length.is_positive() {
        return Err("a duration must be positive".to_owned());
    }
    let start = Timestamp::now().checked_sub(length).map_err(|error| error.to_string())?;
    Ok(start.as_millisecond().max(1))
}

/// The pipeline called `name`.
pub(super) async fn find_pipeline(cluster: &Cluster, name: &str) -> anyhow::Result<PingPipeline> {
    cluster.find(Some(name)).await?.into_iter().next().context("no such pipeline")
}

/// The first `limit` dead letters that match `filter` and are wanted. The token is empty if there are no others.
pub(super) async fn find(
    cluster: &Cluster,
    pipeline: &PingPipeline,
    filter: &FilterArguments,
    limit: usize,
    is_wanted: impl Fn(&DeadLetter) -> bool,
) -> anyhow::Result<DeadLettersResponse> {
    let role = ingest_role(&pipeline.spec.server);
    let caller = Caller::connect(cluster, pipeline, role, "admin", TIMEOUT).await?;
    let component = Names::of(pipeline).part(role.component());
    ensure!(caller.is_ready().await?, "no pod of {component} is ready; see `kubectl get pods`");
    let request = DeadLettersRequest {
        reason: filter.reason.clone(),
        since_ms: filter.since.unwrap_or(0),
        ..DeadLettersRequest::default()
    };
    let page = async |request: &DeadLettersRequest| {
        let answer: Result<DeadLettersResponse, _> =
            caller.call_with_retries("ping.v1.AdminService/DeadLetters", request).await;
        answer.context("no server listed its dead letters")
    };
    find_dead_letters(request, limit, is_wanted, page).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert!(parse_ago("1h").is_ok_and(|since| since < Timestamp::now().as_millisecond() - 3_500_000));
        assert!(["90", "0s", "-5s"].iter().all(|text| parse_ago(text).is_err()));
    }
}
