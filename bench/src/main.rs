//! Benchmarks, reported relative to limits that are measured in the same run. Every performance claim of the project comes from
//! here.

mod cpu_shares;
mod drain;
mod freshness;
mod limits;
mod machine;
mod manifest;
mod pipeline;
mod reader;
mod reads;
mod report;
mod security;
mod status;
mod stream;
mod unary;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use report::Report;

/// Benchmark the data plane, its dependencies and the load generator on this machine. Takes a few minutes.
#[derive(Debug, Parser)]
struct Args {
    /// Benchmarks to run [default: all]: limits, json, grpc, stream, security, freshness, status, drain.
    benchmarks: Vec<String>,
    /// Duration of each load in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Number of records in the backlog to drain.
    #[arg(long, default_value_t = 5_000_000)]
    backlog: i64,
    /// Folder for the results.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

impl Args {
    fn selects(&self, name: &str) -> bool {
        self.benchmarks.is_empty() || self.benchmarks.iter().any(|selected| selected == name)
    }
}

/// The same allocator as in the measured programs, because the load generator shares their cores.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut report = Report::default();
    if args.selects("limits") {
        limits::measure(&mut report, args.seconds).await.context("limits")?;
    }
    if args.selects("json") {
        unary::json(&mut report, args.seconds).await.context("json")?;
    }
    if args.selects("grpc") {
        unary::grpc(&mut report, args.seconds).await.context("grpc")?;
    }
    if args.selects("stream") {
        stream::measure(&mut report, args.seconds).await.context("stream")?;
    }
    if args.selects("security") {
        security::measure(&mut report, args.seconds).await.context("security")?;
    }
    if args.selects("freshness") {
        freshness::measure(&mut report, args.seconds).await.context("freshness")?;
    }
    if args.selects("status") {
        // Runs longer than the others because a growing lag takes time to show.
        status::measure(&mut report, args.seconds * 3).await.context("status")?;
    }
    if args.selects("drain") {
        drain::measure(&mut report, args.backlog).await.context("drain")?;
    }
    print!("{}", report.table());
    let path = report.write(&args.results)?;
    println!("results written to {}", path.display());
    Ok(())
}
