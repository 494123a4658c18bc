//! Pings at a steady rate while something happens, and what became of them.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{
    at,
    stage::{PIPELINE, Stage, holds, pingctl},
};

/// Pings per second: little, for what is tested is what happens to them.
const RATE: &str = "100";
/// How often the conditions are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long the pipeline has to be well before it counts as recovered.
const WELL_FOR: Duration = Duration::from_secs(6);
/// Longest time that anything may take to recover, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(420);

/// What became of the pings of one load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: u64,
    /// Acknowledged and not in the count; below zero: counted more than once.
    pub(crate) missing: i64,
    /// Whether the counters in the cache are those of the rows in Postgres, minute by minute.
    pub(crate) same: bool,
    /// From the fault until the pipeline was Ready for good.
    pub(crate) ready_after: Duration,
    /// From the fault until its counts were Exact for good.
    pub(crate) exact_after: Duration,
    /// From the fault until its counts were Fresh for good: some seconds old at most.
    pub(crate) fresh_after: Duration,
    /// The slowest ping.
    pub(crate) slowest: Duration,
}

pub(crate) struct Load {
    pings: Child,
    watch: Watch,
}

impl Load {
    pub(crate) async fn start(stage: &Stage) -> Self {
        let address = stage.address().await;
        let mut command = Command::new(pingctl());
        command.args([
            "--addr",
            &address,
            "--json",
            "--retries=100",
            "--timeout=20s",
            "load",
            "--yes-this-is-my-server",
        ]);
        command.args(["--check", "--ids", "--duration=1h", "--connections=4", "--rate", RATE]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let pings = command.spawn().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        Self { pings, watch: Watch::start(stage) }
    }

    /// Waits until the pipeline is well again after what happened, ends the load and counts.
    pub(crate) async fn finish(self, stage: &Stage) -> Outcome {
        let [ready_after, exact_after, fresh_after] = self.watch.recovery(stage).await;
        let pid = Pid::from_raw(self.pings.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let output = self.pings.wait_with_output().await.unwrap();
        let said = serde_json::from_slice::<Value>(&output.stdout);
        let said =
            said.unwrap_or_else(|error| panic!("pingctl load: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        let number = |pointer| at(&said, pointer).as_i64().unwrap_or_else(|| panic!("no {pointer} in {said}"));
        assert_eq!((number("/unknown"), number("/refused")), (0, 0), "{said}");
        // Fails when they differ.
        let proof: Value = serde_json::from_str(&stage.pingctl(&["verify", "--json"]).await).unwrap();
        Outcome {
            acknowledged: number("/acknowledged").try_into().unwrap(),
            missing: number("/acknowledged") - number("/check/grew"),
            same: proof["exact"] == true && proof["cache_total"] == proof["rows"],
            ready_after,
            exact_after,
            fresh_after,
            slowest: Duration::from_secs_f64(at(&said, "/latency_ms/max").as_f64().unwrap_or_default() / 1e3),
        }
    }
}

/// Looks at the conditions of the pipeline, from just before something happens.
struct Watch {
    since: Instant,
    last_bad: Arc<Mutex<LastBad>>,
    task: AbortOnDrop,
}

/// What has to hold for the pipeline to be well.
const CONDITIONS: [&str; 3] = ["Ready", "Exact", "Fresh"];

/// When each condition was last seen not to hold. An API server that does not answer shows nothing that holds.
struct LastBad([Instant; 3]);

impl LastBad {
    fn look(&mut self, pipeline: &Value) {
        let now = Instant::now();
        for (condition, last_bad) in CONDITIONS.into_iter().zip(&mut self.0) {
            if !holds(pipeline, condition) {
                *last_bad = now;
            }
        }
    }
}

impl Watch {
    fn start(stage: &Stage) -> Self {
        let since = Instant::now();
        let last_bad = Arc::new(Mutex::new(LastBad([since; 3])));
        let (pipelines, seen) = (stage.pipelines.clone(), last_bad.clone());
        let task = tokio::spawn(async move {
            loop {
                let pipeline =
                    pipelines.get(PIPELINE).await.ok().and_then(|pipeline| serde_json::to_value(pipeline).ok());
                seen.lock().unwrap().look(&pipeline.unwrap_or_default());
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { since, last_bad, task: AbortOnDrop(task) }
    }

    /// How long after the beginning each condition was last seen not to hold.
    async fn recovery(self, stage: &Stage) -> [Duration; 3] {
        let happened = Instant::now();
        loop {
            let last_bad = self.last_bad.lock().unwrap().0;
            if last_bad.iter().chain([&happened]).all(|bad| bad.elapsed() > WELL_FOR) {
                return last_bad.map(|bad| bad - self.since);
            }
            assert!(!self.task.0.is_finished(), "nobody looks any more");
            if happened.elapsed() > PATIENCE {
                stage.give_up(&format!("recovery in {PATIENCE:?}")).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
