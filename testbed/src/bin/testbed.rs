//! Starts the real parts for a developer's shell, or around one command.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ping_testbed::{Compiler, Parts, left, pid::Pid};
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind},
    time::timeout,
};

/// The testbed's own failure, as against the command's.
const FAILED: u8 = 125;
const NOT_FOUND: u8 = 127;
/// How long the command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Starts Postgres, Kafka and Redis on free ports of 127.0.0.1.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the parts, leave them running and print `export PING_…=…` lines: eval "$(testbed up)"
    Up {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        speed: Speed,
    },
    /// Stop what `up` started and remove its data
    Down {
        #[command(flatten)]
        place: Place,
    },
    /// Run a command with the parts around it, and exit as it does (125: the parts failed; 127: no such command)
    Run {
        #[command(flatten)]
        speed: Speed,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

#[derive(Args)]
struct Place {
    /// Where `up` notes what it started [default: pingpipeline/parts in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Args)]
struct Speed {
    /// Start Kafka as in production, for measurements: slower to start, faster afterwards
    #[arg(long)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match perform(Cli::parse().verb).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn perform(verb: Verb) -> anyhow::Result<u8> {
    let mut signals = Signals::listen()?;
    match verb {
        Verb::Up { place, speed } => {
            let folder = place.folder()?;
            tokio::select! {
                env = left::up(&folder, speed.compiler()) => {
                    for (name, value) in env? {
                        println!("export {name}={value}");
                    }
                    eprintln!("testbed: Postgres, Kafka and Redis are up; `testbed down` stops them");
                    Ok(0)
                }
                signal = signals.next() => Ok(code_of(signal)),
            }
        }
        Verb::Down { place } => {
            let stopped = left::down(&place.folder()?)?;
            eprintln!("testbed: {}", if stopped { "stopped" } else { "nothing is up" });
            Ok(0)
        }
        Verb::Run { speed, command } => {
            let parts = tokio::select! {
                parts = Parts::start_with(speed.compiler()) => parts?,
                signal = signals.next() => return Ok(code_of(signal)),
            };
            run(&parts, &command, &mut signals).await
        }
    }
}

async fn run(parts: &Parts, command: &[OsString], signals: &mut Signals) -> anyhow::Result<u8> {
    let (program, args) = command.split_first().context("no command")?;
    let mut child = match Command::new(program).args(args).envs(parts.env()).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("testbed: cannot run {}: {error}", program.display());
            return Ok(NOT_FOUND);
        }
    };
    let status = tokio::select! {
        status = child.wait() => status?,
        signal = signals.next() => end(&mut child, signal).await?,
    };
    Ok(exit_code(status))
}

/// A terminal sends Ctrl-C to the command too, so that gets its time first; anything else is passed on.
async fn end(child: &mut Child, signal: Signal) -> anyhow::Result<ExitStatus> {
    let pid = child.id().and_then(Pid::of);
    if signal == Signal::INT
        && let Ok(status) = timeout(GRACE / 2, child.wait()).await
    {
        return Ok(status?);
    }
    if let Some(pid) = pid {
        pid.signal(Signal::TERM);
    }
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return Ok(status?);
    }
    child.kill().await?;
    Ok(child.wait().await?)
}

/// As a shell has it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

fn code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(FAILED)
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }
}

impl Place {
    fn folder(self) -> anyhow::Result<PathBuf> {
        self.dir.map_or_else(left::default_folder, Ok)
    }
}

impl Speed {
    fn compiler(&self) -> Compiler {
        if self.bench { Compiler::Full } else { Compiler::Quick }
    }
}
