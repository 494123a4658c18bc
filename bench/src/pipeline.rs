//! The parts and the programs under load.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use ping_api::crd::PingPipelineSpec;
use ping_proto::{PingCountRequest, ping_service_client::PingServiceClient};
use ping_testbed::{Compiler, Kafka, Parts, Postgres, Redis, ports::free_port};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use tonic::transport::Channel;

use crate::{machine, manifest, report::Report, shares::Share};

/// A program of this workspace, from the same build as the bench.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is not built; run `make bench`", path.display());
    Ok(path)
}

/// One running `pingd`.
pub(crate) struct Pingd {
    child: Child,
    admin: String,
    http: reqwest::Client,
}

impl Pingd {
    async fn start(parts: &Parts, args: &[&str]) -> anyhow::Result<Self> {
        let admin = format!("127.0.0.1:{}", free_port()?);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
        let child = Command::new(program("pingd")?)
            .args(args)
            .args(["--admin-listen", &admin, "--log", "warn"])
            .envs(parts.env())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, admin, http })
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Not by another process: starting one keeps a core for ten milliseconds, which a reader under measurement would wait for.
    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.http.get(format!("http://{}{path}", self.admin)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        for _ in 0..300 {
            if self.get("/readyz").await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("pingd did not get ready")
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("no metric {name}"))?.parse().context("metric")
    }
}

/// Everything, on this machine.
pub(crate) struct Pipeline {
    manifest: PingPipelineSpec,
    pub(crate) parts: Parts,
    pub(crate) server: Pingd,
    /// One that only answers, where there is one.
    pub(crate) query: Option<Pingd>,
    pub(crate) processor: Option<Pingd>,
    pub(crate) address: String,
}

/// Processor seconds so far.
pub(crate) struct Cost {
    at: Vec<(&'static str, f64)>,
}

impl Pipeline {
    /// Starts parts, server and, if wanted, processor.
    pub(crate) async fn start(with_processor: bool) -> anyhow::Result<Self> {
        let manifest = manifest::two_cores()?;
        let parameters = manifest::postgres_parameters(&manifest);
        let (kafka, postgres, redis) = tokio::try_join!(
            Kafka::start_with(Compiler::Full),
            Postgres::start_with(&parameters),
            Redis::start_in_memory()
        )?;
        let parts = Parts { postgres, kafka, redis };
        let migrate = Command::new(program("pingd")?)
            .args(["migrate", "--create-topics", "--replication", "1"])
            .envs(parts.env())
            .output()
            .await?;
        ensure!(migrate.status.success(), "pingd migrate: {}", String::from_utf8_lossy(&migrate.stderr));
        let listen = format!("127.0.0.1:{}", free_port()?);
        let server = Pingd::start(&parts, &["server", "--listen", &listen]).await?;
        server.ready().await?;
        let address = format!("http://{listen}");
        let mut pipeline = Self { manifest, parts, server, query: None, processor: None, address };
        if with_processor {
            pipeline.start_processor().await?;
        }
        Ok(pipeline)
    }

    pub(crate) async fn start_processor(&mut self) -> anyhow::Result<()> {
        let processor = Pingd::start(&self.parts, &["processor"]).await?;
        processor.ready().await?;
        self.processor = Some(processor);
        Ok(())
    }

    /// A server that only answers, so that the other one only takes events as long as nobody asks it; its address.
    pub(crate) async fn start_query(&mut self) -> anyhow::Result<String> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let query = Pingd::start(&self.parts, &["server", "--role", "query", "--listen", &listen]).await?;
        query.ready().await?;
        self.query = Some(query);
        Ok(format!("http://{listen}"))
    }

    pub(crate) async fn client(&self) -> anyhow::Result<PingServiceClient<Channel>> {
        Ok(PingServiceClient::connect(self.address.clone()).await?)
    }

    /// A broker just started compiles itself for its first half minute of load; what is measured is one that runs for days.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        let load = ["--mode", "unary", "--rate", "max", "--connections", "4", "--in-flight", "16", "--duration", "30s"];
        json_of(pingctl_load(self)?.args(load)).await?;
        self.settle().await?;
        Ok(())
    }

    /// The strong count, which is the number of rows acknowledged.
    pub(crate) async fn stored(&self) -> anyhow::Result<i64> {
        let request = PingCountRequest { strong: true, ..PingCountRequest::default() };
        Ok(self.client().await?.ping_count(request).await?.into_inner().ping_count)
    }

    /// Waits until the cache has counted everything that is stored; how long that took.
    pub(crate) async fn settle(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let stored = self.stored().await?;
        let mut client = self.client().await?;
        loop {
            let answer = client.ping_count(PingCountRequest::default()).await?.into_inner();
            ensure!(answer.ping_count <= stored, "the cache counts {} of {stored}", answer.ping_count);
            if answer.ping_count == stored && answer.store == ping_proto::Store::Cache as i32 {
                return Ok(started.elapsed());
            }
            ensure!(started.elapsed() < Duration::from_secs(60), "{} of {stored} after a minute", answer.ping_count);
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Everything that runs here, by name.
    fn programs(&self) -> Vec<(&'static str, u32)> {
        let pid = |pid: Option<ping_testbed::pid::Pid>| pid.map_or(0, |pid| pid.number().unsigned_abs());
        let mut programs = vec![
            ("server", self.server.pid()),
            ("Postgres", pid(self.parts.postgres.pid())),
            ("Kafka", pid(self.parts.kafka.pid())),
            ("cache", pid(self.parts.redis.pid())),
        ];
        programs.extend(self.query.as_ref().map(|query| ("server that answers", query.pid())));
        programs.extend(self.processor.as_ref().map(|processor| ("processor", processor.pid())));
        programs
    }

    /// Gives every program the share of the cores that it requests, as long as the answer is kept; nothing where that is not
    /// ours to do.
    pub(crate) fn share(&self) -> anyhow::Result<Vec<Share>> {
        let share = |(name, pid): (&'static str, u32)| {
            Share::of(&name.replace(' ', "-"), pid, manifest::millicores(&self.manifest, name)?)
        };
        let shares = self.programs().into_iter().map(share);
        Ok(shares.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Processor seconds of everything, now.
    pub(crate) fn cost(&self) -> Cost {
        Cost { at: self.programs().into_iter().map(|(name, pid)| (name, machine::cpu_seconds(pid))).collect() }
    }

    /// Notes what `events` events cost since `before`.
    pub(crate) fn note_cost(&self, report: &mut Report, name: &str, before: &Cost, events: f64) {
        for ((part, from), (_, to)) in before.at.iter().zip(self.cost().at) {
            report.add(format!("{name}: {part} CPU per 100,000"), (to - from) / events * 100_000.0, "s");
        }
    }
}

/// Runs a command to its end and reads the JSON on its last line.
pub(crate) async fn json_of(command: &mut Command) -> anyhow::Result<serde_json::Value> {
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let last = text.lines().rev().find(|line| line.starts_with('{')).context("no JSON in the output")?;
    Ok(serde_json::from_str(last)?)
}

/// `pingctl load` against the pipeline, answering JSON.
pub(crate) fn pingctl_load(pipeline: &Pipeline) -> anyhow::Result<Command> {
    let mut command = Command::new(program("pingctl")?);
    command.args(["--addr", &pipeline.address, "-o", "json", "load"]);
    Ok(command)
}

/// Two streams flat out, eight batches in flight on each; what `pingctl load` reports.
pub(crate) async fn stream_load(pipeline: &Pipeline, batch: u32, seconds: u64) -> anyhow::Result<serde_json::Value> {
    let load = "--sources 0 --mode stream --rate max --connections 2 --in-flight 8".split(' ');
    let size = [format!("--batch={batch}"), format!("--duration={seconds}s")];
    json_of(pingctl_load(pipeline)?.args(load).args(size)).await
}
