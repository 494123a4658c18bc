//! `pingd`: the data plane in one program. It chooses the adapters and connects them to the services.

mod config;
mod dead_letters;
mod delay;
mod man;
mod migrate;
mod processor;
mod server;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use ping_services::program;

use crate::config::{Pingd, Program};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let Pingd { program, process } = Pingd::parse();
    program::run(process, async |process, shutdown| match program {
        Program::Dev(args) => ping_embedded::run(args, process, shutdown).await,
        Program::Server(args) => server::run(args, process, shutdown).await,
        Program::Processor(args) => processor::run(args, process, shutdown).await,
        Program::Migrate(args) => migrate::run(args).await,
        Program::DeadLetters(args) => dead_letters::run(args).await,
        Program::Delay(args) => delay::run(args, shutdown).await,
        Program::Man(args) => man::write(&args, Pingd::command()),
    })
}
