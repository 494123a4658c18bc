//! Reads counts during a fault, and checks them against the calls of the load.

use std::{path::Path, process::Stdio, time::Duration};

use ping_history::{Count, History, Includes, Interval, Micros, Outcome};
use serde_json::Value;
use tokio::{process::Command, task::JoinHandle};

use crate::{connection::Connection, test_cluster::pingctl};

/// Between two counts.
const INTERVAL: Duration = Duration::from_millis(200);

/// Counts that were read, and when.
type Answers = Vec<(Interval, Count)>;

/// What [`Reader::check`] found.
pub(crate) struct Checked {
    /// Counts that were read.
    pub(crate) answers: usize,
    /// Those that break a promise, and why.
    pub(crate) wrong: Vec<String>,
    /// The longest time without an acknowledged event.
    pub(crate) no_write: Duration,
    /// The longest time without a count.
    pub(crate) no_count: Duration,
}

/// Reads counts, from the cache and from the database in turn, until it is stopped.
pub(crate) struct Reader {
    task: JoinHandle<()>,
    answers: tokio::sync::mpsc::UnboundedReceiver<(Interval, Count)>,
}

fn now() -> Micros {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap()
}

impl Reader {
    /// Starts to read as the caller of `connection`.
    pub(crate) fn start(connection: Connection) -> Self {
        let (sender, answers) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            for includes in [Includes::AsOf, Includes::Strong].into_iter().cycle() {
                if let Some(answer) = read(&connection, includes).await {
                    sender.send(answer).unwrap();
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Self { task, answers }
    }

    /// Stops, and checks every answer against the calls in the file that `pingctl load --history` wrote. `before` events had been counted
    /// when the load began.
    pub(crate) async fn check(mut self, before: i64, calls: &Path) -> Checked {
        self.task.abort();
        let mut history = History::after(before);
        let mut acknowledged = Vec::new();
        for call in std::fs::read_to_string(calls).unwrap().lines() {
            acknowledged.extend(add(&mut history, &serde_json::from_str(call).unwrap()));
        }
        let mut answers = Answers::new();
        while let Ok(answer) = self.answers.try_recv() {
            answers.push(answer);
        }
        for (at, answer) in &answers {
            history.count(*at, *answer);
        }
        Checked {
            answers: answers.len(),
            wrong: history.check().iter().map(ToString::to_string).collect(),
            no_write: longest_gap(acknowledged),
            no_count: longest_gap(answers.iter().map(|(at, _)| at.ended).collect()),
        }
    }
}

/// Reads one count. A call that fails has no answer that could be wrong.
async fn read(connection: &Connection, includes: Includes) -> Option<(Interval, Count)> {
    let mut command = Command::new(pingctl());
    command.args(connection.options()).args(["--json", "--retries=0", "--timeout=5s", "count"]);
    if includes == Includes::Strong {
        command.arg("--strong");
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let began = now();
    let output = command.output().await.unwrap();
    let at = Interval { began, ended: now() };
    let answer = output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())?;
    let number = |field: &str| {
        let number = answer[field].as_str().and_then(|number| number.parse::<i64>().ok());
        number.unwrap_or_else(|| panic!("no {field} in {answer}"))
    };
    let exact = answer["exact"] == true;
    Some((at, Count { includes, count: number("pingCount"), as_of_ms: number("asOfMs"), exact }))
}

/// The longest time between two of these moments.
fn longest_gap(mut moments: Vec<Micros>) -> Duration {
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_micros(gaps.max().unwrap_or_default().try_into().unwrap())
}

/// Adds a line of the load's history. Returns when the event was acknowledged; none if it was not.
fn add(history: &mut History, call: &Value) -> Option<Micros> {
    let time = |field: &str| call[field].as_i64().unwrap();
    let outcome = match call["outcome"].as_str().unwrap() {
        "acknowledged" => Outcome::Acknowledged,
        "rejected" => Outcome::Rejected,
        "unknown" => Outcome::Unknown,
        other => panic!("unknown outcome {other}"),
    };
    let event = call["event_id"].as_str().unwrap().parse().unwrap();
    let ended = time("ended_us");
    history.record(event, Interval { began: time("began_us"), ended }, outcome);
    (outcome == Outcome::Acknowledged).then_some(ended)
}

#[test]
fn the_longest_gap_is_between_neighbours() {
    assert_eq!(longest_gap(vec![7_000_000, 1_000_000, 2_500_000]), Duration::from_millis(4_500));
    assert_eq!(longest_gap(Vec::new()), Duration::ZERO);
}
