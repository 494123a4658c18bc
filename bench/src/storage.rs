//! The space that Postgres occupies, without its write-ahead log.

use std::time::Duration;

use crate::{pipeline::Pipeline, report::Report, views::query_number};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GIB: f64 = (1_u64 << 30) as f64;

/// The bytes of all tables and indexes.
pub(crate) async fn database_bytes(pipeline: &Pipeline) -> anyhow::Result<f64> {
    query_number(pipeline, "SELECT pg_database_size(current_database())").await
}

/// Adds what `events` took since there were `before` bytes: per event, and per day at the rate of `events` in `time`.
pub(crate) async fn report_growth(
    report: &mut Report,
    pipeline: &Pipeline,
    name: &str,
    before: f64,
    (events, time): (f64, Duration),
) -> anyhow::Result<()> {
    let grown = database_bytes(pipeline).await? - before;
    report.add(format!("{name}: Postgres"), grown / events, "bytes per event");
    report.add(format!("{name}: Postgres"), grown / time.as_secs_f64() * DAY.as_secs_f64() / GIB, "GiB per day");
    Ok(())
}
