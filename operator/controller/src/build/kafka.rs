//! The Strimzi Kafka cluster, its node pools, topics and users.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Affinity, PodAffinityTerm, PodAntiAffinity, WeightedPodAffinityTerm},
        networking::v1::NetworkPolicyPeer,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use ping_api::{
    crd::{
        DeletionPolicy,
        kafka::{KafkaCluster, NodePool},
    },
    kinds::{Key, Kind},
    roles::Role,
};
use serde_json::{Value, json};

use super::metadata::{data_metadata, in_namespace, metadata, resources, selector};
use crate::{
    desired::Desired,
    external::{
        ExternalObject,
        strimzi::{
            Acl, AclResource, Authorization, Empty, EntityOperator, KafkaBrokers, KafkaSpec, Listener, NodePoolSpec,
            PoolPod, PoolStorage, PoolTemplate, TopicSpec, Typed, UserSpec, Volume,
        },
    },
    pipeline::{Authentication, CleanupPolicy, KafkaMode, Pipeline, SharedKafka, Topic},
};

const COMPONENT: &str = "kafka";
/// Strimzi's label for the Kafka cluster of an object. Strimzi ignores topics without it.
pub(crate) const CLUSTER_LABEL: &str = "strimzi.io/cluster";
/// Time after which a compacted topic closes a segment, in milliseconds (one hour).
const SEGMENT_MS: i64 = 3_600_000;
/// A compacted topic is compacted when at least this fraction of it is new.
const CLEANABLE_RATIO: f64 = 0.1;

/// Consumer group of the processors.
#[must_use]
pub(super) fn consumer_group(pipeline: &Pipeline) -> String {
    format!("{}.{}.processor", pipeline.names.namespace, pipeline.names.pipeline)
}

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    match &pipeline.kafka.mode {
        KafkaMode::External(_) => {}
        KafkaMode::Managed(cluster) => {
            let name = pipeline.names.kafka();
            managed_cluster(pipeline, cluster, &name, desired);
            topics(pipeline, &name, &pipeline.names.namespace, desired);
            let user = |role: &str| pipeline.names.kafka_credentials(role);
            users(pipeline, &name, &pipeline.names.namespace, (Authentication::Scram, true), user, desired);
        }
        KafkaMode::Shared(reference) => shared_cluster(pipeline, reference, desired),
    }
}

fn shared_cluster(pipeline: &Pipeline, reference: &SharedKafka, desired: &mut Desired) {
    let namespace = &reference.namespace;
    topics(pipeline, &reference.name, namespace, desired);
    let user = |role: &str| format!("{}-{role}", pipeline.names.unique());
    match (reference.authentication, reference.authorization) {
        (None, _) => {
            for role in ["server", "processor"] {
                desired.keep(Key::new(Kind::KafkaUser, namespace, user(role)));
            }
        }
        (Some(Authentication::None), false) => {}
        (Some(authentication), authorization) => {
            users(pipeline, &reference.name, namespace, (authentication, authorization), user, desired);
        }
    }
}

fn managed_cluster(pipeline: &Pipeline, cluster: &KafkaCluster, name: &str, desired: &mut Desired) {
    let namespace = &pipeline.names.namespace;
    let combined = cluster.controllers.is_none();
    let pools = [
        cluster.controllers.as_ref().map(|pool| ("controller", pool, vec!["controller"])),
        Some(("broker", &cluster.brokers, if combined { vec!["controller", "broker"] } else { vec!["broker"] })),
    ];
    for (part, pool, roles) in pools.into_iter().flatten() {
        let pool_name = pipeline.names.part(part);
        let spec = node_pool(pipeline, pool, &pool_name, roles);
        let metadata = in_cluster(data_metadata(pipeline, &pool_name, COMPONENT), name);
        desired.push(Kind::KafkaNodePool, namespace, &pool_name, ExternalObject { metadata, spec });
    }
    let spec = KafkaSpec {
        kafka: KafkaBrokers {
            version: cluster.version.clone(),
            listeners: vec![listener(pipeline)],
            authorization: Typed { kind: "simple" },
            config: broker_config(pipeline, cluster.brokers.replicas),
        },
        entity_operator: EntityOperator { topic_operator: Empty {}, user_operator: Empty {} },
    };
    desired.push(
        Kind::Kafka,
        namespace,
        name,
        ExternalObject { metadata: data_metadata(pipeline, name, COMPONENT), spec },
    );
}

/// The listener admits only processors and ingest servers of this pipeline, in either server layout.
fn listener(pipeline: &Pipeline) -> Listener {
    let peer = |component: &str| NetworkPolicyPeer {
        pod_selector: Some(selector(pipeline.names.selector(component))),
        ..NetworkPolicyPeer::default()
    };
    let peers = match pipeline.network_policy.enabled {
        true => Role::ALL
            .into_iter()
            .filter(|role| role.ingests())
            .map(|role| peer(role.component()))
            .chain([peer("processor")])
            .collect(),
        false => Vec::new(),
    };
    Listener {
        name: "tls",
        port: 9093,
        kind: "internal",
        tls: true,
        authentication: Typed { kind: "scram-sha-512" },
        network_policy_peers: peers,
    }
}

fn broker_config(pipeline: &Pipeline, brokers: i32) -> BTreeMap<&'static str, Value> {
    let replicas = pipeline.kafka.topic.replicas.min(brokers);
    let in_sync = pipeline.kafka.topic.min_in_sync_replicas.min(replicas);
    [
        ("auto.create.topics.enable", json!(false)),
        ("default.replication.factor", json!(replicas)),
        ("min.insync.replicas", json!(in_sync)),
        ("offsets.topic.replication.factor", json!(replicas)),
        ("transaction.state.log.replication.factor", json!(replicas)),
        ("transaction.state.log.min.isr", json!(in_sync)),
        ("unclean.leader.election.enable", json!(false)),
    ]
    .into()
}

fn node_pool(pipeline: &Pipeline, pool: &NodePool, name: &str, roles: Vec<&'static str>) -> NodePoolSpec {
    NodePoolSpec {
        replicas: pool.replicas,
        roles,
        storage: PoolStorage {
            kind: "jbod",
            volumes: vec![Volume {
                id: 0,
                kind: "persistent-claim",
                size: pool.storage.size.clone(),
                class: pool.storage.storage_class.clone(),
                delete_claim: pipeline.deletion_policy == DeletionPolicy::Delete,
                kraft_metadata: "shared",
            }],
        },
        resources: resources(&pool.resources),
        template: PoolTemplate { pod: PoolPod { affinity: apart(name) } },
    }
}

/// Prefers a node without another pod of this pool, as CloudNativePG does for Postgres.
fn apart(pool: &str) -> Affinity {
    let pod_affinity_term = PodAffinityTerm {
        label_selector: Some(selector([("strimzi.io/pool-name".to_owned(), pool.to_owned())].into())),
        topology_key: "kubernetes.io/hostname".into(),
        ..PodAffinityTerm::default()
    };
    let anti_affinity = PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
            pod_affinity_term,
            weight: 100,
        }]),
        ..PodAntiAffinity::default()
    };
    Affinity { pod_anti_affinity: Some(anti_affinity), ..Affinity::default() }
}

fn topics(pipeline: &Pipeline, cluster: &str, namespace: &str, desired: &mut Desired) {
    for topic in pipeline.kafka.topics().filter(|topic| topic.own) {
        let metadata =
            in_namespace(in_cluster(data_metadata(pipeline, &topic.object, COMPONENT), cluster), pipeline, namespace);
        desired.push(Kind::KafkaTopic, namespace, &topic.object, ExternalObject { metadata, spec: topic_spec(topic) });
    }
}

fn topic_spec(topic: &Topic) -> TopicSpec {
    let mut config: BTreeMap<_, _> = [("min.insync.replicas", json!(topic.min_in_sync_replicas))].into();
    match topic.cleanup_policy {
        CleanupPolicy::Delete(retention_ms) => {
            config.extend([("cleanup.policy", json!("delete")), ("retention.ms", json!(retention_ms))]);
        }
        // Kafka compacts only closed segments. By default it closes a segment once a week, which is too late for summaries.
        CleanupPolicy::Compact => config.extend([
            ("cleanup.policy", json!("compact")),
            ("segment.ms", json!(SEGMENT_MS)),
            ("min.cleanable.dirty.ratio", json!(CLEANABLE_RATIO)),
        ]),
    }
    TopicSpec { topic_name: topic.name.clone(), partitions: topic.partitions, replicas: topic.replicas, config }
}

fn users(
    pipeline: &Pipeline,
    cluster: &str,
    namespace: &str,
    (authentication, authorization): (Authentication, bool),
    name: impl Fn(&str) -> String,
    desired: &mut Desired,
) {
    for (role, acls) in [("server", server_acls(pipeline)), ("processor", processor_acls(pipeline))] {
        let name = name(role);
        let metadata = in_namespace(in_cluster(metadata(pipeline, &name, COMPONENT), cluster), pipeline, namespace);
        let spec = UserSpec {
            authentication: match authentication {
                Authentication::None => None,
                Authentication::Scram => Some(Typed { kind: "scram-sha-512" }),
                Authentication::Certificate => Some(Typed { kind: "tls" }),
            },
            authorization: authorization.then_some(Authorization { kind: "simple", acls }),
        };
        desired.push(Kind::KafkaUser, namespace, &name, ExternalObject { metadata, spec });
    }
}

fn server_acls(pipeline: &Pipeline) -> Vec<Acl> {
    vec![
        acl("topic", Some(pipeline.kafka.topic.name.clone()), vec!["Describe", "Write"]),
        // For `AdminService.DeadLetters`.
        acl("topic", Some(pipeline.kafka.dead_letter.name.clone()), vec!["Describe", "Read"]),
        acl("cluster", None, vec!["IdempotentWrite"]),
    ]
}

fn processor_acls(pipeline: &Pipeline) -> Vec<Acl> {
    let written = [&pipeline.kafka.dead_letter].into_iter().chain(&pipeline.kafka.minutes);
    let mut acls = vec![acl("topic", Some(pipeline.kafka.topic.name.clone()), vec!["Describe", "Read"])];
    acls.extend(written.map(|topic| acl("topic", Some(topic.name.clone()), vec!["Describe", "Write"])));
    // For `pingd dead-letters`.
    acls.push(acl("topic", Some(pipeline.kafka.dead_letter.name.clone()), vec!["Read"]));
    acls.extend([
        acl("group", Some(consumer_group(pipeline)), vec!["Describe", "Read"]),
        // Consumer group of the per-source views.
        acl("group", Some(consumer_group(pipeline) + "-views"), vec!["Describe", "Read"]),
        acl("cluster", None, vec!["IdempotentWrite"]),
    ]);
    acls
}

fn acl(kind: &'static str, name: Option<String>, operations: Vec<&'static str>) -> Acl {
    let pattern_type = name.as_ref().map(|_| "literal");
    Acl { resource: AclResource { kind, name, pattern_type }, operations }
}

fn in_cluster(mut metadata: ObjectMeta, cluster: &str) -> ObjectMeta {
    metadata.labels.get_or_insert_default().insert(CLUSTER_LABEL.into(), cluster.into());
    metadata
}
