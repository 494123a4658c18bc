//! A Kafka with one node that is both broker and controller.

mod files;
mod wire;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::{
    clock::Clock,
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process, ProcessSpec},
    volume::Volume,
};

const START_TIMEOUT: Duration = Duration::from_secs(90);
const TOPIC_TIMEOUT: Duration = Duration::from_secs(15);

/// How far the broker's JVM optimises its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compiler {
    /// Starts in half the time and restarts after a kill in a third, but never reaches full speed. For tests.
    #[default]
    Quick,
    /// As in production. For benchmarks.
    Full,
}

/// How a Kafka is started.
#[derive(Default)]
struct Launch<'a> {
    compiler: Compiler,
    /// Ports of links, each with a listener of its own.
    links: &'a [u16],
    /// The size of a volume of its own, in MiB.
    volume: Option<u32>,
    clock: Option<&'a Clock>,
}

/// A running Kafka. It does not create topics automatically. Stops when dropped.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    folder: Folder,
    port: u16,
    /// Of the listeners behind links.
    linked_ports: Vec<u16>,
    volume: Option<Volume>,
}

impl Kafka {
    /// Starts an empty Kafka on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Compiler::Quick).await
    }

    /// Starts an empty Kafka on a free port with a choice of compiler.
    pub async fn start_with(compiler: Compiler) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("kafka")?, Launch { compiler, ..Launch::default() }).await
    }

    /// Starts an empty Kafka whose data is on a volume of this many MiB. Needs root.
    pub async fn start_on_volume(mebibytes: u32) -> anyhow::Result<Self> {
        let launch = Launch { volume: Some(mebibytes), ..Launch::default() };
        Self::launch(Lifetime::Owned, Folder::create("kafka")?, launch).await
    }

    /// Starts an empty Kafka that sees the time of `clock`.
    pub async fn start_with_clock(clock: &Clock) -> anyhow::Result<Self> {
        let launch = Launch { clock: Some(clock), ..Launch::default() };
        Self::launch(Lifetime::Owned, Folder::create("kafka")?, launch).await
    }

    /// Starts an empty Kafka that has a listener for each of the ports `links`: clients that reach it through such a port of this machine
    /// are told to come back there. Where they must be connected to is in [`Self::linked_ports`], in the same order.
    pub async fn start_behind(links: &[u16]) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("kafka")?, Launch { links, ..Launch::default() }).await
    }

    pub(crate) async fn start_detached(compiler: Compiler) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Detached, Folder::create_detached("kafka")?, Launch { compiler, ..Launch::default() })
            .await
    }

    async fn launch(lifetime: Lifetime, folder: Folder, launch: Launch<'_>) -> anyhow::Result<Self> {
        let Launch { compiler, links, volume, clock } = launch;
        let installed = files::Installed::find()?;
        let linked_ports = links.iter().map(|_| free_port()).collect::<Result<Vec<_>, _>>()?;
        let port = free_port()?;
        installed.prepare(folder.path(), port, free_port()?, &linked_ports, links)?;
        let volume = match volume {
            Some(size) => {
                Some(Volume::mount(&folder.path().join("data"), &folder.path().join("aside"), size, None).await?)
            }
            None => None,
        };
        let mut args = vec!["-Xmx512m".into(), "-Xms512m".into(), "-XX:+UseG1GC".into()];
        args.push("-XX:MaxGCPauseMillis=20".into());
        // The JVM keeps its performance data outside of the folder, where it would remain after a kill.
        args.push("-XX:-UsePerfData".into());
        if compiler == Compiler::Quick {
            args.push("-XX:TieredStopAtLevel=1".into());
        }
        if let Some(archive) = installed.shared_classes() {
            args.push(format!("-XX:SharedArchiveFile={}", archive.display()).into());
        }
        args.push("-Dlog4j2.configurationFile=log4j2.xml".into());
        args.extend(["-cp".into(), installed.class_path()?, "kafka.Kafka".into(), "server.properties".into()]);
        if compiler == Compiler::Quick {
            // A killed broker can register again only after its old session has expired: 11 s with the default of 9 s.
            for setting in ["broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=500"] {
                args.extend(["--override".into(), setting.into()]);
            }
        }
        let process = Process::new(ProcessSpec {
            name: "Kafka",
            program: files::java()?,
            args,
            env: clock.map(Clock::env).unwrap_or_default(),
            user: None,
            folder: folder.path().to_owned(),
            lifetime,
            stop_signal: Signal::KILL,
        });
        let mut kafka = Self { process, folder, port, linked_ports, volume };
        kafka.restart().await?;
        Ok(kafka)
    }

    /// `127.0.0.1:PORT`, for `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The ports of the listeners behind links.
    pub fn linked_ports(&self) -> &[u16] {
        &self.linked_ports
    }

    /// The broker's process.
    pub fn pid(&self) -> Option<Pid> {
        self.process.pid()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.pid().is_some_and(Pid::is_running)
    }

    /// Occupies all of its volume but `left` bytes.
    pub fn fill_volume(&self, left: u64) -> anyhow::Result<()> {
        self.volume.as_ref().context("it has no volume")?.fill(left)
    }

    /// Makes its volume as large as this many MiB.
    pub async fn grow_volume(&self, mebibytes: u32) -> anyhow::Result<()> {
        self.volume.as_ref().context("it has no volume")?.grow(mebibytes).await
    }

    /// Kills it with SIGKILL.
    pub async fn kill_9(&mut self) -> anyhow::Result<()> {
        self.process.kill_9().await
    }

    /// Starts it again on the same data and port and waits until every partition has a leader; kills it first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let port = self.port;
        self.process.start(START_TIMEOUT, async |_| is_ready(port).await).await
    }

    /// Creates a topic and waits until each partition has a leader. Fails if the topic exists.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        wire::create_topic(self.port, name, partitions, settings).await?;
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        while self.led_partitions(name).await? < partitions.unsigned_abs() as usize {
            if Instant::now() > deadline {
                bail!("topic {name} still has partitions without a leader after {TOPIC_TIMEOUT:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn led_partitions(&self, topic: &str) -> anyhow::Result<usize> {
        let topics = wire::metadata(self.port).await?.topics;
        let topic = topics.into_iter().find(|known| known.name == topic);
        Ok(topic.map_or(0, |topic| topic.leaders.iter().filter(|leader| **leader >= 0).count()))
    }

    pub(crate) fn detach(self) -> (Option<Pid>, PathBuf) {
        (self.process.detach(), self.folder.keep())
    }
}

/// A broker responds before it is registered, and is registered before its partitions have leaders.
async fn is_ready(port: u16) -> bool {
    let Ok(metadata) = wire::metadata(port).await else { return false };
    let all_led = metadata.topics.iter().flat_map(|topic| &topic.leaders).all(|leader| *leader >= 0);
    metadata.brokers > 0 && all_led
}
