//! `pingd-dev`: `pingd dev` as a program of its own. It has no driver for Postgres, Kafka or Redis, and no allocator of its own, so it builds faster.

use std::process::ExitCode;

use clap::Parser;
use ping_embedded::DevArgs;
use ping_services::{args::ProcessArgs, program};

/// Runs server and processor in one process, without infrastructure: for trying it out and for development
#[derive(Debug, Parser)]
#[command(name = "pingd-dev", version, max_term_width = 110)]
struct PingdDev {
    #[command(flatten)]
    dev: DevArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> ExitCode {
    let PingdDev { dev, process } = PingdDev::parse();
    program::run(process, |process, shutdown| ping_embedded::run(dev, process, shutdown))
}
