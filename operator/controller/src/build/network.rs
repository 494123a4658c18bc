//! NetworkPolicies that admit only the traffic that a pipeline needs. Peers in other namespaces are selected by the name of their
//! namespace, because anyone may give a pod any label. Strimzi restricts access to Kafka: the listener lists its peers. Policies add up,
//! so the Dragonfly operator makes none of its own, which would admit the whole namespace.

mod peer;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use ping_api::{kinds::Kind, names::OPERATOR, roles::Role};

use self::peer::{from, in_namespace, namespace, namespaces, pods, port, tcp, to, to_any};
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
    let metrics = from(vec![scrapers(pipeline)], &[8081]);
    let clients = match pipeline.network_policy.client_namespaces.is_empty() {
        true => NetworkPolicyIngressRule { from: None, ports: Some(vec![tcp(8080)]) },
        false => {
            let clients = namespaces(&pipeline.network_policy.client_namespaces);
            from([clients].into_iter().chain(operator(pipeline)).collect(), &[8080])
        }
    };
    for role in pipeline.servers.iter().map(|servers| servers.role) {
        let (component, ingress) = (role.component(), vec![clients.clone(), metrics.clone()]);
        let mut egress = egress(pipeline, role.ingests(), role.queries());
        egress.extend(pipeline.security.issuer_ports.iter().map(|port| to_any(*port)));
        push(pipeline, component, own(pipeline, component), ingress, Some(egress), desired);
    }
    let egress = egress(pipeline, true, true);
    push(pipeline, "processor", own(pipeline, "processor"), vec![metrics], Some(egress), desired);
    if let Postgres::Cluster(_) = pipeline.postgres {
        let instances = pods_of(&pipeline.names.postgres());
        push(pipeline, "postgres", instances.clone(), postgres_ingress(pipeline, instances), None, desired);
    }
    if let Cache::Dragonfly(_) = pipeline.cache {
        let egress = vec![dns(pipeline), to(pods(cache_pods(pipeline)), &[6379, 9999])];
        push(pipeline, "cache", cache_pods(pipeline), cache_ingress(pipeline), Some(egress), desired);
    }
}

/// The pods of `component`.
fn own(pipeline: &Pipeline, component: &str) -> LabelSelector {
    selector(pipeline.names.selector(component))
}

/// The pods of the cache: `app` alone may be anyone's label.
fn cache_pods(pipeline: &Pipeline) -> LabelSelector {
    let mut labels = pipeline.names.ownership();
    labels.insert("app".into(), pipeline.names.cache());
    selector(labels)
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

/// Who may read metrics: the given namespaces, or only the pipeline's own.
fn scrapers(pipeline: &Pipeline) -> NetworkPolicyPeer {
    match pipeline.network_policy.metrics_namespaces.is_empty() {
        true => pods(LabelSelector::default()),
        false => namespaces(&pipeline.network_policy.metrics_namespaces),
    }
}

/// The operator, which requests stats from servers; none if it runs outside of the cluster.
fn operator(pipeline: &Pipeline) -> Option<NetworkPolicyPeer> {
    let name = pipeline.platform.operator_namespace.as_ref()?;
    Some(in_namespace(name, selector([("app.kubernetes.io/name".to_owned(), OPERATOR.to_owned())].into())))
}

/// Servers in either layout, processors, other instances, the CloudNativePG operator (which uses the status port 8000), and
/// metrics.
fn postgres_ingress(pipeline: &Pipeline, instances: LabelSelector) -> Vec<NetworkPolicyIngressRule> {
    let clients = Role::ALL.into_iter().map(Role::component).chain(["processor"]);
    let clients = clients.map(|component| pods(own(pipeline, component)));
    let operator = in_namespace(
        &pipeline.platform.cloudnative_pg_namespace,
        selector([("app.kubernetes.io/name".to_owned(), "cloudnative-pg".to_owned())].into()),
    );
    vec![
        from(clients.collect(), &[5432]),
        from(vec![pods(instances)], &[5432, 8000]),
        from(vec![operator], &[5432, 8000]),
        from(vec![scrapers(pipeline)], &[9187]),
    ]
}

/// Servers that answer queries, in either layout, processors, other pods of the cache, and the Dragonfly operator, which uses the admin
/// port 9999. That port needs no password.
fn cache_ingress(pipeline: &Pipeline) -> Vec<NetworkPolicyIngressRule> {
    let servers = Role::ALL.into_iter().filter(|role| role.queries()).map(Role::component);
    let clients = servers.chain(["processor"]).map(|component| pods(own(pipeline, component)));
    vec![
        from(clients.collect(), &[6379]),
        from(vec![pods(cache_pods(pipeline))], &[6379, 9999]),
        from(vec![namespace(&pipeline.platform.dragonfly_namespace)], &[9999]),
    ]
}

fn dns(pipeline: &Pipeline) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(vec![namespace(&pipeline.platform.dns_namespace)]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

/// DNS, Postgres and the collector of traces, and Kafka and the cache where they are needed.
fn egress(pipeline: &Pipeline, kafka: bool, cache: bool) -> Vec<NetworkPolicyEgressRule> {
    let postgres = match &pipeline.postgres {
        Postgres::Cluster(_) => to(pods(pods_of(&pipeline.names.postgres())), &[5432]),
        Postgres::External(external) => to_any(external.port),
    };
    let mut rules = vec![dns(pipeline), postgres];
    rules.extend(pipeline.tracing.endpoint.as_deref().and_then(port_of).map(to_any));
    if kafka {
        rules.extend(kafka_egress(pipeline));
    }
    if cache {
        rules.push(match &pipeline.cache {
            Cache::Dragonfly(_) => to(pods(cache_pods(pipeline)), &[6379]),
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
        KafkaMode::Managed(_) => pods(cluster(&pipeline.names.kafka())),
        KafkaMode::Shared(reference) => in_namespace(&reference.namespace, cluster(&reference.name)),
    };
    ports.into_iter().map(|port| to(peer.clone(), &[port])).collect()
}

/// The port of `host:port` or of a URL.
fn port_of(address: &str) -> Option<i32> {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    authority.rsplit_once(':')?.1.parse().ok()
}
