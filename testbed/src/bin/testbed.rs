//! Starts Postgres, Kafka and Redis for a developer's shell, or for the duration of one command.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ping_testbed::{Compiler, Parts, detached, pid::Pid};
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind},
    time::timeout,
};

/// Exit code for a failure of the testbed itself, not of the command.
const FAILED: u8 = 125;
const NOT_FOUND: u8 = 127;
/// How long the command may take to exit after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Start Postgres, Kafka and Redis on free ports of 127.0.0.1.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start them in the background and print `export PING_…=…` lines: eval "$(testbed up)"
    Up {
        #[command(flatten)]
        state: StateFolder,
        #[command(flatten)]
        kafka: KafkaMode,
    },
    /// Stop them and delete their data
    Down {
        #[command(flatten)]
        state: StateFolder,
    },
    /// Start them, run a command, stop them, and exit with the command's code (125: a part failed; 127: no such command)
    Run {
        #[command(flatten)]
        kafka: KafkaMode,
        /// Command to run, with its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

#[derive(Args)]
struct StateFolder {
    /// Folder where `up` records what it started [default: pingpipeline/parts in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Args)]
struct KafkaMode {
    /// Run Kafka as in production, for benchmarks: starts more slowly, then runs faster
    #[arg(long)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run_action(Cli::parse().action).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run_action(action: Action) -> anyhow::Result<u8> {
    let mut signals = Signals::listen()?;
    match action {
        Action::Up { state, kafka } => {
            let folder = state.folder()?;
            tokio::select! {
                env = detached::up(&folder, kafka.compiler()) => {
                    for (name, value) in env? {
                        println!("export {name}={value}");
                    }
                    eprintln!("testbed: Postgres, Kafka and Redis are running; stop them with `testbed down`");
                    Ok(0)
                }
                signal = signals.next() => Ok(code_of(signal)),
            }
        }
        Action::Down { state } => {
            let stopped = detached::down(&state.folder()?)?;
            eprintln!("testbed: {}", if stopped { "stopped" } else { "nothing to stop" });
            Ok(0)
        }
        Action::Run { kafka, command } => {
            let parts = tokio::select! {
                parts = Parts::start_with(kafka.compiler()) => parts?,
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
        signal = signals.next() => stop(&mut child, signal).await?,
    };
    Ok(exit_code(status))
}

/// Stops the command. A terminal has already sent Ctrl-C to it, so it first gets some time to exit; then it gets a SIGTERM.
async fn stop(child: &mut Child, signal: Signal) -> anyhow::Result<ExitStatus> {
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

/// 128 + signal for a killed command, as in a shell.
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

impl StateFolder {
    fn folder(self) -> anyhow::Result<PathBuf> {
        self.dir.map_or_else(detached::default_folder, Ok)
    }
}

impl KafkaMode {
    fn compiler(&self) -> Compiler {
        if self.bench { Compiler::Full } else { Compiler::Quick }
    }
}
