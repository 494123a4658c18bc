//! A Prometheus server that scrapes every second, and `promtool`.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    folder::Folder,
    ports::free_port,
    process::{Lifetime, Process, ProcessSpec},
    tools,
};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What Prometheus scrapes.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The label `job`.
    pub job: &'a str,
    /// URL of the metrics' port, such as `http://127.0.0.1:8081`.
    pub url: &'a str,
    /// PEM file of the CA that signed the port's certificate, for https.
    pub ca: Option<&'a Path>,
}

/// A running Prometheus. Stops when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    url: String,
    /// Removed after the process has stopped.
    _folder: Folder,
}

impl Prometheus {
    /// Starts a Prometheus without data that evaluates `rules`, a rule file, every second.
    ///
    /// # Errors
    /// If Prometheus is not installed, or does not accept its configuration.
    pub async fn start(targets: &[Target<'_>], rules: &str) -> anyhow::Result<Self> {
        let folder = Folder::create("prometheus")?;
        fs::write(folder.path().join("rules.yaml"), rules)?;
        fs::write(folder.path().join("prometheus.yaml"), configuration(targets)?)?;
        let port = free_port()?;
        let data = folder.path().join("data");
        let process = Process::new(ProcessSpec {
            name: "Prometheus",
            program: tools::on_path("prometheus")?,
            args: vec![
                "--config.file=prometheus.yaml".into(),
                format!("--web.listen-address=127.0.0.1:{port}").into(),
                format!("--storage.tsdb.path={}", data.display()).into(),
            ],
            env: Vec::new(),
            user: None,
            folder: folder.path().to_owned(),
            lifetime: Lifetime::Owned,
            stop_signal: Signal::KILL,
        });
        let url = format!("http://127.0.0.1:{port}");
        let mut prometheus = Self { process, url, _folder: folder };
        prometheus.process.start(START_TIMEOUT, async |_| is_ready(port).await.unwrap_or(false)).await?;
        Ok(prometheus)
    }

    /// Its address: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The samples that `expression` selects now, one line each; none if there are none.
    ///
    /// # Errors
    /// If the expression is invalid.
    pub fn query(&self, expression: &str) -> anyhow::Result<Vec<String>> {
        let output = promtool(&["query", "instant", &self.url, expression])?;
        Ok(output.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
    }
}

/// Runs `promtool`; returns its output.
///
/// # Errors
/// If it is not installed, or says that something is wrong.
pub fn promtool(args: &[&str]) -> anyhow::Result<String> {
    let program: PathBuf = tools::on_path("promtool")?;
    let output = Command::new(program).args(args).output().context("cannot run promtool")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "promtool {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn configuration(targets: &[Target<'_>]) -> anyhow::Result<String> {
    let mut text = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n\
                    rule_files: [rules.yaml]\nscrape_configs:\n"
        .to_owned();
    for Target { job, url, ca } in targets {
        let (scheme, address) = url.split_once("://").with_context(|| format!("{url} has no scheme"))?;
        writeln!(text, "- job_name: {job:?}\n  honor_labels: true\n  scheme: {scheme}")?;
        if let Some(ca) = ca {
            writeln!(text, "  tls_config: {{ca_file: {:?}, server_name: localhost}}", ca.display().to_string())?;
        }
        writeln!(text, "  static_configs: [{{targets: [{address:?}]}}]")?;
    }
    Ok(text)
}

async fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    connection.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.0 200"))
}
