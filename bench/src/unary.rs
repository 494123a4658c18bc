//! One ping per call, closed loop: JSON by wrk, gRPC by pingctl.

use std::path::Path;

use tokio::process::Command;

use crate::{
    pipeline::{Pipeline, json_of, pingctl_load},
    report::Report,
};

/// What the existing system acknowledges with its processor running, 64 connections (../shared/bench, another machine of
/// this kind).
const PEER_JSON: f64 = 5_200.0;
/// The same by gRPC, 64 in flight.
const PEER_GRPC: f64 = 5_100.0;

pub(crate) async fn json(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let pipeline = Pipeline::start(true).await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ping.lua");
    pipeline.warm_up().await?;
    for connections in [16, 64, 256] {
        let before = (pipeline.stored().await?, pipeline.cost());
        let load = json_of(
            Command::new("wrk")
                .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "10s", "-s"])
                .arg(&script)
                .arg(&pipeline.address),
        )
        .await?;
        let events = (pipeline.stored().await? - before.0) as f64;
        let name = format!("JSON unary, {connections} connections");
        let rate = load["rate"].as_f64().unwrap_or(0.0);
        report.compare(&name, rate, "pings/s", "the existing system at 64", PEER_JSON);
        if let Some(limit) = report.value("limit: Postgres, one INSERT per commit, 64 clients") {
            report.compare(
                format!("{name}: against one INSERT per ping"),
                rate,
                "pings/s",
                "pgbench in this run",
                limit,
            );
        }
        latencies(report, &name, &load);
        pipeline.note_cost(report, &name, &before.1, events);
        let settled = pipeline.settle().await?;
        report.add(format!("{name}: all counted after"), settled.as_secs_f64() * 1e3, "ms");
    }
    Ok(())
}

pub(crate) async fn grpc(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    let before = (pipeline.stored().await?, pipeline.cost());
    let load = json_of(pingctl_load(&pipeline)?.args([
        "--sources",
        "0",
        "--mode",
        "unary",
        "--rate",
        "max",
        "--connections",
        "4",
        "--in-flight",
        "16",
        "--no-ids",
        "--duration",
        &format!("{seconds}s"),
    ]))
    .await?;
    let events = (pipeline.stored().await? - before.0) as f64;
    let name = "gRPC unary, 64 in flight";
    report.compare(name, load["rate"].as_f64().unwrap_or(0.0), "pings/s", "the existing system at 64", PEER_GRPC);
    latencies(report, name, &load);
    pipeline.note_cost(report, name, &before.1, events);
    pipeline.settle().await?;
    Ok(())
}

/// Percentiles that the load reported.
pub(crate) fn latencies(report: &mut Report, name: &str, load: &serde_json::Value) {
    for percentile in ["p50", "p95", "p99"] {
        let value = load["latency_ms"][percentile].as_f64().unwrap_or(f64::NAN);
        report.add(format!("{name}: {percentile}"), value, "ms");
    }
    for wrong in ["refused", "failed", "unknown"] {
        if let Some(count) = load[wrong].as_f64().filter(|count| *count > 0.0) {
            report.add(format!("{name}: {wrong}"), count, "calls");
        }
    }
}
