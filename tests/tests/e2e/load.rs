//! Sends pings at a steady rate during a fault and checks that each acknowledged ping is counted.

use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{
    answers::{Checked, Reader},
    at,
    connection::Connection,
    test_cluster::{PIPELINE, TestCluster, holds, pingctl},
};

/// Pings per second. Low, because this test is about correctness.
const RATE: &str = "100";
/// How often a caller repeats a call, unless a fault interrupts the service.
const RETRIES: u32 = 100;
/// How often the conditions are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How long all conditions must hold before the times in the report are final. Whether the pipeline has recovered does not depend on it.
const STABLE_FOR: Duration = Duration::from_secs(10);
/// How long recovery may take on two busy cores.
const TIMEOUT: Duration = Duration::from_secs(420);

/// The result of one load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: u64,
    /// Acknowledged pings that are not in Postgres.
    pub(crate) lost: i64,
    /// Pings in Postgres that are not in the count after two minutes without load.
    pub(crate) late: i64,
    /// Pings in Postgres or in the count beyond those that were acknowledged.
    pub(crate) counted_twice: i64,
    /// Whether the cached counters match the rows in Postgres for every minute.
    pub(crate) cache_matches_rows: bool,
    /// Counts that were read meanwhile.
    pub(crate) answers: usize,
    /// Those that break a promise, and why.
    pub(crate) wrong_answers: Vec<String>,
    /// From the fault until the pipeline was permanently Ready.
    pub(crate) ready_after: Duration,
    /// From the fault until its counts were permanently Exact.
    pub(crate) exact_after: Duration,
    /// From the fault until its counts were permanently Fresh, i.e. at most some seconds old.
    pub(crate) fresh_after: Duration,
    /// Latency of the slowest ping.
    pub(crate) slowest: Duration,
    /// The longest time without an acknowledged ping.
    pub(crate) no_write: Duration,
    /// The longest time without a count.
    pub(crate) no_count: Duration,
}

pub(crate) struct Load {
    connection: Connection,
    pings: Child,
    /// The calls that `pings` writes.
    calls: NamedTempFile,
    /// Events that were counted before.
    before: i64,
    reader: Reader,
    watcher: ConditionWatcher,
}

impl Load {
    pub(crate) async fn start(cluster: &TestCluster) -> Self {
        Self::start_with(cluster, &cluster.connection().await, RETRIES).await
    }

    /// Starts the load as the caller of `connection`, which repeats a call once. If that fails too, [`Self::finish`] does.
    pub(crate) async fn start_with_one_retry(cluster: &TestCluster, connection: &Connection) -> Self {
        Self::start_with(cluster, connection, 1).await
    }

    async fn start_with(cluster: &TestCluster, connection: &Connection, retries: u32) -> Self {
        let before = cluster.count().await.try_into().unwrap();
        let calls = NamedTempFile::new().unwrap();
        let mut command = Command::new(pingctl());
        command.args(connection.options());
        let retries = format!("--retries={retries}");
        command.args(["--json", &retries, "--timeout=20s", "load", "--yes-this-is-my-server"]);
        command.args(["--check", "--ids", "--duration=1h", "--connections=4", "--rate", RATE]);
        command.arg("--history").arg(calls.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let pings = command.spawn().unwrap();
        let flows = async || fs::read_to_string(calls.path()).unwrap().contains("acknowledged");
        cluster.wait_until("acknowledged ping", TIMEOUT, flows).await;
        let (connection, reader) = (connection.clone(), Reader::start(connection.clone()));
        Self { connection, pings, calls, before, reader, watcher: ConditionWatcher::start(cluster) }
    }

    /// Waits until the pipeline has recovered from the fault, stops the load and compares the counts.
    pub(crate) async fn finish(self, cluster: &TestCluster) -> Outcome {
        let [ready_after, exact_after, fresh_after] = self.watcher.wait_for_recovery(cluster, &self.connection).await;
        let pid = Pid::from_raw(self.pings.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let output = self.pings.wait_with_output().await.unwrap();
        let report = serde_json::from_slice::<Value>(&output.stdout);
        let report =
            report.unwrap_or_else(|error| panic!("pingctl load: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        let number = |pointer| at(&report, pointer).as_i64().unwrap_or_else(|| panic!("no {pointer} in {report}"));
        if (number("/unknown"), number("/refused")) != (0, 0) {
            cluster.fail(&format!("acknowledgement of every call: {report}")).await;
        }
        let Checked { answers, wrong, no_write, no_count } = self.reader.check(self.before, self.calls.path()).await;
        // `verify` fails if the cache and the rows differ.
        let proof: Value = serde_json::from_str(&cluster.verify().await).unwrap();
        let [acknowledged, stored, counted] = ["/acknowledged", "/check/stored", "/check/grew"].map(number);
        Outcome {
            acknowledged: acknowledged.try_into().unwrap(),
            lost: (acknowledged - stored).max(0),
            late: (stored - counted).max(0),
            counted_twice: (stored.max(counted) - acknowledged).max(0),
            cache_matches_rows: proof["exact"] == true && proof["cacheTotal"] == proof["rows"],
            answers,
            wrong_answers: wrong,
            ready_after,
            exact_after,
            fresh_after,
            slowest: Duration::from_secs_f64(at(&report, "/latency_ms/max").as_f64().unwrap_or_default() / 1e3),
            no_write,
            no_count,
        }
    }
}

/// Polls the conditions of the pipeline, starting just before a fault.
struct ConditionWatcher {
    since: Instant,
    observed: Arc<Mutex<Observed>>,
    task: AbortOnDrop,
}

/// The conditions that have to hold.
const CONDITIONS: [&str; 3] = ["Ready", "Exact", "Fresh"];

/// What the status of the pipeline said.
struct Observed {
    /// When each condition last did not hold. While the API server is unavailable, no condition holds.
    last_failures: [Instant; 3],
    /// The latest total.
    total: u64,
}

impl Observed {
    fn record(&mut self, pipeline: &Value) {
        let now = Instant::now();
        for (condition, last_failure) in CONDITIONS.into_iter().zip(&mut self.last_failures) {
            if !holds(pipeline, condition) {
                *last_failure = now;
            }
        }
        self.total = at(pipeline, "/status/stats/total").as_u64().unwrap_or(self.total);
    }
}

impl ConditionWatcher {
    fn start(cluster: &TestCluster) -> Self {
        let since = Instant::now();
        let observed = Arc::new(Mutex::new(Observed { last_failures: [since; 3], total: 0 }));
        let (pipelines, shared) = (cluster.pipelines.clone(), observed.clone());
        let task = tokio::spawn(async move {
            loop {
                let pipeline =
                    pipelines.get(PIPELINE).await.ok().and_then(|pipeline| serde_json::to_value(pipeline).ok());
                shared.lock().unwrap().record(&pipeline.unwrap_or_default());
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        Self { since, observed, task: AbortOnDrop(task) }
    }

    /// Waits for recovery: all conditions hold in a status whose total includes every ping that was acknowledged before the fault was over.
    /// Returns how long after the start each condition last did not hold.
    async fn wait_for_recovery(self, cluster: &TestCluster, connection: &Connection) -> [Duration; 3] {
        let (fault_ended, mut acknowledged) = (Instant::now(), None);
        loop {
            if acknowledged.is_none() {
                acknowledged = cluster.try_count(connection).await;
            }
            let Observed { last_failures, total } = *self.observed.lock().unwrap();
            let is_counted = acknowledged.is_some_and(|acknowledged| total >= acknowledged);
            let is_stable = last_failures.iter().chain([&fault_ended]).all(|failure| failure.elapsed() > STABLE_FOR);
            if is_counted && is_stable {
                return last_failures.map(|failure| failure - self.since);
            }
            assert!(!self.task.0.is_finished(), "the watcher has ended");
            if fault_ended.elapsed() > TIMEOUT {
                cluster.fail(&format!("recovery within {TIMEOUT:?}")).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
