//! NetworkPolicies that admit only the traffic that a pipeline needs. Strimzi restricts access to Kafka (the listener lists its
//! peers), and the Dragonfly operator restricts access to the cache (port 6379 from the same namespace).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use ping_api::{kinds::Kind, names::OPERATOR, roles::Role};

use super::metadata::{metadata, selector};
use crate::{
    desired::Desired,
    external::cnpg::pods_of,
    pipeline::{Cache, KafkaMode, Pipeline, Postgres},
};

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    if !pipeline.network_policy.enabled {
        return;
    }
    let metrics = from(vec![namespaces(&pipeline.network_policy.metrics_namespaces)], &[8081]);
    let clients = match pipeline.network_policy.client_namespaces.is_empty() {
        true => NetworkPolicyIngressRule { from: None, ports: Some(vec![tcp(8080)]) },
        false => from(vec![namespaces(&pipeline.network_policy.client_namespaces), operator()], &[8080]),
    };
    let pods = |component: &str| selector(pipeline.names.selector(component));
    for role in pipeline.servers.iter().map(|servers| servers.role) {
        let (component, ingress) = (role.component(), vec![clients.clone(), metrics.clone()]);
        let egress = egress(pipeline, role.ingests(), role.queries());
        push(pipeline, component, pods(component), ingress, Some(egress), desired);
    }
    push(pipeline, "processor", pods("processor"), vec![metrics], Some(egress(pipeline, true, true)), desired);
    if let Postgres::Cluster(_) = pipeline.postgres {
        let pods = pods_of(&pipeline.names.postgres());
        push(pipeline, "postgres", pods.clone(), postgres_ingress(pipeline, pods), None, desired);
    }
}

fn push(
    pipeline: &Pipeline,
    component: &str,
    pods: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Option<Vec<NetworkPolicyEgressRule>>,
    desired: &mut Desired,
) {
    let name = pipeline.names.part(component);
    let mut types = vec!["Ingress".to_owned()];
    types.extend(egress.iter().map(|_| "Egress".to_owned()));
    let policy = NetworkPolicy {
        metadata: metadata(pipeline, &name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            ingress: Some(ingress),
            egress,
            policy_types: Some(types),
        }),
    };
    desired.push(Kind::NetworkPolicy, &pipeline.names.namespace, &name, policy);
}

/// The operator, which requests stats from servers.
fn operator() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(selector([("app.kubernetes.io/name".to_owned(), OPERATOR.to_owned())].into())),
        ip_block: None,
    }
}

/// Servers in either layout, processors, other instances, the CloudNativePG operator (which uses the status port 8000), and
/// metrics.
fn postgres_ingress(pipeline: &Pipeline, pods: LabelSelector) -> Vec<NetworkPolicyIngressRule> {
    let client = |component| pod_peer(selector(pipeline.names.selector(component)));
    let servers = Role::ALL.into_iter().map(|role| client(role.component()));
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(selector([("app.kubernetes.io/name".to_owned(), "cloudnative-pg".to_owned())].into())),
        ip_block: None,
    };
    vec![
        from(servers.chain([client("processor")]).collect(), &[5432]),
        from(vec![pod_peer(pods)], &[5432, 8000]),
        from(vec![operator], &[5432, 8000]),
        from(vec![namespaces(&pipeline.network_policy.metrics_namespaces)], &[9187]),
    ]
}

/// DNS and Postgres, and Kafka and the cache where they are needed.
fn egress(pipeline: &Pipeline, kafka: bool, cache: bool) -> Vec<NetworkPolicyEgressRule> {
    let dns = NetworkPolicyEgressRule {
        to: Some(vec![namespaces(&BTreeMap::new())]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    };
    let postgres = match &pipeline.postgres {
        Postgres::Cluster(_) => to(pod_peer(pods_of(&pipeline.names.postgres())), 5432),
        Postgres::External(external) => to_any(external.port),
    };
    let mut rules = vec![dns, postgres];
    if kafka {
        rules.extend(kafka_egress(pipeline));
    }
    if cache {
        rules.push(match &pipeline.cache {
            Cache::Dragonfly(_) => to(pod_peer(selector([("app".to_owned(), pipeline.names.cache())].into())), 6379),
            Cache::External(external) => to_any(port_of(&external.url).unwrap_or(6379)),
        });
    }
    rules
}

fn kafka_egress(pipeline: &Pipeline) -> Vec<NetworkPolicyEgressRule> {
    let brokers = pipeline.kafka.connection.as_ref().map_or("", |connection| connection.brokers.as_str());
    let mut ports: Vec<i32> = brokers.split(',').filter_map(port_of).collect();
    ports.sort_unstable();
    ports.dedup();
    let cluster = |name: &str| selector([("strimzi.io/cluster".to_owned(), name.to_owned())].into());
    let peer = match &pipeline.kafka.mode {
        KafkaMode::External(_) => return ports.into_iter().map(to_any).collect(),
        KafkaMode::Managed(_) => pod_peer(cluster(&pipeline.names.kafka())),
        KafkaMode::Shared(reference) => NetworkPolicyPeer {
            namespace_selector: Some(selector(
                [("kubernetes.io/metadata.name".to_owned(), reference.namespace.clone())].into(),
            )),
            pod_selector: Some(cluster(&reference.name)),
            ip_block: None,
        },
    };
    ports.into_iter().map(|port| to(peer.clone(), port)).collect()
}

/// The port of `host:port` or of a URL.
fn port_of(address: &str) -> Option<i32> {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    authority.rsplit_once(':')?.1.parse().ok()
}

fn namespaces(labels: &BTreeMap<String, String>) -> NetworkPolicyPeer {
    let namespaces = if labels.is_empty() { LabelSelector::default() } else { selector(labels.clone()) };
    NetworkPolicyPeer { namespace_selector: Some(namespaces), ..NetworkPolicyPeer::default() }
}

fn pod_peer(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(pods), ..NetworkPolicyPeer::default() }
}

fn from(peers: Vec<NetworkPolicyPeer>, ports: &[i32]) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from: Some(peers), ports: Some(ports.iter().map(|port| tcp(*port)).collect()) }
}

fn to(peer: NetworkPolicyPeer, port: i32) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(vec![peer]), ports: Some(vec![tcp(port)]) }
}

fn to_any(port: i32) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: None, ports: Some(vec![tcp(port)]) }
}

fn tcp(number: i32) -> NetworkPolicyPort {
    port("TCP", number)
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(number)), protocol: Some(protocol.into()), end_port: None }
}
