//! Measures calls with one event each in a closed loop: JSON with wrk, gRPC with pingctl.

use std::path::Path;

use tokio::process::Command;

use crate::{
    pipeline::{Pipeline, json_of, pingctl_load},
    report::Report,
};

/// Events per second that the existing system acknowledges over 64 connections while its processor runs (../shared/bench, measured
/// on another machine of this kind).
const BASELINE_JSON: f64 = 5_200.0;
/// The same with gRPC and 64 calls in flight.
const BASELINE_GRPC: f64 = 5_100.0;

pub(crate) async fn json(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    for connections in [16, 64, 256] {
        let before = (pipeline.stored().await?, pipeline.cpu_usage());
        let load = json_of(&mut wrk(&pipeline.address, connections, seconds)).await?;
        let events = (pipeline.stored().await? - before.0) as f64;
        let name = format!("JSON unary, {connections} connections");
        let rate = load["rate"].as_f64().unwrap_or(0.0);
        report.compare(&name, rate, "pings/s", "the existing system at 64", BASELINE_JSON);
        if let Some(limit) = report.value("limit: Postgres, one INSERT per commit, 64 clients") {
            report.compare(
                format!("{name}: against one INSERT per ping"),
                rate,
                "pings/s",
                "pgbench in this run",
                limit,
            );
        }
        report_latencies(report, &name, &load);
        pipeline.report_cost(report, &name, &before.1, events);
        let settled = pipeline.settle().await?;
        report.add(format!("{name}: all counted after"), settled.as_secs_f64() * 1e3, "ms");
    }
    Ok(())
}

pub(crate) async fn grpc(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    let before = (pipeline.stored().await?, pipeline.cpu_usage());
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
    report.compare(name, load["rate"].as_f64().unwrap_or(0.0), "pings/s", "the existing system at 64", BASELINE_GRPC);
    report_latencies(report, name, &load);
    pipeline.report_cost(report, name, &before.1, events);
    pipeline.settle().await?;
    Ok(())
}

/// JSON calls to a server in a closed loop.
pub(crate) fn wrk(address: &str, connections: u32, seconds: u64) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ping.lua");
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "10s", "-s"]);
    command.arg(script).arg(address);
    command
}

/// Adds the latency percentiles and the failed calls that the load generator reported.
pub(crate) fn report_latencies(report: &mut Report, name: &str, load: &serde_json::Value) {
    for percentile in ["p50", "p95", "p99"] {
        let value = load["latency_ms"][percentile].as_f64().unwrap_or(f64::NAN);
        report.add(format!("{name}: {percentile}"), value, "ms");
    }
    for outcome in ["refused", "failed", "unknown"] {
        if let Some(count) = load[outcome].as_f64().filter(|count| *count > 0.0) {
            report.add(format!("{name}: {outcome}"), count, "calls");
        }
    }
}
