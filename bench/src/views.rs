//! What a benchmark asks about the views per source: how far they are behind, and the space that they take.

use std::time::Duration;

use anyhow::{Context, ensure};
use ping_client::Client;
use ping_proto::SourceStatsRequest;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::pipeline::Pipeline;

/// How long the views may take to catch up.
const TIMEOUT: Duration = Duration::from_secs(1_800);

/// Waits until the views contain every stored event.
pub(crate) async fn catch_up(pipeline: &Pipeline) -> anyhow::Result<()> {
    let (started, stored) = (Instant::now(), pipeline.stored().await? as f64);
    loop {
        // Every record of the log is an event.
        let counted = "SELECT coalesce(sum(next), 0) FROM source_positions";
        if lag_records(pipeline).await? == 0.0 && query_number(pipeline, counted).await? >= stored {
            return Ok(());
        }
        ensure!(started.elapsed() < TIMEOUT, "the views did not catch up within {TIMEOUT:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The records that the views do not contain yet.
async fn lag_records(pipeline: &Pipeline) -> anyhow::Result<f64> {
    pipeline.processor.as_ref().context("no processor")?.metric("ping_views_lag_records").await
}

/// The maximum lag of the views, in records, now and during the next `seconds`.
pub(crate) async fn max_lag_records(pipeline: &Pipeline, seconds: u64) -> anyhow::Result<f64> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut max = lag_records(pipeline).await?;
    while Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        max = max.max(lag_records(pipeline).await?);
    }
    Ok(max)
}

/// By how many milliseconds the views are behind, as a caller sees it.
pub(crate) async fn lag_ms(client: &Client, source: String) -> anyhow::Result<u64> {
    let answer = client.source_stats(SourceStatsRequest { source }).await?.into_inner();
    Ok(answer.lag_ms.unsigned_abs())
}

/// The memory use of the cache, in bytes.
pub(crate) async fn cache_bytes(pipeline: &Pipeline) -> anyhow::Result<f64> {
    let mut connection = redis::Client::open(pipeline.parts.redis.url())?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.context("INFO contains no used_memory")?.trim().parse()?)
}

/// The disk space of the views and their indexes in all partitions, in bytes.
pub(crate) async fn view_bytes(pipeline: &Pipeline) -> anyhow::Result<f64> {
    let tables =
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'source\\_%'";
    query_number(pipeline, tables).await
}

/// The single number that a query returns.
pub(crate) async fn query_number(pipeline: &Pipeline, query: &str) -> anyhow::Result<f64> {
    Ok(psql(pipeline, query).await?.trim().parse()?)
}

/// Executes a statement.
pub(crate) async fn execute(pipeline: &Pipeline, statement: &str) -> anyhow::Result<()> {
    psql(pipeline, statement).await?;
    Ok(())
}

async fn psql(pipeline: &Pipeline, statement: &str) -> anyhow::Result<String> {
    let output = Command::new("psql").args([&pipeline.parts.postgres.url(), "-Atc", statement]).output().await?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
