//! What every program does around its work: logging, the async runtime, signals, the exit code.

use std::process::ExitCode;

use ping_runtime::{shutdown, telemetry};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::args::ProcessArgs;

/// Runs `program` to its end and prints its error. Its `CancellationToken` is cancelled on SIGTERM and SIGINT.
pub fn run<F: Future<Output = anyhow::Result<()>>>(
    process: ProcessArgs,
    program: impl FnOnce(ProcessArgs, CancellationToken) -> F,
) -> ExitCode {
    match try_run(process, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pingd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run<F: Future<Output = anyhow::Result<()>>>(
    process: ProcessArgs,
    program: impl FnOnce(ProcessArgs, CancellationToken) -> F,
) -> anyhow::Result<()> {
    telemetry::init(&process.log, process.log_format)?;
    // On two shared cores a single-threaded runtime is 20 % faster: tasks never move between threads (docs/benchmarks).
    let runtime = match process.worker_threads() {
        1 => Builder::new_current_thread().enable_all().build()?,
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(async { program(process, shutdown::on_signal()?).await })
}
