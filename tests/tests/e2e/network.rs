//! NetworkPolicies as the nodes enforce them: every pod tries every port of every other pod. What the table of flows has works, and everything
//! else fails, with the labels of others, too. The same connections work without the pipeline's policies: it is these that refuse them.

use std::{
    net::{IpAddr, TcpListener},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    access::metrics_are_read_with_their_token,
    at,
    flows::{API_SERVER, PORTS, Place, Policies, why_allowed},
    network_namespace::{connect, drain, listen, process_of},
    test_cluster::{NAMESPACE, TestCluster},
};

/// Time for a change of the spec or of pods to have its effect on the nodes.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Pods that connect at a time: each has a socket per address.
const SOURCES: usize = 3;
/// Wrong connections in the error.
const SHOWN: usize = 40;
/// Label of the pods that this test creates, with their role.
const BYSTANDER: &str = "bystander";

/// Role, namespace and label selector of the pods that run anyway.
const PODS: [(&str, &str, &str); 10] = [
    ("server", NAMESPACE, "app.kubernetes.io/instance=demo,app.kubernetes.io/component=server"),
    ("ingest", NAMESPACE, "app.kubernetes.io/instance=demo,app.kubernetes.io/component=ingest"),
    ("query", NAMESPACE, "app.kubernetes.io/instance=demo,app.kubernetes.io/component=query"),
    ("processor", NAMESPACE, "app.kubernetes.io/instance=demo,app.kubernetes.io/component=processor"),
    ("postgres", NAMESPACE, "cnpg.io/cluster=demo-postgres,cnpg.io/podRole=instance"),
    ("cache", NAMESPACE, "app=demo-cache"),
    ("kafka", NAMESPACE, "strimzi.io/cluster=demo-kafka,strimzi.io/kind=Kafka"),
    ("operator", "ping-system", "app.kubernetes.io/name=ping-operator"),
    ("cloudnative-pg", "cnpg-system", "app.kubernetes.io/name=cloudnative-pg"),
    ("dns", "kube-system", "k8s-app=kube-dns"),
];

/// Names and values of labels.
type Labels = &'static [(&'static str, &'static str)];

/// Role, namespace and labels of the pods that this test creates. Those in `neighbour` have the labels of others.
const BYSTANDERS: [(&str, &str, Labels); 14] = [
    ("ordinary", NAMESPACE, &[]),
    (
        "server-of-other",
        NAMESPACE,
        &[
            ("app.kubernetes.io/name", "ping"),
            ("app.kubernetes.io/instance", "other"),
            ("app.kubernetes.io/component", "server"),
        ],
    ),
    ("client", "shop", &[("app", "shop")]),
    ("prometheus", "monitoring", &[("app.kubernetes.io/name", "prometheus")]),
    ("dragonfly-operator", "dragonfly-operator-system", &[("control-plane", "controller-manager")]),
    ("next-to-operator", "ping-system", &[]),
    ("next-to-cloudnative-pg", "cnpg-system", &[]),
    ("ordinary-neighbour", "neighbour", &[]),
    ("like-operator", "neighbour", &[("app.kubernetes.io/name", "ping-operator")]),
    ("like-cloudnative-pg", "neighbour", &[("app.kubernetes.io/name", "cloudnative-pg")]),
    ("like-dragonfly-operator", "neighbour", &[("control-plane", "controller-manager")]),
    (
        "like-server",
        "neighbour",
        &[
            ("app.kubernetes.io/name", "ping"),
            ("app.kubernetes.io/instance", "demo"),
            ("app.kubernetes.io/component", "server"),
        ],
    ),
    ("like-postgres", "neighbour", &[("cnpg.io/cluster", "demo-postgres"), ("cnpg.io/podRole", "instance")]),
    ("like-kafka", "neighbour", &[("strimzi.io/cluster", "demo-kafka"), ("app", "demo-cache")]),
];

/// Something that connects, or to which others connect.
struct Peer {
    name: String,
    role: &'static str,
    namespace: String,
    node: String,
    /// None if nothing connects to it here.
    address: Option<IpAddr>,
    /// A process in its network namespace; none for this machine.
    process: Option<i32>,
    ports: &'static [u16],
}

impl Peer {
    fn place(&self) -> Place<'_> {
        Place { role: self.role, namespace: &self.namespace, node: &self.node }
    }
}

pub(crate) async fn only_flows_of_the_architecture_work(cluster: &TestCluster) {
    create_bystanders(cluster).await;
    set(cluster, json!({ "networkPolicy": { "enabled": false } })).await;
    check(cluster, Policies::Disabled).await;
    set(cluster, json!({ "networkPolicy": { "enabled": true } })).await;
    check(cluster, Policies::Default).await;

    let only = |name: &str| json!({ "kubernetes.io/metadata.name": name });
    let restricted = json!({
        "networkPolicy": { "clientNamespaces": only("shop"), "metricsNamespaces": only("monitoring") },
        "server": { "query": { "replicas": 1 } },
    });
    set(cluster, restricted).await;
    roll_out(cluster, &["ingest", "query"], "server").await;
    check(cluster, Policies::Restricted).await;
    let prometheus = cluster.pods("monitoring", "bystander=prometheus").await;
    metrics_are_read_with_their_token(cluster, process_of(&prometheus[0])).await;
    // The operator has the count from the query servers.
    let reached = async || cluster.is_true("Ready").await && cluster.is_true("Fresh").await;
    cluster.wait_until("Fresh with separate servers", TIMEOUT, reached).await;

    let before = json!({
        "networkPolicy": { "clientNamespaces": null, "metricsNamespaces": null }, "server": { "query": null },
    });
    set(cluster, before).await;
    roll_out(cluster, &["server"], "query").await;
    delete_bystanders(cluster).await;
}

async fn set(cluster: &TestCluster, spec: Value) {
    cluster.patch(&json!({ "spec": spec }).to_string()).await;
    cluster.wait_until("observed change", TIMEOUT, async || cluster.is_observed().await).await;
}

/// Waits until the Deployments `new` are ready and the pods of `old` are gone.
async fn roll_out(cluster: &TestCluster, new: &[&str], old: &str) {
    for component in new {
        let deployment = format!("deployment/demo-{component}");
        let exists = async || cluster.try_kubectl(&["get", &deployment]).await.is_ok();
        cluster.wait_until(&deployment, TIMEOUT, exists).await;
        cluster.cluster.wait_until_ready(NAMESPACE, &deployment).await.unwrap();
    }
    let selector = format!("app.kubernetes.io/instance=demo,app.kubernetes.io/component={old}");
    let gone = async || cluster.pods(NAMESPACE, &selector).await.is_empty();
    cluster.wait_until(&format!("end of {old}"), TIMEOUT, gone).await;
}

async fn create_bystanders(cluster: &TestCluster) {
    for namespace in ["shop", "monitoring", "dragonfly-operator-system", "neighbour"] {
        cluster.create_restricted_namespace(namespace).await;
    }
    let pods: Vec<Value> = BYSTANDERS
        .iter()
        .map(|(role, namespace, labels)| {
            let mut all = json!({ BYSTANDER: role });
            for (name, value) in *labels {
                all[name] = json!(value);
            }
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": role, "namespace": namespace, "labels": all },
                "spec": {
                    "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "pause", "image": "testbed/pause:1", "imagePullPolicy": "Never",
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                    }],
                },
            })
        })
        .collect();
    let manifest = json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string();
    cluster.cluster.control_plane().kubectl_with_input(["apply", "--filename=-"], &manifest).await.unwrap();
    for (role, namespace, _) in BYSTANDERS {
        let selector = format!("{BYSTANDER}={role}");
        let runs = async || cluster.pods(namespace, &selector).await.iter().any(runs);
        cluster.wait_until(&format!("{role} in {namespace}"), TIMEOUT, runs).await;
    }
}

async fn delete_bystanders(cluster: &TestCluster) {
    let kubectl = cluster.cluster.control_plane();
    kubectl.kubectl(["delete", "pods", "--all-namespaces", "--selector", BYSTANDER]).await.unwrap();
    kubectl
        .kubectl(["delete", "namespaces", "shop", "monitoring", "dragonfly-operator-system", "neighbour"])
        .await
        .unwrap();
}

fn runs(pod: &Value) -> bool {
    at(pod, "/status/phase") == "Running" && at(pod, "/metadata/deletionTimestamp").is_null()
}

/// Tries all connections until they are as the table says, because policies and pods reach the nodes with a delay.
async fn check(cluster: &TestCluster, policies: Policies) {
    let started = Instant::now();
    loop {
        let peers = peers(cluster).await;
        let (allowed, refused, wrong) = tokio::task::block_in_place(|| try_all(&peers, policies));
        if wrong.is_empty() {
            println!("policies {policies:?}: {allowed} connections work, {refused} are refused");
            assert!(allowed > 0 && refused > 0, "nothing was compared");
            return;
        }
        let (number, first) = (wrong.len(), wrong[..wrong.len().min(SHOWN)].join("\n"));
        assert!(
            started.elapsed() < TIMEOUT,
            "policies {policies:?}: {number} connections are wrong, the first:\n{first}"
        );
    }
}

/// Every pod of the table, this machine, the nodes, and the API server, which runs on this machine.
async fn peers(cluster: &TestCluster) -> Vec<Peer> {
    let mut peers = Vec::new();
    let bystanders = BYSTANDERS.map(|(role, namespace, _)| (role, namespace, format!("{BYSTANDER}={role}")));
    let others = PODS.map(|(role, namespace, selector)| (role, namespace, selector.to_owned()));
    for (role, namespace, selector) in others.into_iter().chain(bystanders) {
        peers.extend(cluster.pods(namespace, &selector).await.iter().filter(|pod| runs(pod)).map(|pod| {
            let text = |pointer: &str| at(pod, pointer).as_str().unwrap().to_owned();
            Peer {
                name: text("/metadata/name"),
                role,
                namespace: namespace.to_owned(),
                node: text("/spec/nodeName"),
                address: Some(text("/status/podIP").parse().unwrap()),
                process: Some(process_of(pod)),
                ports: &PORTS,
            }
        }));
    }
    let other = |name: String, role, process| Peer {
        node: name.clone(),
        name,
        role,
        namespace: String::new(),
        address: None,
        process,
        ports: &[],
    };
    for node in cluster.cluster.nodes() {
        peers.push(other(node.name(), "node", node.pid().map(|pid| pid.number())));
    }
    peers.push(other("this machine".to_owned(), "machine", None));
    let url = cluster.cluster.control_plane().url();
    let address = url.trim_start_matches("https://").split(':').next().and_then(|host| host.parse().ok());
    peers.push(Peer { address, ports: &[API_SERVER], ..other("the API server".to_owned(), "api-server", None) });
    peers
}

/// Tries every port of every peer from every other one. Returns how many connections worked and failed as they have to, and the others.
fn try_all(peers: &[Peer], policies: Policies) -> (usize, usize, Vec<String>) {
    let targets: Vec<(&Peer, IpAddr)> = peers.iter().filter_map(|peer| Some((peer, peer.address?))).collect();
    let listeners: Vec<Vec<TcpListener>> =
        targets.iter().filter_map(|(peer, _)| Some(listen(peer.process?, peer.ports))).collect();
    let (mut allowed, mut refused, mut wrong) = (0, 0, Vec::new());
    let sources: Vec<&Peer> = peers.iter().filter(|peer| peer.role != "api-server").collect();
    for some in sources.chunks(SOURCES) {
        let started: Vec<_> = some
            .iter()
            .map(|source| {
                let others = targets.iter().filter(|(target, _)| target.name != source.name);
                let tries: Vec<(&Peer, IpAddr, u16)> = others
                    .flat_map(|(target, address)| target.ports.iter().map(|port| (*target, *address, *port)))
                    .collect();
                let addresses = tries.iter().map(|(_, address, port)| (*address, *port)).collect();
                (source, tries, connect(source.process, addresses))
            })
            .collect();
        for (source, tries, connected) in started {
            for ((target, _, port), works) in tries.into_iter().zip(connected.join().unwrap()) {
                let reason = why_allowed(policies, source.place(), target.place(), port);
                let what = format!("{} ({}) to {} ({}):{port}", source.name, source.role, target.name, target.role);
                match (works, reason) {
                    (true, Some(_)) => allowed += 1,
                    (false, None) => refused += 1,
                    (true, None) => wrong.push(format!("works and must not: {what}")),
                    (false, Some(reason)) => wrong.push(format!("fails and must work: {what}: {reason}")),
                }
            }
        }
        listeners.iter().for_each(|listeners| drain(listeners));
    }
    (allowed, refused, wrong)
}
