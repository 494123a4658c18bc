//! A Kafka of our own: one node, broker and controller at once.

mod files;
mod wire;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::bail;
use rustix::process::Signal;

use crate::{
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process, Recipe},
};

const STARTS_WITHIN: Duration = Duration::from_secs(90);
const TOPIC_WITHIN: Duration = Duration::from_secs(15);

/// How the broker's JVM turns bytecode into machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compiler {
    /// Starts in half the time, restarts after a kill in a third, never gets to full speed. For tests.
    #[default]
    Quick,
    /// As a broker in production does it. For measurements.
    Full,
}

/// A running Kafka. Topics are not made by themselves. Gone when dropped.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    folder: Folder,
    port: u16,
}

impl Kafka {
    /// Starts an empty one on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Compiler::Quick).await
    }

    /// The same with a choice of compiler.
    pub async fn start_with(compiler: Compiler) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("kafka")?, compiler).await
    }

    pub(crate) async fn start_to_leave(compiler: Compiler) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Left, Folder::create_to_leave("kafka")?, compiler).await
    }

    async fn launch(lifetime: Lifetime, folder: Folder, compiler: Compiler) -> anyhow::Result<Self> {
        let installed = files::Installed::find()?;
        let port = free_port()?;
        installed.prepare(folder.path(), port, free_port()?)?;
        let mut args = vec!["-Xmx512m".into(), "-Xms512m".into(), "-XX:+UseG1GC".into()];
        args.push("-XX:MaxGCPauseMillis=20".into());
        // Its file outside our folder would stay behind after a kill.
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
            // A killed broker is let in again only after its old session is over: 11 s with the default of 9 s.
            for setting in ["broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=500"] {
                args.extend(["--override".into(), setting.into()]);
            }
        }
        let process = Process::new(Recipe {
            name: "Kafka",
            program: files::java()?,
            args,
            user: None,
            folder: folder.path().to_owned(),
            lifetime,
            farewell: Signal::KILL,
        });
        let mut kafka = Self { process, folder, port };
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

    /// The running JVM.
    pub fn pid(&self) -> Option<Pid> {
        self.process.pid()
    }

    /// Kills it with SIGKILL.
    pub async fn kill_9(&mut self) -> anyhow::Result<()> {
        self.process.kill_9().await
    }

    /// Starts it again on its data and port, until every partition has its leader; kills it first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let port = self.port;
        self.process.start(STARTS_WITHIN, async |_| serves(port).await).await
    }

    /// Makes a topic and waits until each partition has its leader. One that exists is an error.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        wire::create_topic(self.port, name, partitions, settings).await?;
        let deadline = Instant::now() + TOPIC_WITHIN;
        while self.led_partitions(name).await? < partitions.unsigned_abs() as usize {
            if Instant::now() > deadline {
                bail!("topic {name} has no leaders after {TOPIC_WITHIN:?}");
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

    pub(crate) fn leave(self) -> (Option<Pid>, PathBuf) {
        (self.process.leave(), self.folder.leave())
    }
}

/// A broker answers before the controller has let it in, and lets it in before it leads its partitions.
async fn serves(port: u16) -> bool {
    let Ok(metadata) = wire::metadata(port).await else { return false };
    let all_led = metadata.topics.iter().flat_map(|topic| &topic.leaders).all(|leader| *leader >= 0);
    metadata.brokers > 0 && all_led
}
