//! The order of a deletion, and what happens if another operator does not cooperate.

use ping_api::{
    crd::DeletionPolicy,
    kinds::{Key, Kind},
};
use ping_operator::{
    cluster_state::ObservedObjects,
    teardown::{DeletionOptions, GIVE_UP_SECONDS, STRIP_SECONDS, plan},
};
use serde_json::{Value, json};

use crate::fixture::{live, live_of};

const DELETE: DeletionOptions =
    DeletionOptions { policy: DeletionPolicy::Delete, own_kafka: true, force: false, age: 0 };
const RETAIN: DeletionOptions = DeletionOptions { policy: DeletionPolicy::Retain, ..DELETE };

fn world(kinds: &[(Kind, Value)]) -> ObservedObjects {
    live_of(kinds.iter().map(|(kind, extra)| live(*kind, "default", "demo", extra.clone())))
}

fn kinds(keys: &[Key]) -> Vec<Kind> {
    keys.iter().map(|key| key.kind).collect()
}

fn deleting() -> Value {
    json!({ "metadata": { "deletionTimestamp": "2026-11-21T04:00:00Z", "finalizers": ["strimzi.io/topic-operator"] } })
}

#[test]
fn apps_go_first_then_topics_and_users_then_kafka_then_its_nodes() {
    let all = [Kind::Deployment, Kind::KafkaTopic, Kind::KafkaUser, Kind::Cluster, Kind::Kafka, Kind::KafkaNodePool];
    let mut left: Vec<(Kind, Value)> = all.map(|kind| (kind, json!({}))).into();
    let mut order = Vec::new();
    while !left.is_empty() {
        let plan = plan(&world(&left), DELETE);
        assert!(!plan.done);
        left.retain(|(kind, _)| !kinds(&plan.delete).contains(kind));
        order.push(kinds(&plan.delete));
    }
    let expected = vec![
        vec![Kind::Deployment],
        vec![Kind::Cluster, Kind::KafkaTopic, Kind::KafkaUser],
        vec![Kind::Kafka],
        vec![Kind::KafkaNodePool],
    ];
    assert_eq!(order, expected);
    assert!(plan(&world(&[]), DELETE).done);
}

#[test]
fn retain_keeps_the_data_and_removes_the_owner_reference() {
    let owned = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "name": "demo", "uid": "1" },
    ] } });
    let live = world(&[(Kind::Cluster, owned), (Kind::KafkaTopic, json!({})), (Kind::Deployment, json!({}))]);
    let plan = plan(&live, RETAIN);
    assert_eq!(kinds(&plan.retained), [Kind::Cluster, Kind::KafkaTopic]);
    assert_eq!(kinds(&plan.release), [Kind::Cluster]);
    assert_eq!(kinds(&plan.delete), [Kind::Deployment]);
}

#[test]
fn a_retained_topic_that_goes_with_its_namespace_does_not_block_it() {
    let live = world(&[(Kind::KafkaTopic, deleting()), (Kind::Cluster, json!({}))]);
    let early = plan(&live, RETAIN);
    assert_eq!((kinds(&early.retained), kinds(&early.waiting)), (vec![Kind::Cluster], vec![Kind::KafkaTopic]));
    assert!(early.strip.is_empty() && !early.done, "Strimzi may still remove its finalizer");
    let late = plan(&live, DeletionOptions { age: STRIP_SECONDS, ..RETAIN });
    assert_eq!(kinds(&late.strip), [Kind::KafkaTopic]);
}

#[test]
fn a_topic_whose_operator_is_gone_is_released_together_with_its_kafka() {
    let live = world(&[(Kind::KafkaTopic, deleting()), (Kind::Kafka, json!({}))]);
    assert!(plan(&live, DELETE).strip.is_empty());
    let late = plan(&live, DeletionOptions { age: STRIP_SECONDS, ..DELETE });
    assert_eq!(kinds(&late.strip), [Kind::KafkaTopic]);
}

#[test]
fn a_topic_in_a_shared_kafka_is_released_by_force_only() {
    let live = world(&[(Kind::KafkaTopic, deleting())]);
    let shared = DeletionOptions { own_kafka: false, age: STRIP_SECONDS, ..DELETE };
    assert!(plan(&live, shared).strip.is_empty());
    assert_eq!(kinds(&plan(&live, DeletionOptions { force: true, ..shared }).strip), [Kind::KafkaTopic]);
}

#[test]
fn a_deletion_ends_in_time_whatever_is_left() {
    let live = world(&[(Kind::KafkaTopic, deleting()), (Kind::Cluster, json!({}))]);
    let shared = DeletionOptions { own_kafka: false, age: GIVE_UP_SECONDS, ..DELETE };
    let plan = plan(&live, shared);
    assert!(plan.done);
    assert_eq!(kinds(&plan.delete), [Kind::Cluster]);
}
