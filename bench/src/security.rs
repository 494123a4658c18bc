//! Measures what TLS and credentials cost: the same load on a server with both and on one without, in turns.

use std::fs;

use anyhow::Context;
use ping_testbed::certificates::Authority;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    machine,
    pipeline::{Pipeline, json_of, pingctl},
    report::Report,
    unary::wrk,
};

/// Runs of each server and load; the median counts.
const ROUNDS: usize = 3;
/// The caller's token, as long as one of `openssl rand -hex 32`.
const TOKEN: &str = "165c7d153f86e5b9d583c590f8547ea45a470edd880a3b6bf299a0804e7b7bf7";
/// Its SHA-256.
const TOKEN_SHA256: &str = "c9480bf080e61d788193dacf30bfa229211f55204f1d2115c0273479170bc00a";

/// A load that both servers get.
#[derive(Clone, Copy)]
enum Load {
    Json,
    Grpc,
    Stream,
}

impl Load {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Json, "JSON unary, 64 connections"),
        (Self::Grpc, "gRPC unary, 64 in flight"),
        (Self::Stream, "stream, batches of 100"),
    ];

    fn command(self, target: &Target, seconds: u64) -> anyhow::Result<Command> {
        let flags = match self {
            Self::Json => {
                let mut command = wrk(&target.address, 64, seconds);
                if target.credentials.is_some() {
                    command.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
                }
                return Ok(command);
            }
            Self::Grpc => "--mode unary --connections 4 --in-flight 16 --no-ids",
            Self::Stream => "--mode stream --connections 2 --in-flight 8 --batch 100",
        };
        let mut command = pingctl(&target.address)?;
        if let Some(folder) = &target.credentials {
            command.arg("--ca").arg(folder.path().join("ca.crt")).arg("--token-file").arg(folder.path().join("token"));
        }
        command.args(["load", "--sources", "0", "--rate", "max", &format!("--duration={seconds}s")]);
        command.args(flags.split(' '));
        Ok(command)
    }
}

/// A server under load.
struct Target {
    address: String,
    pid: u32,
    /// The folder with the CA and the token; none for the server without.
    credentials: Option<TempDir>,
}

pub(crate) async fn measure(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    let folder = credentials().context("credentials")?;
    let file = |name: &str| format!("{}/{name}", folder.path().display());
    let (certificate, key, policy) = (file("tls.crt"), file("tls.key"), file("policy.yaml"));
    let args = ["--tls-cert", &certificate, "--tls-key", &key, "--access-policy", &policy];
    let (listen, server) = pipeline.start_server(&args, Some(&fs::read(file("ca.crt"))?)).await?;
    let plain = Target { address: pipeline.address.clone(), pid: pipeline.server.pid(), credentials: None };
    let secure = Target { address: format!("https://{listen}"), pid: server.pid(), credentials: Some(folder) };
    for (load, name) in Load::ALL {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (target, costs) in [&plain, &secure].into_iter().zip(&mut costs) {
                costs.push(cost(&pipeline, target, load, seconds).await.context(name)?);
            }
        }
        let [plain, secure] = costs.map(median);
        report.add(format!("{name}: server CPU per 100,000"), plain, "s");
        report.compare(format!("{name}: with TLS and token"), secure, "s", "without", plain);
    }
    Ok(())
}

/// The server's CPU seconds per 100,000 events of one run.
async fn cost(pipeline: &Pipeline, target: &Target, load: Load, seconds: u64) -> anyhow::Result<f64> {
    let (stored, cpu) = (pipeline.stored().await?, machine::cpu_seconds(target.pid));
    json_of(&mut load.command(target, seconds)?).await?;
    let cpu = machine::cpu_seconds(target.pid) - cpu;
    let events = pipeline.stored().await? - stored;
    anyhow::ensure!(events > 0, "no event was acknowledged");
    pipeline.settle().await?;
    Ok(cpu / events as f64 * 100_000.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A CA, a certificate, a token and the policy that accepts it.
fn credentials() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("ping-bench")?;
    authority.server(&["127.0.0.1"])?.write(folder.path())?;
    fs::write(folder.path().join("ca.crt"), authority.certificate())?;
    fs::write(folder.path().join("token"), TOKEN)?;
    let policy = format!(
        "tokens: [{{name: bench, sha256: {TOKEN_SHA256}}}]\nrules: [{{callers: [\"token:bench\"], permissions: [ingest, read]}}]\n"
    );
    fs::write(folder.path().join("policy.yaml"), policy)?;
    Ok(folder)
}
