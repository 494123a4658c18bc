//! Cuts a link with firewall rules in the network namespaces of pods and nodes.

use std::{
    fmt::{self, Display, Formatter},
    slice,
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{at, network_namespace::process_of, test_cluster::TestCluster};

/// Between two looks at what a cut does.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What a cut loses, as the first end of the link sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Sent,
    Received,
    Both,
}

impl Display for Direction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "what it sends",
            Self::Received => "what it receives",
            Self::Both => "both directions",
        })
    }
}

/// Packets that reach the network namespace of `process` from one of `from`, and go to one of `to`, if it has any. They are dropped where
/// they arrive, because a sender notices when its own firewall drops them.
struct Packets {
    process: i32,
    from: Vec<String>,
    to: Vec<String>,
}

/// All packets between some pods and others.
pub(super) struct Link {
    sent: Vec<Packets>,
    received: Vec<Packets>,
}

impl Link {
    /// Between `pods` and `others`, which answer at the addresses of `services`, too.
    pub(super) fn between(pods: &[Value], others: &[Value], services: &[String]) -> Self {
        let arriving = |pods: &[Value], from: Vec<String>| {
            let packets = |pod| Packets { process: process_of(pod), from: from.clone(), to: Vec::new() };
            pods.iter().map(packets).collect()
        };
        Self {
            sent: arriving(others, addresses(pods)),
            received: arriving(pods, [addresses(others), services.to_vec()].concat()),
        }
    }

    /// Between pods and the API server. What they send to it passes their node.
    pub(super) async fn with_api_server(cluster: &TestCluster, pods: &[Value]) -> Self {
        let api_server = vec![service(cluster, "default", "kubernetes").await];
        let sent = |pod: &Value| Packets {
            process: cluster.node_of(pod).expect("a node"),
            from: addresses(slice::from_ref(pod)),
            to: api_server.clone(),
        };
        let received = |pod: &Value| Packets { process: process_of(pod), from: api_server.clone(), to: Vec::new() };
        Self { sent: pods.iter().map(sent).collect(), received: pods.iter().map(received).collect() }
    }
}

/// A link that is cut.
pub(super) struct Cut<'a> {
    cluster: &'a TestCluster,
    lost: Vec<Packets>,
}

impl<'a> Cut<'a> {
    pub(super) async fn start(cluster: &'a TestCluster, link: Link, direction: Direction) -> Self {
        let mut lost = Vec::new();
        if direction != Direction::Received {
            lost.extend(link.sent);
        }
        if direction != Direction::Sent {
            lost.extend(link.received);
        }
        let cut = Self { cluster, lost };
        for (number, Packets { from, to, .. }) in cut.lost.iter().enumerate() {
            let source = format!("ip saddr {{ {} }}", from.join(", "));
            let destination = if to.is_empty() { String::new() } else { format!("ip daddr {{ {} }}", to.join(", ")) };
            let chain = format!("type filter hook prerouting priority -400; {source} {destination} counter drop;");
            cut.nft(number, &format!("table ip {} {{ chain lost {{ {chain} }}; }}", table(number))).await;
        }
        cut
    }

    /// Ends it; how many packets it lost.
    pub(super) async fn end(self) -> u64 {
        let mut lost = 0;
        for number in 0..self.lost.len() {
            let rules = self.nft(number, &format!("list table ip {}", table(number))).await;
            let packets =
                rules.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            lost += packets.unwrap_or_else(|| panic!("no counter in {rules}"));
            self.nft(number, &format!("delete table ip {}", table(number))).await;
        }
        lost
    }

    /// Runs nft where the packets of this number arrive.
    async fn nft(&self, number: usize, command: &str) -> String {
        let output = self.cluster.try_run_from(self.lost[number].process, "nft", &[command]).await;
        assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The name of a table. Packets of two operators may arrive at one node, so each has its own.
fn table(number: usize) -> String {
    format!("links_{number}")
}

/// Cuts a link for some time. `effect` must hold before it ends.
pub(super) async fn cut(
    cluster: &TestCluster,
    link: Link,
    direction: Direction,
    time: Duration,
    effect: impl AsyncFn() -> bool,
) {
    let cut = Cut::start(cluster, link, direction).await;
    let ends = Instant::now() + time;
    let mut has_effect = false;
    while !has_effect && Instant::now() < ends {
        has_effect = effect().await;
        sleep(POLL_INTERVAL).await;
    }
    sleep_until(ends).await;
    let lost = cut.end().await;
    if !has_effect {
        cluster.fail("effect of a cut").await;
    }
    assert!(lost > 0, "a cut lost no packet");
}

fn addresses(pods: &[Value]) -> Vec<String> {
    pods.iter().map(|pod| at(pod, "/status/podIP").as_str().unwrap().to_owned()).collect()
}

/// The address of a Service.
pub(super) async fn service(cluster: &TestCluster, namespace: &str, name: &str) -> String {
    let service = cluster.json(&["get", "service", name, "--namespace", namespace]).await;
    at(&service, "/spec/clusterIP").as_str().unwrap().to_owned()
}
