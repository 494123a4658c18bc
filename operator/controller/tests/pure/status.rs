//! Statuses recorded from the real operators (numbers and texts below are theirs), and the conditions that follow from them.

use ping_api::{
    crd::{
        PingPipeline,
        postgres::Storage,
        status::{PingPipelineStatus, PostgresVolume},
        workload::ServerRole,
    },
    kinds::{Dependency, Kind},
};
use ping_operator::{apply::Applied, cluster_state::ClusterState};
use serde_json::{Value, json};

use crate::fixture::{applied, condition, demo, empty, example, live, status_of};

fn healthy_cluster() -> Value {
    json!({
        "phase": "Cluster in healthy state", "readyInstances": 3, "instances": 3,
        "currentPrimary": "demo-postgres-1", "targetPrimary": "demo-postgres-1",
        "conditions": [{ "type": "Ready", "status": "True", "reason": "ClusterIsReady", "message": "Cluster is Ready" }],
    })
}

fn strimzi_ready() -> Value {
    json!({ "observedGeneration": 1, "conditions": [{ "type": "Ready", "status": "True" }] })
}

fn deployment(ready: i32) -> Value {
    json!({ "observedGeneration": 1, "replicas": ready, "updatedReplicas": ready, "availableReplicas": ready })
}

pub(crate) fn all_ready() -> Vec<(Kind, &'static str, Value)> {
    vec![
        (Kind::Cluster, "demo-postgres", healthy_cluster()),
        (Kind::Kafka, "demo-kafka", strimzi_ready()),
        (Kind::KafkaTopic, "demo-pings", strimzi_ready()),
        (Kind::KafkaTopic, "demo-pings-dead-letter", strimzi_ready()),
        (Kind::KafkaTopic, "demo-ping-minutes", strimzi_ready()),
        (Kind::KafkaUser, "demo-kafka-server", strimzi_ready()),
        (Kind::KafkaUser, "demo-kafka-processor", strimzi_ready()),
        (Kind::Dragonfly, "demo-cache", json!({ "phase": "Ready" })),
        (Kind::Deployment, "demo-server", deployment(3)),
        (Kind::Deployment, "demo-processor", deployment(2)),
    ]
}

pub(crate) fn state() -> ClusterState {
    let pods = json!({ "metadata": { "generation": 1 }, "status": { "observedGeneration": 1, "readyReplicas": 2 } });
    ClusterState { cache_pods: Some(live(Kind::StatefulSet, "default", "demo-cache", pods).1), ..empty() }
}

/// Everything is ready, but for this status.
fn but(kind: Kind, name: &str, status: Value) -> PingPipelineStatus {
    let mut statuses = all_ready();
    statuses.retain(|(there, called, _)| (*there, *called) != (kind, name));
    statuses.push((kind, "", Value::Null));
    let mut world = applied(&demo(), &state(), &statuses);
    let (_, object) = world.live.0.iter_mut().find(|(key, _)| key.kind == kind && key.name == name).unwrap();
    object.data["status"] = status;
    status_of(&demo(), &state(), &world)
}

#[test]
fn ready_when_every_component_is() {
    let status = status_of(&demo(), &state(), &applied(&demo(), &state(), &all_ready()));
    for kind in ["PostgresReady", "KafkaReady", "CacheReady", "ServerReady", "ProcessorReady", "Durable", "Ready"] {
        assert_eq!(condition(&status, kind).0, "True", "{kind}: {:?}", condition(&status, kind));
    }
    assert_eq!(condition(&status, "Reconciling").0, "False");
    assert_eq!(condition(&status, "Stalled").0, "False");
    let columns = status.components.unwrap();
    assert_eq!((columns.postgres.as_str(), columns.kafka.as_str(), columns.cache.as_str()), ("3/3", "Ready", "2/2"));
    assert_eq!((columns.server.as_str(), columns.processor.as_str()), ("3/3", "2/2"));
}

#[test]
fn the_volume_of_postgres_is_that_of_the_primary_or_else_of_the_spec() {
    let volume = |pipeline: &PingPipeline, capacity: Option<&str>| {
        let state = ClusterState { postgres_capacity: capacity.map(Into::into), ..state() };
        status_of(pipeline, &state, &applied(pipeline, &state, &all_ready())).postgres_volume
    };
    let of = |gib: i64, holds_wal| Some(PostgresVolume { bytes: gib << 30, holds_wal });
    let mut pipeline = demo();
    assert_eq!(volume(&pipeline, None), of(10, true));
    assert_eq!(volume(&pipeline, Some("5Gi")), of(5, true), "it is still being enlarged");
    let cluster = pipeline.spec.postgres.cluster.get_or_insert_default();
    (cluster.storage, cluster.wal_storage) = (Storage::of("20Gi"), Some(Storage::of("1Gi")));
    assert_eq!(volume(&pipeline, None), of(20, false));
}

#[test]
fn the_same_input_changes_nothing() {
    let mut pipeline = demo();
    let world = applied(&demo(), &state(), &all_ready());
    let first = status_of(&pipeline, &state(), &world);
    pipeline.status = Some(first.clone());
    assert_eq!(status_of(&pipeline, &state(), &world), first);
}

#[test]
fn postgres_is_not_ready_when_its_operator_says_healthy_with_no_instance_ready() {
    let mut gone = healthy_cluster();
    gone.as_object_mut().unwrap().remove("readyInstances");
    let (status, _, message) = condition(&but(Kind::Cluster, "demo-postgres", gone), "PostgresReady");
    assert_eq!(status, "False");
    assert!(message.starts_with("0 of 3 instances"), "{message}");
}

#[test]
fn postgres_is_not_ready_while_the_primary_moves() {
    let mut moving = healthy_cluster();
    moving["targetPrimary"] = json!("demo-postgres-2");
    assert_eq!(condition(&but(Kind::Cluster, "demo-postgres", moving), "PostgresReady").0, "False");
}

#[test]
fn postgres_is_degraded_with_one_instance_less() {
    let mut less = healthy_cluster();
    less["readyInstances"] = json!(2);
    let status = but(Kind::Cluster, "demo-postgres", less);
    assert_eq!(condition(&status, "PostgresReady").1, "Degraded");
    assert_eq!(status.components.unwrap().postgres, "2/3");
}

#[test]
fn the_phase_of_postgres_is_passed_on() {
    let unknown_plugin = json!({
        "phase": "Cluster cannot proceed to reconciliation due to an unknown plugin being required",
        "phaseReason": "Unknown plugin: 'barman-cloud.cloudnative-pg.io'.",
        "conditions": [{ "type": "Ready", "status": "False", "reason": "ClusterIsNotReady" }],
    });
    let (_, _, message) = condition(&but(Kind::Cluster, "demo-postgres", unknown_plugin), "PostgresReady");
    assert!(message.contains("Unknown plugin: 'barman-cloud.cloudnative-pg.io'"), "{message}");
}

#[test]
fn an_operator_that_says_nothing_counts_as_not_running() {
    for (kind, name, about) in [
        (Kind::Cluster, "demo-postgres", "PostgresReady"),
        (Kind::Kafka, "demo-kafka", "KafkaReady"),
        (Kind::Dragonfly, "demo-cache", "CacheReady"),
    ] {
        let (status, reason, message) = condition(&but(kind, name, Value::Null), about);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "OperatorSilent"), "{message}");
    }
}

#[test]
fn strimzis_not_ready_is_a_failure_even_without_any_ready() {
    let failure = json!({ "observedGeneration": 1, "conditions": [{
        "type": "NotReady", "status": "True", "reason": "ExecutionException",
        "message": "java.io.IOException: Failed to load openssl.conf from the classpath",
    }] });
    let (status, reason, message) = condition(&but(Kind::KafkaUser, "demo-kafka-server", failure), "KafkaReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Failed"));
    assert!(message.contains("Failed to load openssl.conf"), "{message}");
}

#[test]
fn a_topic_that_could_not_be_changed_is_a_failure() {
    let failure = json!({ "observedGeneration": 2, "conditions": [{
        "type": "Ready", "status": "False", "reason": "NotSupported", "message": "Decreasing partitions not supported",
    }] });
    let (_, reason, message) = condition(&but(Kind::KafkaTopic, "demo-pings", failure), "KafkaReady");
    assert_eq!(reason, "Failed");
    assert!(message.contains("Decreasing partitions not supported"), "{message}");
}

#[test]
fn an_unmanaged_topic_is_paused() {
    let unmanaged = json!({ "observedGeneration": 7, "conditions": [{ "type": "Unmanaged", "status": "True" }] });
    assert_eq!(condition(&but(Kind::KafkaTopic, "demo-pings", unmanaged), "KafkaReady").1, "Paused");
}

#[test]
fn strimzis_ready_of_an_older_generation_is_ignored() {
    let stale = json!({ "observedGeneration": 0, "conditions": [{ "type": "Ready", "status": "True" }] });
    assert_eq!(condition(&but(Kind::KafkaTopic, "demo-pings", stale), "KafkaReady").0, "False");
}

#[test]
fn the_cache_is_not_ready_when_its_operator_says_so_and_its_pods_are_gone() {
    let mut world = state();
    let pods = json!({ "metadata": { "generation": 1 }, "status": { "observedGeneration": 1 } });
    world.cache_pods = Some(live(Kind::StatefulSet, "default", "demo-cache", pods).1);
    let status = status_of(&demo(), &world, &applied(&demo(), &world, &all_ready()));
    let (status, _, message) = condition(&status, "CacheReady");
    assert_eq!(status, "False");
    assert!(message.contains("0 of 2 pods"), "{message}");
}

#[test]
fn servers_that_roll_out_are_not_ready_until_the_last_old_one_is_gone() {
    let rolling = json!({ "observedGeneration": 1, "replicas": 4, "updatedReplicas": 1, "availableReplicas": 3 });
    assert_eq!(condition(&but(Kind::Deployment, "demo-server", rolling), "ServerReady").1, "RollingOut");
}

#[test]
fn a_missing_crd_is_named_together_with_who_brings_it() {
    let mut world = applied(&demo(), &state(), &all_ready());
    world.missing.insert(Dependency::CloudNativePg);
    let (_, reason, message) = condition(&status_of(&demo(), &state(), &world), "PostgresReady");
    assert_eq!(reason, "DependencyMissing");
    assert!(message.contains("postgresql.cnpg.io/v1") && message.contains("install CloudNativePG"), "{message}");
}

#[test]
fn prometheus_is_optional() {
    let mut world = applied(&demo(), &state(), &all_ready());
    world.missing.insert(Dependency::Prometheus);
    assert_eq!(condition(&status_of(&demo(), &state(), &world), "Ready").0, "True");
}

#[test]
fn external_parts_are_ready_when_their_secrets_are_there_and_durability_is_unverified() {
    let pipeline = example("existing-parts");
    let state = empty();
    let status = status_of(&pipeline, &state, &applied(&pipeline, &state, &[]));
    assert_eq!(condition(&status, "KafkaReady").1, "ReferenceMissing");
    assert_eq!(condition(&status, "PostgresReady").0, "True");
    assert_eq!(condition(&status, "CacheReady").0, "True");
    assert_eq!(condition(&status, "Durable").1, "Unverified");
}

#[test]
fn a_refused_spec_stalls_and_keeps_only_what_follows_from_the_accepted_one() {
    let mut pipeline = demo();
    pipeline.status = Some(status_of(&demo(), &state(), &applied(&demo(), &state(), &all_ready())));
    pipeline.spec.processor.replicas = 99;
    let status = status_of(&pipeline, &state(), &Applied::default());
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(condition(&status, "Ready").1, "Invalid");
    for observed in ["PostgresReady", "KafkaReady", "CacheReady", "ServerReady", "ProcessorReady", "BackedUp"] {
        let (status, reason, _) = condition(&status, observed);
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Refused"), "{observed}");
    }
    assert_eq!(condition(&status, "Durable").0, "True");
    assert_eq!(status.components.unwrap().postgres, "-");
    assert_eq!(status.endpoints.unwrap().server, "demo-server.default.svc:8080");
}

#[test]
fn best_effort_says_what_can_be_lost() {
    let pipeline = example("development");
    let status = status_of(&pipeline, &empty(), &applied(&pipeline, &empty(), &[]));
    let (status, reason, message) = condition(&status, "Durable");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Unsafe"));
    assert!(message.contains("a single disk holds the only copy"), "{message}");
}

#[test]
fn a_suspended_pipeline_is_not_ready_and_not_on_its_way() {
    let mut pipeline = demo();
    pipeline.spec.suspend = true;
    let status = status_of(&pipeline, &state(), &applied(&demo(), &state(), &all_ready()));
    assert_eq!(condition(&status, "Ready").1, "Suspended");
    assert_eq!(condition(&status, "Reconciling").0, "False");
}

#[test]
fn servers_of_roles_are_added_up_and_both_have_to_be_ready() {
    let mut pipeline = demo();
    pipeline.spec.server.query = Some(ServerRole { replicas: Some(2), ..ServerRole::default() });
    let mut statuses = all_ready();
    statuses.push((Kind::Deployment, "demo-ingest", deployment(3)));
    for (available, column, ready) in [(2, "5/5", "True"), (1, "4/5", "False")] {
        statuses.retain(|(_, name, _)| *name != "demo-query");
        statuses.push((Kind::Deployment, "demo-query", deployment(available)));
        let status = status_of(&pipeline, &state(), &applied(&pipeline, &state(), &statuses));
        assert_eq!(status.components.as_ref().unwrap().server, column);
        assert_eq!(condition(&status, "ServerReady").0, ready);
        let endpoints = status.endpoints.unwrap();
        assert_eq!(endpoints.server, "demo-ingest.default.svc:8080");
        assert_eq!(endpoints.query.as_deref(), Some("demo-query.default.svc:8080"));
    }
}
