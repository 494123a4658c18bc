//! Ratios against a limit, taken in one run on one machine: every figure that the project claims comes from here.

mod drain;
mod freshness;
mod limits;
mod machine;
mod manifest;
mod pipeline;
mod reader;
mod reads;
mod report;
mod shares;
mod status;
mod stream;
mod unary;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use report::Report;

/// Measures the data plane with everything it needs, and the load, on this machine; a few minutes.
#[derive(Debug, Parser)]
struct Args {
    /// Only these: limits, json, grpc, stream, freshness, status, drain.
    only: Vec<String>,
    /// Seconds per load.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Records of the backlog to drain.
    #[arg(long, default_value_t = 5_000_000)]
    backlog: i64,
    /// Folder for the results.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// As the programs have it: the load is on their cores.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut report = Report::default();
    if args.wants("limits") {
        limits::measure(&mut report, args.seconds).await.context("limits")?;
    }
    if args.wants("json") {
        unary::json(&mut report, args.seconds).await.context("json")?;
    }
    if args.wants("grpc") {
        unary::grpc(&mut report, args.seconds).await.context("grpc")?;
    }
    if args.wants("stream") {
        stream::measure(&mut report, args.seconds).await.context("stream")?;
    }
    if args.wants("freshness") {
        freshness::measure(&mut report, args.seconds).await.context("freshness")?;
    }
    if args.wants("status") {
        // Longer than the others: what lags shows only after a while.
        status::measure(&mut report, args.seconds * 3).await.context("status")?;
    }
    if args.wants("drain") {
        drain::measure(&mut report, args.backlog).await.context("drain")?;
    }
    print!("{}", report.table());
    let path = report.write(&args.results)?;
    println!("written to {}", path.display());
    Ok(())
}
