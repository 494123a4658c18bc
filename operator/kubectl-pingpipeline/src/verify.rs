//! `kubectl pingpipeline verify`

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use ping_proto::VerifyResponse;

use crate::{
    cluster::ConnectionArgs,
    output::{Format, table},
    recount::Recounter,
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline.
    name: String,
}

/// Asks a server to recount.
pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipelines = cluster.find(Some(&arguments.name)).await?;
    let pipeline = pipelines.first().context("no such pipeline")?;
    let report = Recounter::connect(&cluster, pipeline).await?.recount().await?;
    match format {
        Format::Json => println!("{}", serde_json::to_string(&report)?),
        Format::Text => println!("{}", text(&report)),
    }
    Ok(report.exact)
}

fn text(report: &VerifyResponse) -> String {
    let VerifyResponse {
        exact,
        rows,
        total,
        minutes_total,
        days_total,
        cache_total,
        minutes_compared,
        differences,
        ..
    } = report;
    let cache_total = cache_total.map_or_else(|| "-".to_owned(), |total| total.to_string());
    let header = ["ROWS", "TOTAL", "MINUTES", "DAYS", "CACHE", "MINUTES COMPARED"];
    let [rows, total, minutes, days, compared] =
        [rows, total, minutes_total, days_total, minutes_compared].map(ToString::to_string);
    let mut parts = vec![table(header, [[rows, total, minutes, days, cache_total, compared]])];
    if report.dropped > 0 {
        let from = Timestamp::from_millisecond(report.recountable_from_ms)
            .map_or_else(|_| report.recountable_from_ms.to_string(), |time| time.to_string());
        let dropped = report.dropped;
        parts.push(format!(
            "{dropped} rows were dropped by retention; events since {from} are recounted from their rows alone"
        ));
    }
    parts.extend(differences.iter().map(|difference| format!("DIFFERS: {difference}")));
    parts.push(if *exact { "exact" } else { "NOT EXACT" }.into());
    parts.join("\n")
}
