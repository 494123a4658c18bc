//! The benchmarked programs and their dependencies.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use ping_api::crd::PingPipelineSpec;
use ping_client::Client;
use ping_proto::{PingCountRequest, Store};
use ping_testbed::{Compiler, Kafka, Parts, Postgres, Redis, ports::free_port};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{cpu_shares::CpuShare, machine, manifest, report::Report};

/// A program of this workspace, from the same build as the benchmark.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} does not exist; run `make bench`", path.display());
    Ok(path)
}

/// A running `pingd`.
pub(crate) struct Pingd {
    child: Child,
    admin: String,
    http: reqwest::Client,
}

impl Pingd {
    /// Starts one. `ca` signed its certificate, as PEM, if it uses TLS.
    async fn start(parts: &Parts, args: &[&str], ca: Option<&[u8]>) -> anyhow::Result<Self> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let mut http = reqwest::Client::builder().timeout(Duration::from_secs(2));
        if let Some(ca) = ca {
            http = http.add_root_certificate(reqwest::Certificate::from_pem(ca)?);
        }
        let http = http.build()?;
        let admin = format!("{}://{listen}", if ca.is_some() { "https" } else { "http" });
        let child = Command::new(program("pingd")?)
            .args(args)
            .args(["--admin-listen", &listen, "--log", "warn"])
            .envs(parts.env())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, admin, http })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Requests a path of the admin port. In process, because starting another process occupies a core for ten milliseconds, which
    /// would delay a measured reader.
    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let response = self.http.get(format!("{}{path}", self.admin)).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        for _ in 0..300 {
            if self.get("/readyz").await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("pingd is not ready after 15 s")
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .with_context(|| format!("there is no metric {name}"))?
            .parse()
            .with_context(|| format!("the value of {name}"))
    }
}

/// A pipeline on this machine.
pub(crate) struct Pipeline {
    manifest: PingPipelineSpec,
    pub(crate) parts: Parts,
    pub(crate) server: Pingd,
    /// A server that only answers queries, if started.
    pub(crate) query: Option<Pingd>,
    pub(crate) processor: Option<Pingd>,
    pub(crate) address: String,
}

/// CPU seconds used so far, by program.
pub(crate) struct CpuUsage {
    seconds: Vec<(&'static str, f64)>,
}

impl Pipeline {
    /// Starts the parts, a server and optionally a processor.
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
        let (listen, server) = start_server(&parts, &[], None).await?;
        let address = format!("http://{listen}");
        let mut pipeline = Self { manifest, parts, server, query: None, processor: None, address };
        if with_processor {
            pipeline.start_processor().await?;
        }
        Ok(pipeline)
    }

    pub(crate) async fn start_processor(&mut self) -> anyhow::Result<()> {
        let processor = Pingd::start(&self.parts, &["processor"], None).await?;
        processor.wait_until_ready().await?;
        self.processor = Some(processor);
        Ok(())
    }

    /// Kills the processor with SIGKILL.
    pub(crate) async fn kill_processor(&mut self) -> anyhow::Result<()> {
        let mut processor = self.processor.take().context("no processor")?;
        Ok(processor.child.kill().await?)
    }

    /// Starts a server that only answers queries, so that the first one only ingests; returns its address.
    pub(crate) async fn start_query(&mut self) -> anyhow::Result<String> {
        let (listen, query) = self.start_server(&["--role", "query"], None).await?;
        self.query = Some(query);
        Ok(format!("http://{listen}"))
    }

    /// Starts another server; returns where it listens. `ca` signed its certificate, as PEM, if it uses TLS.
    pub(crate) async fn start_server(&self, args: &[&str], ca: Option<&[u8]>) -> anyhow::Result<(String, Pingd)> {
        start_server(&self.parts, args, ca).await
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address).await.map_err(anyhow::Error::from_boxed)
    }

    /// Applies load until Kafka's JVM has compiled its code, which takes half a minute. Production brokers run for days.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        let load = ["--mode", "unary", "--rate", "max", "--connections", "4", "--in-flight", "16", "--duration", "30s"];
        json_of(pingctl_load(self)?.args(load)).await?;
        self.settle().await?;
        Ok(())
    }

    /// The strongly consistent count: the number of acknowledged events.
    pub(crate) async fn stored(&self) -> anyhow::Result<i64> {
        let request = PingCountRequest { strong: true, ..PingCountRequest::default() };
        Ok(self.client().await?.ping_count(request).await?.into_inner().ping_count)
    }

    /// Waits until the cache has counted every stored event; how long that took.
    pub(crate) async fn settle(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut stored = self.stored().await?;
        let client = self.client().await?;
        loop {
            let response = client.ping_count(PingCountRequest::default()).await?.into_inner();
            if response.ping_count > stored {
                // Calls that the load left in flight.
                stored = self.stored().await?;
                ensure!(
                    response.ping_count <= stored,
                    "the cache counts {} events, but only {stored} are stored",
                    response.ping_count
                );
            }
            if response.ping_count == stored && response.store.as_known() == Some(Store::Cache) {
                return Ok(started.elapsed());
            }
            ensure!(
                started.elapsed() < Duration::from_secs(60),
                "the cache counts only {} of {stored} events after a minute",
                response.ping_count
            );
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// All running programs: name and pid.
    fn programs(&self) -> Vec<(&'static str, u32)> {
        let pid = |pid: Option<ping_testbed::pid::Pid>| pid.map_or(0, |pid| pid.number().unsigned_abs());
        let mut programs = vec![
            ("server", self.server.pid()),
            ("Postgres", pid(self.parts.postgres.pid())),
            ("Kafka", pid(self.parts.kafka.pid())),
            ("cache", pid(self.parts.redis.pid())),
        ];
        programs.extend(self.query.as_ref().map(|query| ("query server", query.pid())));
        programs.extend(self.processor.as_ref().map(|processor| ("processor", processor.pid())));
        programs
    }

    /// Gives every program the CPU share that it requests until the result is dropped. Empty if the machine does not permit that.
    pub(crate) fn apply_cpu_shares(&self) -> anyhow::Result<Vec<CpuShare>> {
        let share = |(name, pid): (&'static str, u32)| {
            CpuShare::apply(&name.replace(' ', "-"), pid, manifest::millicores(&self.manifest, name)?)
        };
        let shares = self.programs().into_iter().map(share);
        Ok(shares.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The CPU seconds that every program has used until now.
    pub(crate) fn cpu_usage(&self) -> CpuUsage {
        CpuUsage { seconds: self.programs().into_iter().map(|(name, pid)| (name, machine::cpu_seconds(pid))).collect() }
    }

    /// Reports the CPU seconds per 100,000 events since `before`.
    pub(crate) fn report_cost(&self, report: &mut Report, name: &str, before: &CpuUsage, events: f64) {
        for ((part, from), (_, to)) in before.seconds.iter().zip(self.cpu_usage().seconds) {
            report.add(format!("{name}: {part} CPU per 100,000"), (to - from) / events * 100_000.0, "s");
        }
    }
}

async fn start_server(parts: &Parts, args: &[&str], ca: Option<&[u8]>) -> anyhow::Result<(String, Pingd)> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let server = Pingd::start(parts, &[&["server", "--listen", &listen], args].concat(), ca).await?;
    server.wait_until_ready().await?;
    Ok((listen, server))
}

/// Runs a command and parses the last line of its output that is a JSON object.
pub(crate) async fn json_of(command: &mut Command) -> anyhow::Result<serde_json::Value> {
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let last = text.lines().rev().find(|line| line.starts_with('{')).context("the output contains no JSON")?;
    Ok(serde_json::from_str(last)?)
}

/// `pingctl` for a server, with JSON output.
pub(crate) fn pingctl(address: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(program("pingctl")?);
    command.args(["--addr", address, "-o", "json"]);
    Ok(command)
}

/// `pingctl load` for this pipeline with JSON output.
pub(crate) fn pingctl_load(pipeline: &Pipeline) -> anyhow::Result<Command> {
    let mut command = pingctl(&pipeline.address)?;
    command.arg("load");
    Ok(command)
}

/// Runs two streams at full speed with eight batches in flight on each; returns the report of `pingctl load`.
pub(crate) async fn stream_load(pipeline: &Pipeline, batch: u32, seconds: u64) -> anyhow::Result<serde_json::Value> {
    let load = "--sources 0 --mode stream --rate max --connections 2 --in-flight 8".split(' ');
    let size = [format!("--batch={batch}"), format!("--duration={seconds}s")];
    json_of(pingctl_load(pipeline)?.args(load).args(size)).await
}
