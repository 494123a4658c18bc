//! Cuts links that exist on a cluster only, under load: Postgres primary and standbys, operator and API server, operator and servers.
//! A cut loses all packets of one direction or of both, and closes no connection.

mod cut;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::cut::{Cut, Direction, Link, cut, service};
use crate::{
    at,
    faults::is_selected,
    load::Load,
    report::Report,
    test_cluster::{NAMESPACE, TestCluster},
};

/// How long most links are cut.
const LONG: Duration = Duration::from_secs(30);
/// How long one of them is cut, too.
const SHORT: Duration = Duration::from_secs(5);
/// How long writes may stop while enough instances of Postgres have them.
const UNAFFECTED: Duration = Duration::from_secs(10);
/// How much shorter than a cut the time without writes may be: those of the first moments reached the standby.
const TOLERANCE: Duration = Duration::from_secs(3);
/// Time for a change of the spec, and for an operator to lead again. The kubelet restarts it with a delay of up to some minutes.
const TIMEOUT: Duration = Duration::from_secs(240);
/// A lease lasts 15 s. After this time, a long cut lasts longer than that.
const FIRST_LOOK: Duration = Duration::from_secs(12);

const OPERATOR_NAMESPACE: &str = "ping-system";
const OPERATORS: &str = "app.kubernetes.io/name=ping-operator";
const SERVERS: &str = "app.kubernetes.io/instance=demo,app.kubernetes.io/component=server";
const INSTANCES: &str = "cnpg.io/cluster=demo-postgres,cnpg.io/podRole=instance";

pub(crate) async fn all(cluster: &TestCluster, report: &mut Report) {
    for direction in [Direction::Sent, Direction::Received, Direction::Both] {
        a_standby_and_the_primary(cluster, report, direction).await;
        the_leader_and_the_api_server(cluster, report, direction).await;
        the_operators_and_the_servers(cluster, report, direction).await;
    }
    for time in [SHORT, LONG] {
        every_standby_and_the_primary(cluster, report, "Required", time).await;
    }
    let durability =
        |value: Value| json!({ "spec": { "postgres": { "cluster": { "synchronous": value } } } }).to_string();
    if is_selected(&name("every standby and the primary (Preferred)", Direction::Both, LONG)) {
        set(cluster, &durability(json!({ "dataDurability": "Preferred" })), "preferred").await;
        every_standby_and_the_primary(cluster, report, "Preferred", LONG).await;
        set(cluster, &durability(Value::Null), "required").await;
    }
    the_operators_and_the_api_server(cluster, report).await;
}

/// One of two standbys is enough, so writes go on, and the primary stays.
async fn a_standby_and_the_primary(cluster: &TestCluster, report: &mut Report, direction: Direction) {
    let name = name("a standby and the primary", direction, LONG);
    if !is_selected(&name) {
        return;
    }
    let (before, primary, standbys) = instances(cluster).await;
    let load = Load::start(cluster).await;
    cut(cluster, Link::between(&standbys[..1], &[primary], &[]), direction, LONG, async || true).await;
    let outcome = load.finish(cluster).await;
    assert_eq!(current_primary(cluster).await, before, "{name}: a failover");
    assert!(outcome.no_write < UNAFFECTED, "{name}: {outcome:?}");
    report.add(&name, outcome);
}

/// With `Required`, no event is acknowledged until a standby has it. The primary stays.
async fn every_standby_and_the_primary(cluster: &TestCluster, report: &mut Report, durability: &str, time: Duration) {
    let name = name(&format!("every standby and the primary ({durability})"), Direction::Both, time);
    if !is_selected(&name) {
        return;
    }
    let (before, primary, standbys) = instances(cluster).await;
    let load = Load::start(cluster).await;
    cut(cluster, Link::between(&standbys, &[primary], &[]), Direction::Both, time, async || true).await;
    let outcome = load.finish(cluster).await;
    assert_eq!(current_primary(cluster).await, before, "{name}: a failover");
    assert!(durability != "Required" || outcome.no_write + TOLERANCE > time, "{name}: {outcome:?}");
    report.add(&name, outcome);
}

/// The leader loses its lease, and the other operator leads.
async fn the_leader_and_the_api_server(cluster: &TestCluster, report: &mut Report, direction: Direction) {
    let name = name("the leading operator and the API server", direction, LONG);
    if !is_selected(&name) {
        return;
    }
    let leader = holder(cluster).await;
    let operators = running(cluster, OPERATOR_NAMESPACE, OPERATORS).await;
    let pod: Vec<Value> = operators.into_iter().filter(|pod| at(pod, "/metadata/name") == leader.as_str()).collect();
    assert_eq!(pod.len(), 1, "{name}: the leader {leader} does not run");
    let link = Link::with_api_server(cluster, &pod).await;
    let load = Load::start(cluster).await;
    cut(cluster, link, direction, LONG, async || holder(cluster).await != leader).await;
    let outcome = load.finish(cluster).await;
    assert!(outcome.no_write < UNAFFECTED, "{name}: {outcome:?}");
    report.add(&name, outcome);
}

/// No operator leads until the API server is back; servers go on.
async fn the_operators_and_the_api_server(cluster: &TestCluster, report: &mut Report) {
    let name = name("every operator and the API server", Direction::Both, LONG);
    if !is_selected(&name) {
        return;
    }
    let operators = running(cluster, OPERATOR_NAMESPACE, OPERATORS).await;
    let link = Link::with_api_server(cluster, &operators).await;
    let load = Load::start(cluster).await;
    let cut = Cut::start(cluster, link, Direction::Both).await;
    tokio::time::sleep(FIRST_LOOK).await;
    let renewed = renewed_at(cluster).await;
    tokio::time::sleep(LONG - FIRST_LOOK).await;
    assert_eq!(renewed_at(cluster).await, renewed, "{name}: the lease was renewed");
    assert!(cut.end().await > 0, "{name}: nothing was sent");
    let ended = Instant::now();
    cluster.wait_until("a leader", TIMEOUT, async || renewed_at(cluster).await != renewed).await;
    println!("{name}: an operator leads {:.1} s after it", ended.elapsed().as_secs_f64());
    let outcome = load.finish(cluster).await;
    assert!(outcome.no_write < UNAFFECTED, "{name}: {outcome:?}");
    report.add(&name, outcome);
}

/// The conditions that the operator can no longer check become `Unknown`, with the reason; servers go on.
async fn the_operators_and_the_servers(cluster: &TestCluster, report: &mut Report, direction: Direction) {
    let name = name("every operator and the servers", direction, LONG);
    if !is_selected(&name) {
        return;
    }
    let operators = running(cluster, OPERATOR_NAMESPACE, OPERATORS).await;
    let servers = running(cluster, NAMESPACE, SERVERS).await;
    let link = Link::between(&operators, &servers, &[service(cluster, NAMESPACE, "demo-server").await]);
    let load = Load::start(cluster).await;
    let honest = async || {
        let pipeline = cluster.pipeline().await.unwrap_or_default();
        let mut conditions = at(&pipeline, "/status/conditions").as_array().into_iter().flatten();
        let is_unknown =
            |one: &Value| one["type"] == "Exact" && one["status"] == "Unknown" && one["reason"] == "NoAnswer";
        conditions.any(is_unknown)
    };
    cut(cluster, link, direction, LONG, honest).await;
    let outcome = load.finish(cluster).await;
    assert!(outcome.no_write < UNAFFECTED, "{name}: {outcome:?}");
    report.add(&name, outcome);
}

fn name(pair: &str, direction: Direction, time: Duration) -> String {
    format!("links: {pair}, {direction}, for {} s", time.as_secs())
}

/// Changes the spec, and waits until CloudNativePG has this data durability.
async fn set(cluster: &TestCluster, patch: &str, durability: &str) {
    cluster.patch(patch).await;
    let is_set = async || {
        let postgres = cluster.json(&["get", "clusters.postgresql.cnpg.io", "demo-postgres"]).await;
        at(&postgres, "/spec/postgresql/synchronous/dataDurability") == durability && cluster.is_observed().await
    };
    cluster.wait_until("the data durability", TIMEOUT, is_set).await;
}

/// The name of the primary, its pod, and those of the standbys.
async fn instances(cluster: &TestCluster) -> (String, Value, Vec<Value>) {
    let name = current_primary(cluster).await;
    let (mut primary, standbys): (Vec<_>, Vec<_>) = running(cluster, NAMESPACE, INSTANCES)
        .await
        .into_iter()
        .partition(|pod| at(pod, "/metadata/name") == name.as_str());
    assert!(primary.len() == 1 && standbys.len() == 2, "{name} and {} standbys run", standbys.len());
    (name, primary.remove(0), standbys)
}

async fn current_primary(cluster: &TestCluster) -> String {
    let postgres = cluster.json(&["get", "clusters.postgresql.cnpg.io", "demo-postgres"]).await;
    at(&postgres, "/status/currentPrimary").as_str().unwrap().to_owned()
}

/// The pods that `selector` matches and that run.
async fn running(cluster: &TestCluster, namespace: &str, selector: &str) -> Vec<Value> {
    let mut pods = cluster.pods(namespace, selector).await;
    pods.retain(|pod| at(pod, "/status/phase") == "Running" && at(pod, "/metadata/deletionTimestamp").is_null());
    assert!(!pods.is_empty(), "no pod of {selector} runs");
    pods
}

/// The operator that leads.
async fn holder(cluster: &TestCluster) -> String {
    at(&lease(cluster).await, "/spec/holderIdentity").as_str().unwrap_or_default().to_owned()
}

/// When it last renewed its lease.
async fn renewed_at(cluster: &TestCluster) -> String {
    at(&lease(cluster).await, "/spec/renewTime").as_str().unwrap_or_default().to_owned()
}

async fn lease(cluster: &TestCluster) -> Value {
    cluster.json(&["get", "lease", "ping-operator", "--namespace", OPERATOR_NAMESPACE]).await
}
