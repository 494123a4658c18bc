//! The rendered NetworkPolicies, evaluated for every pair of pods and every port: the flows of the architecture diagram work, and all
//! others fail, also those from pods that carry the labels of others in another namespace.

use std::collections::BTreeSet;

use ping_api::{
    crd::{PingPipeline, workload::ServerRole},
    kinds::Kind,
};
use ping_operator::{build::build, validate::validate};
use serde_json::{Value, json};

use crate::fixture::{demo, empty, object};

const PORTS: [i64; 9] = [53, 5432, 6379, 8000, 8080, 8081, 9093, 9187, 9999];
/// The namespace of the pipeline.
const HOME: &str = "default";

/// A pod; its name says what it is.
#[derive(Clone, Debug)]
struct Pod {
    name: String,
    namespace: &'static str,
    labels: Value,
}

fn pod(name: &str, namespace: &'static str, labels: Value) -> Pod {
    Pod { name: name.into(), namespace, labels }
}

fn component(pipeline: &str, component: &str) -> Pod {
    let labels = json!({
        "app.kubernetes.io/name": "ping", "app.kubernetes.io/instance": pipeline, "app.kubernetes.io/component": component,
    });
    pod(component, HOME, labels)
}

/// The labels that the Dragonfly operator gives to its pods, and those that we ask it for.
fn cache_labels() -> Value {
    let mut labels = object(&demo(), &empty(), Kind::Dragonfly, "demo-cache")["spec"]["podMetadata"]["labels"].clone();
    for (name, value) in
        [("app", "demo-cache"), ("app.kubernetes.io/name", "dragonfly"), ("app.kubernetes.io/part-of", "dragonfly")]
    {
        let before = labels[name].take();
        assert!(
            before.is_null(),
            "the Dragonfly operator refuses this object, because it sets the label {name} itself"
        );
        labels[name] = json!(value);
    }
    labels
}

/// The pods of the pipeline, and those of other operators and callers.
fn honest(servers: &[&str]) -> Vec<Pod> {
    let mut pods: Vec<Pod> = servers.iter().chain(&["processor"]).map(|name| component("demo", name)).collect();
    pods.extend([
        pod("postgres", HOME, json!({ "cnpg.io/cluster": "demo-postgres", "cnpg.io/podRole": "instance" })),
        pod("cache", HOME, cache_labels()),
        pod("kafka", HOME, json!({ "strimzi.io/cluster": "demo-kafka" })),
        pod("operator", "ping-system", json!({ "app.kubernetes.io/name": "ping-operator" })),
        pod("cloudnative-pg", "cnpg-system", json!({ "app.kubernetes.io/name": "cloudnative-pg" })),
        pod("dragonfly-operator", "dragonfly-operator-system", json!({ "control-plane": "controller-manager" })),
        pod("prometheus", "monitoring", json!({ "app.kubernetes.io/name": "prometheus" })),
        pod("client", "shop", json!({ "app": "shop" })),
        pod("dns", "kube-system", json!({ "k8s-app": "kube-dns" })),
    ]);
    pods
}

/// Every honest pod again in another namespace, a pod without labels, one of another pipeline and one with the label `app` of the cache next
/// to the honest ones, and a pod in the namespace of each other operator.
fn hostile(honest: &[Pod]) -> Vec<Pod> {
    let mut pods: Vec<Pod> = honest
        .iter()
        .map(|honest| Pod { name: format!("{} in evil", honest.name), namespace: "evil", ..honest.clone() })
        .collect();
    for namespace in [HOME, "ping-system", "cnpg-system"] {
        pods.push(pod(&format!("stranger in {namespace}"), namespace, json!({})));
    }
    for name in ["server", "processor"] {
        pods.push(Pod { name: format!("{name} of other"), ..component("other", name) });
    }
    pods.push(pod("namesake of the cache", HOME, json!({ "app": "demo-cache" })));
    pods
}

/// The policies of the pipeline, and what Strimzi makes of the peers of its listener.
fn policies(pipeline: &PingPipeline) -> Vec<Value> {
    let mut state = empty();
    state.platform.operator_namespace = Some("ping-system".into());
    let desired = build(&validate(pipeline, &state).unwrap());
    let of_kind = |kind: &str| -> Vec<Value> {
        let found = desired.objects.iter().filter(|object| object.key.kind.name() == kind);
        found.map(|object| object.to_json().unwrap()).collect()
    };
    let mut policies: Vec<Value> = of_kind("NetworkPolicy").iter().map(|policy| policy["spec"].clone()).collect();
    for dragonfly in of_kind("Dragonfly") {
        assert_eq!(dragonfly["spec"]["networkPolicyEnabled"], false, "policies add up");
    }
    let kafka = of_kind("Kafka").remove(0);
    let listener = &kafka["spec"]["kafka"]["listeners"][0];
    policies.push(json!({
        "podSelector": { "matchLabels": { "strimzi.io/cluster": "demo-kafka" } }, "policyTypes": ["Ingress"],
        "ingress": [{ "from": listener["networkPolicyPeers"], "ports": [{ "port": listener["port"], "protocol": "TCP" }] }],
    }));
    policies
}

/// True if `labels` match a label selector.
fn selects(selector: &Value, labels: &Value) -> bool {
    let known = ["matchLabels", "matchExpressions"];
    assert!(selector.as_object().unwrap().keys().all(|field| known.contains(&field.as_str())), "{selector}");
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(name, value)| &labels[name] == value);
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal
        && expressions.into_iter().all(|one| {
            let key = one["key"].as_str().unwrap();
            match one["operator"].as_str().unwrap() {
                "In" => one["values"].as_array().unwrap().contains(&labels[key]),
                "Exists" => !labels[key].is_null(),
                other => panic!("the evaluator does not know {other}"),
            }
        })
}

/// True if a rule's `from` or `to` (none means anyone) contains `pod`; `home` is the namespace of the policy.
fn contains(peers: &Value, pod: &Pod, home: &str) -> bool {
    let Some(peers) = peers.as_array() else { return true };
    peers.iter().any(|peer| {
        let namespace = match &peer["namespaceSelector"] {
            Value::Null => pod.namespace == home,
            selector => selects(selector, &json!({ "kubernetes.io/metadata.name": pod.namespace })),
        };
        namespace && (peer["podSelector"].is_null() || selects(&peer["podSelector"], &pod.labels))
    })
}

/// True if the policies of `subject` in one direction allow `port` with `other`.
fn allows(policies: &[Value], kind: &str, subject: &Pod, other: &Pod, port: i64) -> bool {
    let (rules, peers) = if kind == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
    let applies = |policy: &&Value| {
        let types = policy["policyTypes"].as_array().unwrap();
        subject.namespace == HOME && types.contains(&json!(kind)) && selects(&policy["podSelector"], &subject.labels)
    };
    let mut applicable = policies.iter().filter(applies).peekable();
    if applicable.peek().is_none() {
        return true;
    }
    applicable.flat_map(|policy| policy[rules].as_array().into_iter().flatten()).any(|rule| {
        let ports = rule["ports"].as_array().unwrap();
        ports.iter().any(|one| one["port"] == port) && contains(&rule[peers], other, HOME)
    })
}

/// The flows that a pipeline with these servers needs, as (from, to, port).
fn needed(servers: &[&str], clients: &[&str], scrapers: &[&str]) -> BTreeSet<(String, String, i64)> {
    let mut flows: Vec<(&str, &str, i64)> = Vec::new();
    for server in servers {
        flows.extend(clients.iter().chain(&["operator"]).map(|client| (*client, *server, 8080)));
        flows.extend(scrapers.iter().map(|scraper| (*scraper, *server, 8081)));
        flows.extend([(*server, "postgres", 5432), (*server, "dns", 53)]);
        if *server != "query" {
            flows.push((server, "kafka", 9093));
        }
        if *server != "ingest" {
            flows.push((server, "cache", 6379));
        }
    }
    flows.extend(scrapers.iter().flat_map(|scraper| [(*scraper, "processor", 8081), (*scraper, "postgres", 9187)]));
    flows.extend([
        ("processor", "postgres", 5432),
        ("processor", "kafka", 9093),
        ("processor", "cache", 6379),
        ("processor", "dns", 53),
        ("postgres", "postgres", 5432),
        ("postgres", "postgres", 8000),
        ("cloudnative-pg", "postgres", 5432),
        ("cloudnative-pg", "postgres", 8000),
        ("cache", "cache", 6379),
        ("cache", "cache", 9999),
        ("cache", "dns", 53),
        ("dragonfly-operator", "cache", 9999),
    ]);
    flows.into_iter().map(|(from, to, port)| (from.to_owned(), to.to_owned(), port)).collect()
}

/// Every flow that the policies allow from or to a pod that they select.
fn allowed(policies: &[Value], pods: &[Pod]) -> BTreeSet<(String, String, i64)> {
    let is_restricted = |pod: &Pod, kind: &str| {
        pod.namespace == HOME
            && policies.iter().any(|policy| {
                policy["policyTypes"].as_array().unwrap().contains(&json!(kind))
                    && selects(&policy["podSelector"], &pod.labels)
            })
    };
    let mut flows = BTreeSet::new();
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        if !is_restricted(from, "Egress") && !is_restricted(to, "Ingress") {
            continue;
        }
        for port in PORTS {
            if allows(policies, "Egress", from, to, port) && allows(policies, "Ingress", to, from, port) {
                flows.insert((from.name.clone(), to.name.clone(), port));
            }
        }
    }
    flows
}

fn assert_exactly(pipeline: &PingPipeline, servers: &[&str], needed: &BTreeSet<(String, String, i64)>) {
    let honest = honest(servers);
    let mut pods = honest.clone();
    pods.extend(hostile(&honest));
    let allowed = allowed(&policies(pipeline), &pods);
    let missing: Vec<_> = needed.difference(&allowed).collect();
    let open: Vec<_> = allowed.difference(needed).collect();
    assert!(missing.is_empty(), "needed and not allowed: {missing:?}");
    assert!(open.is_empty(), "allowed and not needed: {open:?}");
}

fn restricted() -> PingPipeline {
    let mut pipeline = demo();
    let name = |name: &str| [("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into();
    pipeline.spec.network_policy.client_namespaces = name("shop");
    pipeline.spec.network_policy.metrics_namespaces = name("monitoring");
    pipeline
}

#[test]
fn flows_of_the_architecture_work_and_all_others_fail() {
    assert_exactly(&restricted(), &["server"], &needed(&["server"], &["client"], &["prometheus"]));
}

#[test]
fn the_same_holds_for_separate_ingest_and_query_servers() {
    let mut pipeline = restricted();
    pipeline.spec.server.query = Some(ServerRole::default());
    let servers = ["ingest", "query"];
    assert_exactly(&pipeline, &servers, &needed(&servers, &["client"], &["prometheus"]));
}

/// By default anyone may call the servers, and metrics are read in the pipeline's namespace only.
#[test]
fn by_default_only_the_api_is_open_to_other_namespaces() {
    let honest = honest(&["server"]);
    let mut pods = honest.clone();
    pods.extend(hostile(&honest));
    // Their own egress policies confine these.
    let confined = |pod: &&Pod| !["server", "processor", "cache"].contains(&&*pod.name);
    let everyone: Vec<&str> = pods.iter().filter(confined).map(|pod| pod.name.as_str()).collect();
    let home = pods.iter().filter(confined).filter(|pod| pod.namespace == HOME);
    let home: Vec<&str> = home.map(|pod| pod.name.as_str()).collect();
    assert_exactly(&demo(), &["server"], &needed(&["server"], &everyone, &home));
}

#[test]
fn servers_and_processors_reach_the_collector_of_traces() {
    let mut pipeline = restricted();
    pipeline.spec.tracing.endpoint = Some("http://collector.observability:4317".into());
    let reaches = |policy: &&Value| {
        let ports = json!([{ "port": 4317, "protocol": "TCP" }]);
        policy["egress"].as_array().into_iter().flatten().any(|rule| rule["ports"] == ports && rule["to"].is_null())
    };
    let component = |policy: &Value| policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"].clone();
    let policies = policies(&pipeline);
    let reaching: Vec<_> = policies.iter().filter(reaches).map(component).collect();
    assert_eq!(reaching, ["server", "processor"]);
}

/// The evaluator notices a hole: a peer without a namespace.
#[test]
fn a_peer_that_is_not_pinned_is_noticed() {
    let mut policies = policies(&restricted());
    for policy in &mut policies {
        let text = policy.to_string().replace(r#"{"matchLabels":{"kubernetes.io/metadata.name":"cnpg-system"}}"#, "{}");
        *policy = serde_json::from_str(&text).unwrap();
    }
    let honest = honest(&["server"]);
    let mut pods = honest.clone();
    pods.extend(hostile(&honest));
    let hole = ("cloudnative-pg in evil".to_owned(), "postgres".to_owned(), 8000);
    assert!(allowed(&policies, &pods).contains(&hole));
}
