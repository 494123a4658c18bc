//! Measures streams of batches until they are durable, published and counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    pipeline::{Pipeline, stream_load},
    report::Report,
    storage::{database_bytes, report_growth},
    unary::report_latencies,
};

pub(crate) async fn measure(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    for batch in [100, 500] {
        let pipeline = Pipeline::start(true).await?;
        pipeline.warm_up().await?;
        let before = (pipeline.stored().await?, pipeline.cpu_usage(), database_bytes(&pipeline).await?);
        let started = Instant::now();
        let load = stream_load(&pipeline, batch, seconds).await?;
        let settled = pipeline.settle().await?;
        let events = (pipeline.stored().await? - before.0) as f64;
        let name = format!("stream, batches of {batch}");
        report.add(&name, load["rate"].as_f64().unwrap_or(0.0), "events/s acknowledged");
        let counted = events / started.elapsed().as_secs_f64();
        report.add(format!("{name}: counted, start-up and settling included"), counted, "events/s");
        report_latencies(report, &name, &load);
        report.add(format!("{name}: all counted after"), settled.as_secs_f64() * 1e3, "ms");
        pipeline.report_cost(report, &name, &before.1, events);
        report_growth(report, &pipeline, &name, before.2, (events, Duration::from_secs(seconds))).await?;
    }
    Ok(())
}
