//! Strangers: anyone who reaches the servers and processors without credentials gets answers about health and nothing else. From the node, and
//! from pods of the same and of another namespace; with NetworkPolicies and without.

use std::time::Duration;

use futures::future::join_all;

use crate::{
    at,
    network_namespace::process_of,
    test_cluster::{NAMESPACE, TestCluster},
};

/// Time for a change of policies to have its effect on the nodes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Method, port and path.
type Request = (&'static str, u16, &'static str);

/// What answers everyone.
const HEALTH: [Request; 3] =
    [("POST", 8080, "/grpc.health.v1.Health/Check"), ("GET", 8081, "/healthz"), ("GET", 8081, "/readyz")];

/// What does not.
const PROTECTED: [Request; 11] = [
    ("POST", 8080, "/ping.v1.PingService/Ping"),
    ("POST", 8080, "/ping.v1.PingService/PingCount"),
    ("POST", 8080, "/ping.v1.EventService/Record"),
    ("POST", 8080, "/ping.v1.EventService/RecordBatch"),
    ("POST", 8080, "/ping.v1.SourceService/TopSources"),
    ("POST", 8080, "/ping.v1.SourceService/GetStatus"),
    ("POST", 8080, "/ping.v1.AdminService/Verify"),
    ("GET", 8080, "/"),
    ("GET", 8080, "/metrics"),
    ("POST", 8081, "/ping.v1.AdminService/Verify"),
    ("GET", 8081, "/metrics"),
];

/// From where a request is sent.
struct Origin {
    name: &'static str,
    /// A process in the network namespace; none for that of the node on which the requested pod runs.
    process: Option<i32>,
}

pub(crate) async fn only_health_endpoints_answer_without_credentials(cluster: &TestCluster) {
    for policies in [true, false] {
        set_policies(cluster, policies).await;
        let mut refused = 0;
        for origin in origins(cluster).await {
            for component in ["server", "processor"] {
                refused += check(cluster, &origin, component, policies).await;
            }
        }
        println!("policies {policies}: {refused} requests without credentials were refused");
        assert!(refused > 0, "nothing was reachable at all");
    }
    set_policies(cluster, true).await;
    plaintext_is_refused(cluster).await;
}

async fn set_policies(cluster: &TestCluster, enabled: bool) {
    cluster.patch(&format!(r#"{{"spec": {{"networkPolicy": {{"enabled": {enabled}}}}}}}"#)).await;
    let changed = async || {
        let found = cluster.json(&["get", "networkpolicies", "--selector=pingpipeline.io/pipeline=demo"]).await;
        found["items"].as_array().is_some_and(Vec::is_empty) != enabled
    };
    cluster.wait_until("NetworkPolicies as in the spec", TIMEOUT, changed).await;
}

async fn origins(cluster: &TestCluster) -> [Origin; 3] {
    let process = async |namespace: &str, selector: &str| {
        Some(process_of(cluster.pods(namespace, selector).await.first().expect("a pod")))
    };
    [
        Origin { name: "the node", process: None },
        Origin { name: "a pod of the namespace", process: process(NAMESPACE, "app=demo-cache").await },
        Origin {
            name: "a pod of another namespace",
            process: process("cnpg-system", "app.kubernetes.io/name=cloudnative-pg").await,
        },
    ]
}

/// Sends every request to each pod of `component`, and returns how many were refused for lack of credentials.
async fn check(cluster: &TestCluster, origin: &Origin, component: &str, policies: bool) -> usize {
    // The node is the kubelet's and never blocked.
    let is_open = !policies || origin.process.is_none();
    let must_answer = |port| is_open && (component == "server" || port == 8081);
    let pods = cluster.pods(NAMESPACE, &format!("app.kubernetes.io/component={component}")).await;
    assert!(!pods.is_empty(), "no {component} runs");
    let mut refused = 0;
    for pod in pods {
        let process = origin.process.or_else(|| cluster.node_of(&pod)).expect("a running node");
        let address = at(&pod, "/status/podIP").as_str().unwrap();
        let send = |request| status_of(cluster, process, "https", address, request);
        if is_open {
            let answers = async || send(HEALTH[1]).await == 200;
            cluster.wait_until(&format!("answer of {component} to {}", origin.name), TIMEOUT, answers).await;
        }
        for ((_, port, path), status) in PROTECTED.into_iter().zip(join_all(PROTECTED.map(send)).await) {
            // 404: there is no such path, for anyone. 0: a NetworkPolicy is in the way, or the pod has no such port.
            let is_refused = [401, 404].contains(&status) || (status == 0 && !must_answer(port));
            assert!(is_refused, "{}: {component} {port}{path} answered {status}", origin.name);
            refused += usize::from(status == 401);
        }
        for ((_, port, path), status) in HEALTH.into_iter().zip(join_all(HEALTH.map(send)).await) {
            if must_answer(port) {
                assert_eq!(status, 200, "{}: {component} {port}{path}", origin.name);
            }
        }
    }
    refused
}

async fn plaintext_is_refused(cluster: &TestCluster) {
    for pod in cluster.pods(NAMESPACE, "app.kubernetes.io/component=server").await {
        let process = cluster.node_of(&pod).expect("a running node");
        let address = at(&pod, "/status/podIP").as_str().unwrap();
        for request in PROTECTED.into_iter().chain(HEALTH) {
            let status = status_of(cluster, process, "http", address, request).await;
            assert!([0, 400].contains(&status), "{request:?} in plaintext answered {status}");
        }
    }
}

/// HTTP status without credentials; 0 if there is no connection within three seconds.
async fn status_of(
    cluster: &TestCluster,
    process: i32,
    scheme: &str,
    address: &str,
    (method, port, path): Request,
) -> u16 {
    let url = format!("{scheme}://{address}:{port}{path}");
    // -k: a stranger does not need to verify the server.
    let mut command = vec!["-sk", "--connect-timeout", "3", "--max-time", "10", "-o", "/dev/null"];
    command.extend(["-w", "%{http_code}", "-H", "Content-Type: application/json", "-X", method, &url]);
    if method == "POST" {
        command.extend(["-d", "{}"]);
    }
    let output = cluster.try_run_from(process, "curl", &command).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.trim().parse().unwrap_or_else(|_| panic!("{command:?}: {output:?}"))
}

/// Reads the metrics of all servers and processors with their token, as Prometheus does, from where `process` is.
pub(crate) async fn metrics_are_read_with_their_token(cluster: &TestCluster, process: i32) {
    let template = "--output=go-template={{.data.token | base64decode}}";
    let token = cluster.kubectl(&["get", "secret", "demo-metrics-token", template]).await;
    let authorization = format!("Authorization: Bearer {token}");
    let components = "app.kubernetes.io/name=ping,app.kubernetes.io/instance=demo";
    let pods = cluster.pods(NAMESPACE, components).await;
    assert!(!pods.is_empty(), "no pod has labels {components}");
    for pod in pods {
        let url = format!("https://{}:8081/metrics", at(&pod, "/status/podIP").as_str().unwrap());
        let command = ["-skS", "--fail", "--max-time", "10", "-H", &authorization, &url];
        let output = cluster.try_run_from(process, "curl", &command).await;
        let metrics = String::from_utf8_lossy(&output.stdout);
        assert!(metrics.contains("\n# TYPE ping_"), "{}: {output:?}", at(&pod, "/metadata/name"));
    }
}
