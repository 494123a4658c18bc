//! Benchmarks, reported relative to limits that are measured in the same run. Every performance claim of the project comes from
//! here.

mod cpu_shares;
mod drain;
mod freshness;
mod keys;
mod limits;
mod machine;
mod manifest;
mod pipeline;
mod reader;
mod reads;
mod report;
mod security;
mod sources;
mod status;
mod storage;
mod stream;
mod unary;
mod views;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use report::Report;

/// Benchmark the data plane, its dependencies and the load generator on this machine. Takes a few minutes.
#[derive(Debug, Parser)]
struct Args {
    /// Benchmarks to run [default: all but sources].
    #[arg(value_parser = BENCHMARKS)]
    benchmarks: Vec<String>,
    /// Duration of each load in seconds [default: 8, of sources 180].
    #[arg(long)]
    seconds: Option<u64>,
    /// Number of sources of the benchmark sources [default: 10000000, or as many as the memory allows].
    #[arg(long)]
    sources: Option<u64>,
    /// Number of records in the backlog to drain.
    #[arg(long, default_value_t = 5_000_000)]
    backlog: i64,
    /// Folder for the results.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

/// The benchmarks, in the order in which they run.
const BENCHMARKS: [&str; 9] =
    ["limits", "json", "grpc", "stream", "security", "freshness", "status", "drain", "sources"];
/// Seconds of load.
const SECONDS: u64 = 8;
/// Seconds of load of the benchmark `sources`: a growing lag takes time to show.
const SOURCES_SECONDS: u64 = 180;

impl Args {
    /// The benchmark `sources` takes half an hour, so it runs only if it is selected by name.
    fn selects(&self, name: &str) -> bool {
        (self.benchmarks.is_empty() && name != "sources") || self.benchmarks.iter().any(|selected| selected == name)
    }
}

/// The same allocator as in the measured programs, because the load generator shares their cores.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut report = Report::default();
    let seconds = args.seconds.unwrap_or(SECONDS);
    if args.selects("limits") {
        limits::measure(&mut report, seconds).await.context("limits")?;
    }
    if args.selects("json") {
        unary::json(&mut report, seconds).await.context("json")?;
    }
    if args.selects("grpc") {
        unary::grpc(&mut report, seconds).await.context("grpc")?;
    }
    if args.selects("stream") {
        stream::measure(&mut report, seconds).await.context("stream")?;
    }
    if args.selects("security") {
        security::measure(&mut report, seconds).await.context("security")?;
    }
    if args.selects("freshness") {
        freshness::measure(&mut report, seconds).await.context("freshness")?;
    }
    if args.selects("status") {
        // Runs longer than the others because a growing lag takes time to show.
        status::measure(&mut report, seconds * 3).await.context("status")?;
    }
    if args.selects("drain") {
        drain::measure(&mut report, args.backlog).await.context("drain")?;
    }
    if args.selects("sources") {
        let seconds = args.seconds.unwrap_or(SOURCES_SECONDS);
        sources::measure(&mut report, args.sources, seconds).await.context("sources")?;
    }
    print!("{}", report.table());
    let path = report.write(&args.results)?;
    println!("results written to {}", path.display());
    Ok(())
}
