//! `pingd`: the data plane in one binary. Chooses adapters and wires them; nothing else.

mod dev;
mod halves;
mod migrate;
mod processor;
mod server;

use std::process::ExitCode;

use clap::Parser;
use ping_dataplane::config::{Pingd, Program};
use ping_runtime::{shutdown, telemetry};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(Pingd::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pingd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Pingd { program, process }: Pingd) -> anyhow::Result<()> {
    telemetry::init(&process.log, process.log_format)?;
    // One worker is a runtime without hand-overs between threads: on two shared cores a fifth faster (bench/README.md).
    let runtime = match process.worker_threads() {
        1 => Builder::new_current_thread().enable_all().build()?,
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(async {
        let shutdown = shutdown::on_signal()?;
        match program {
            Program::Dev(args) => dev::run(args, process, shutdown).await,
            Program::Server(args) => server::run(args, process, shutdown).await,
            Program::Processor(args) => processor::run(args, process, shutdown).await,
            Program::Migrate(args) => migrate::run(args).await,
        }
    })
}
