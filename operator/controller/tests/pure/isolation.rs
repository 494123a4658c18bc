//! What a PingPipeline may refer to: images, Secrets, and objects in other namespaces.

use k8s_openapi::api::core::v1::EnvVar;
use ping_api::{
    crd::{PingPipeline, SecretKey, postgres::PostgresCluster},
    grant::GrantKind,
    kinds::{Key, Kind},
    names::Names,
    reason::Reason,
};
use ping_operator::{
    apply::ApplyError,
    build::build,
    cluster_state::{ClusterState, Grants},
    external::{Observed, strimzi::ObservedTopic},
    status::status,
    validate::validate,
};
use serde_json::{Value, json};

use crate::fixture::{applied, condition, demo, empty, example, grants, live, now, status_of, with_secret};

fn rejection(pipeline: &PingPipeline, state: &ClusterState) -> (Reason, String) {
    let invalid = validate(pipeline, state).expect_err("it should have been rejected");
    (invalid.reason(), invalid.to_string())
}

fn variable(name: &str, value_from: Value) -> EnvVar {
    serde_json::from_value(json!({ "name": name, "valueFrom": value_from })).unwrap()
}

fn secret_variable() -> PingPipeline {
    let mut pipeline = demo();
    let source = json!({ "secretKeyRef": { "name": "other-app", "key": "password" } });
    pipeline.spec.server.pod.env = vec![variable("SPY", source)];
    pipeline
}

#[test]
fn a_secret_that_does_not_allow_it_is_not_read_through_a_variable() {
    let pipeline = secret_variable();
    let (reason, message) = rejection(&pipeline, &empty());
    assert_eq!(reason, Reason::SecretMissing, "pods would wait for the Secret and read it when it appears: {message}");
    let mut state = empty();
    with_secret(&mut state, "default", "other-app", &[("password", "hunter2")]);
    let allowed = std::mem::take(&mut state.allowed_references);
    let (reason, message) = rejection(&pipeline, &state);
    assert_eq!(reason, Reason::SecretNotAllowed);
    let remedy = "kubectl -n default label secret other-app pingpipeline.io/allow-reference=true";
    assert!(message.contains("spec.server.env variable SPY") && message.contains(remedy), "{message}");
    state.allowed_references = allowed;
    assert_eq!(validate(&pipeline, &state).err(), None);
    with_secret(&mut state, "default", "other-app", &[("user", "a")]);
    let (reason, message) = rejection(&pipeline, &state);
    assert!(reason == Reason::SecretMissing && message.contains("has no key password"), "{message}");
}

#[test]
fn config_maps_need_the_label_too_and_what_a_pod_knows_about_itself_needs_none() {
    let mut pipeline = demo();
    let source = json!({ "configMapKeyRef": { "name": "settings", "key": "a" } });
    pipeline.spec.processor.pod.env = vec![
        variable("SETTING", source),
        variable("POD_IP", json!({ "fieldRef": { "fieldPath": "status.podIP" } })),
        variable("CPUS", json!({ "resourceFieldRef": { "resource": "limits.cpu" } })),
    ];
    let mut state = empty();
    assert_eq!(rejection(&pipeline, &state).0, Reason::SecretMissing);
    let key = Key::new(Kind::ConfigMap, "default", "settings");
    state.config_maps.insert(key.clone(), ["a".to_owned()].into());
    assert_eq!(rejection(&pipeline, &state).0, Reason::SecretNotAllowed);
    state.allowed_references.insert(key);
    assert_eq!(validate(&pipeline, &state).err(), None);
}

/// Each of these would be sent to an address that the spec chooses.
#[test]
fn every_reference_to_a_secret_needs_the_label() {
    for name in ["external-postgres", "external-kafka", "external-cache", "existing-parts", "production"] {
        let mut state = empty();
        assert_eq!(validate(&example(name), &state).err(), None, "{name}");
        state.allowed_references.clear();
        assert_eq!(rejection(&example(name), &state).0, Reason::SecretNotAllowed, "{name}");
        state.secrets.clear();
        assert_eq!(rejection(&example(name), &state).0, Reason::SecretMissing, "{name}");
    }
    let mut pipeline = demo();
    let key = SecretKey { name: "other-app".into(), key: "password".into() };
    pipeline.spec.cache.dragonfly.get_or_insert_default().password = Some(key);
    assert_eq!(rejection(&pipeline, &empty()).0, Reason::SecretMissing);
}

#[test]
fn only_images_that_the_administrator_allows_are_run() {
    let image = "evil.test/pingd:1";
    let mut places: [PingPipeline; 4] = [demo(), demo(), demo(), demo()];
    places[0].spec.server.pod.image = Some(image.into());
    places[1].spec.processor.pod.image = Some(image.into());
    places[2].spec.postgres.cluster = Some(PostgresCluster { image: Some(image.into()), ..PostgresCluster::default() });
    places[3].spec.cache.dragonfly.get_or_insert_default().image = Some(image.into());
    let mut open = empty();
    open.platform.allowed_images = vec!["evil.test/*".into()];
    for pipeline in &places {
        let (reason, message) = rejection(pipeline, &empty());
        assert_eq!(reason, Reason::ImageNotAllowed);
        assert!(message.contains(image) && message.contains("--set 'allowedImages={evil.test/pingd:1}'"), "{message}");
        assert_eq!(validate(pipeline, &open).err(), None);
    }
    let mut default = demo();
    default.spec.server.pod.image = Some(empty().image);
    assert_eq!(validate(&default, &empty()).err(), None, "the default image may be named");
}

#[test]
fn kafka_in_another_namespace_needs_a_grant_there() {
    let pipeline = example("existing-parts");
    for (found, words) in [
        (Grants::default(), "kind: PingReferenceGrant, metadata: {namespace: \"kafka\", name: \"default-kafka\"}"),
        (grants(&[(GrantKind::Kafka, "other")]), "to: [{kind: Kafka, name: \"events\"}]"),
        (grants(&[(GrantKind::KafkaTopic, "events")]), "no PingReferenceGrant allows it"),
        (Grants::Unreadable, "--set 'referenceNamespaces={kafka}'"),
    ] {
        let state = ClusterState { grants: found, ..empty() };
        let (reason, message) = rejection(&pipeline, &state);
        assert_eq!(reason, Reason::ReferenceNotGranted);
        assert!(message.contains(words), "\"{words}\" is not in: {message}");
    }
    let mut same = pipeline.clone();
    same.spec.kafka.cluster_ref.as_mut().unwrap().namespace = None;
    let state = ClusterState { grants: Grants::default(), ..empty() };
    assert_eq!(validate(&same, &state).err(), None, "the pipeline's own namespace needs none");
}

/// The messages contain commands that someone with more rights is asked to run.
#[test]
fn no_name_smuggles_a_command_into_a_remedy() {
    let evil = "a' | sh; echo '";
    let mut image = demo();
    image.spec.server.pod.image = Some(evil.into());
    let (mut name, mut namespace) = (example("existing-parts"), example("existing-parts"));
    name.spec.kafka.cluster_ref.as_mut().unwrap().name = evil.into();
    namespace.spec.kafka.cluster_ref.as_mut().unwrap().namespace = Some(evil.into());
    for pipeline in [image, name, namespace] {
        let (reason, message) = rejection(&pipeline, &ClusterState { grants: Grants::default(), ..empty() });
        assert!(reason == Reason::Invalid && !message.contains("sh;"), "{message}");
    }
}

/// The state of a pipeline whose shared Kafka has this topic of someone else.
fn with_topic(name: &str, to: &[(GrantKind, &str)]) -> ClusterState {
    let (_, kafka) = live(Kind::Kafka, "kafka", "events", json!({ "spec": { "kafka": { "listeners": [] } } }));
    let config = [("min.insync.replicas".to_owned(), json!(2))].into();
    let topic = ObservedTopic { topic_name: None, partitions: Some(12), replicas: Some(3), config };
    ClusterState {
        kafka: Some(Observed::of(&kafka)),
        shared_topics: [(name.to_owned(), topic)].into(),
        grants: grants(to),
        ..empty()
    }
}

#[test]
fn a_topic_of_someone_else_needs_a_grant_that_names_it_and_is_never_created_changed_or_deleted() {
    let mut pipeline = example("existing-parts");
    pipeline.spec.kafka.topic.name = Some("orders".into());
    let kafka = (GrantKind::Kafka, "events");
    let (reason, message) = rejection(&pipeline, &with_topic("orders", &[kafka]));
    assert_eq!(reason, Reason::ReferenceNotGranted);
    assert!(message.contains("to: [{kind: KafkaTopic, name: \"orders\"}]"), "{message}");
    let named = [kafka, (GrantKind::KafkaTopic, "orders")];
    let (reason, message) = rejection(&pipeline, &with_topic("other", &named));
    assert!(reason == Reason::ReferenceMissing && message.contains("default.shared."), "{message}");
    let desired = build(&validate(&pipeline, &with_topic("orders", &named)).unwrap());
    let topics: Vec<&str> = desired
        .objects
        .iter()
        .filter(|object| object.key.kind == Kind::KafkaTopic)
        .map(|object| object.key.name.as_str())
        .collect();
    let unique = Names { namespace: "default".into(), pipeline: "shared".into() }.unique();
    assert_eq!(topics, [format!("{unique}-pings-dead-letter"), format!("{unique}-ping-minutes")]);
    pipeline.spec.kafka.topic.replicas = 4;
    let (reason, message) = rejection(&pipeline, &with_topic("orders", &named));
    assert!(reason == Reason::Invalid && message.contains("replicas 3, but the spec says 4"), "{message}");
}

/// A default of Kafka is no setting, and the spec has no setting for the partitions of the other topics.
#[test]
fn a_topic_of_someone_else_must_say_what_it_is_and_the_remedy_is_one_that_helps() {
    let named = [(GrantKind::Kafka, "events"), (GrantKind::KafkaTopic, "orders")];
    let mut state = with_topic("orders", &named);
    let mut pipeline = example("existing-parts");
    pipeline.spec.kafka.topic.name = Some("orders".into());
    state.shared_topics.get_mut("orders").unwrap().replicas = None;
    let (reason, message) = rejection(&pipeline, &state);
    assert_eq!(reason, Reason::Invalid);
    assert!(message.contains("cannot see, but the spec says 3"), "{message}");
    assert!(message.contains("Name a topic whose KafkaTopic has spec.replicas: 3, or remove"), "{message}");
    state.shared_topics.get_mut("orders").unwrap().replicas = Some(3);
    state.shared_topics.get_mut("orders").unwrap().config.clear();
    let (_, message) = rejection(&pipeline, &state);
    assert!(message.contains("KafkaTopic has spec.config.\"min.insync.replicas\": 2"), "{message}");

    let mut pipeline = example("existing-parts");
    pipeline.spec.kafka.dead_letter_topic.name = Some("orders".into());
    let (_, message) = rejection(&pipeline, &with_topic("orders", &named));
    assert!(message.contains("has partitions 12, but the pipeline needs 1"), "{message}");
    assert!(message.ends_with("spec.partitions: 1, or remove spec.kafka.deadLetterTopic.name"), "{message}");
}

/// Two tenants whose joined names are equal, with the most hostile names: no object of one has the name of an object of the other, and no
/// permission of one covers a topic or group of the other.
#[test]
fn tenants_of_a_shared_kafka_reach_nothing_of_each_other() {
    let (namespace, name) = ("n".repeat(63), format!("p{}", "-p".repeat(19)));
    for (one, other) in [
        (("team", "a-b"), ("team-a", "b")),
        (("team", "a"), ("team", "a-server")),
        ((&*namespace, &*name), (&namespace[1..], &*name)),
        ((&namespace, &name), (&namespace, &name[..37])),
    ] {
        let [one, other] = [one, other].map(|(namespace, name)| Tenant::of(namespace, name));
        let shared: Vec<&Key> = one.objects.intersection(&other.objects).collect();
        assert!(shared.is_empty(), "{shared:?}");
        assert!(one.objects.iter().all(|key| key.name.len() <= 63), "{:?}", one.objects);
        for (mine, theirs) in [(&one, &other), (&other, &one)] {
            for (kind, pattern, name) in &mine.acls {
                assert_eq!(pattern, "literal");
                assert!(!theirs.acls.iter().any(|(of, _, theirs)| of == kind && theirs == name), "{kind} {name}");
                assert!(name.starts_with(&mine.prefix) && !name.starts_with(&theirs.prefix), "{kind} {name}");
            }
        }
    }
}

struct Tenant {
    /// Objects in the namespace of Kafka.
    objects: std::collections::BTreeSet<Key>,
    /// Type, pattern type and name of every resource that its users may reach.
    acls: Vec<(String, String, String)>,
    prefix: String,
}

impl Tenant {
    fn of(namespace: &str, name: &str) -> Self {
        let mut pipeline = demo();
        pipeline.metadata.name = Some(name.into());
        pipeline.metadata.namespace = Some(namespace.into());
        let reference = json!({ "name": "events", "namespace": "kafka", "listener": "tls" });
        pipeline.spec.kafka.cluster_ref = Some(serde_json::from_value(reference).unwrap());
        let spec = json!({ "spec": { "kafka": {
            "authorization": { "type": "simple" },
            "listeners": [{ "name": "tls", "port": 9093, "tls": true, "authentication": { "type": "scram-sha-512" } }],
        } }, "status": { "listeners": [{ "name": "tls", "bootstrapServers": "events:9093" }] } });
        let mut state = empty();
        state.kafka = Some(Observed::of(&live(Kind::Kafka, "kafka", "events", spec).1));
        let Grants::Known(grants) = &mut state.grants else { unreachable!() };
        grants[0].from[0].namespace = namespace.into();
        let desired = build(&validate(&pipeline, &state).unwrap());
        let in_kafka = desired.objects.iter().filter(|object| object.key.namespace == "kafka");
        let acls = in_kafka.clone().flat_map(|object| {
            let value = object.to_json().unwrap();
            let acls = value.pointer("/spec/authorization/acls").and_then(Value::as_array).cloned().unwrap_or_default();
            acls.into_iter().map(|acl| acl["resource"].clone())
        });
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let acls = acls.filter(|resource| resource["type"] != "cluster");
        Self {
            objects: in_kafka.map(|object| object.key.clone()).collect(),
            acls: acls.map(|one| (text(&one["type"]), text(&one["patternType"]), text(&one["name"]))).collect(),
            prefix: format!("{namespace}.{name}."),
        }
    }
}

#[test]
fn what_waiting_cannot_fix_is_stalled_and_says_why() {
    let pipeline = secret_variable();
    let rejected = status(&pipeline, validate(&pipeline, &empty()).as_ref(), &empty(), &Default::default(), now());
    let (stalled, reason, message) = condition(&rejected, "Stalled");
    assert_eq!((&*stalled, &*reason), ("True", "SecretMissing"), "{message}");
    assert_eq!(condition(&rejected, "Reconciling").0, "False");

    let pipeline = demo();
    let refused = |code| {
        let status = kube::core::Status { code, message: "no".into(), ..kube::core::Status::default() };
        let mut applied = applied(&pipeline, &empty(), &[]);
        let key = Key::new(Kind::Service, "default", "demo-server");
        let error = ApplyError::Refused { key: key.clone(), source: kube::Error::Api(Box::new(status)) };
        applied.failures.insert(key, error);
        condition(&status_of(&pipeline, &empty(), &applied), "Stalled").0
    };
    for (code, stalled) in [(400, "True"), (403, "True"), (422, "True"), (409, "False"), (429, "False"), (500, "False")]
    {
        assert_eq!(refused(code), stalled, "{code}");
    }
    let shared = example("existing-parts");
    let missing = status_of(&shared, &empty(), &applied(&shared, &empty(), &[]));
    let (stalled, reason, _) = condition(&missing, "Stalled");
    assert_eq!((&*stalled, &*reason), ("True", "ReferenceMissing"));
    let waiting = status_of(&pipeline, &empty(), &applied(&pipeline, &empty(), &[]));
    assert_eq!(condition(&waiting, "Stalled").0, "False");
    assert_eq!(condition(&waiting, "Reconciling").0, "True");
}
