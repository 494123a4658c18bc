//! A valid pipeline and cluster state, for tests to modify.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, jiff::Timestamp};
use kube::api::DynamicObject;
use ping_api::{
    crd::{PingPipeline, status::PingPipelineStatus},
    grant::{GrantFrom, GrantKind, GrantTo, PingReferenceGrantSpec},
    kinds::{Dependency, Key, Kind},
};
use ping_operator::{
    apply::Applied,
    build::build,
    cluster_state::{ClusterIssuer, ClusterState, Grants, ObservedObjects},
    credentials::issue,
    status::status,
    validate::{Invalid, validate},
};
use serde_json::{Value, json};

/// Current time in the tests.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T04:00:00Z".parse().unwrap()
}

/// The example called `name`, as the API server would return it.
pub(crate) fn example(name: &str) -> PingPipeline {
    let path = format!("{}/../../examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut pipeline: PingPipeline = yaml_serde::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    pipeline.metadata.namespace = Some("default".into());
    pipeline.metadata.uid = Some("0b5c2c3e-0000-4000-8000-000000000001".into());
    pipeline.metadata.generation = Some(1);
    pipeline
}

/// The cluster after the operator has issued the credentials of `pipeline`.
pub(crate) fn issued(pipeline: &PingPipeline) -> ClusterState {
    issued_in(empty(), pipeline)
}

/// `state` after the operator has issued the credentials of `pipeline`.
pub(crate) fn issued_in(mut state: ClusterState, pipeline: &PingPipeline) -> ClusterState {
    issue(pipeline, &mut state, now()).unwrap();
    state
}

/// An object of a valid pipeline.
pub(crate) fn object(pipeline: &PingPipeline, state: &ClusterState, kind: Kind, name: &str) -> Value {
    let desired = build(&validate(pipeline, state).unwrap());
    let found = desired.objects.iter().find(|object| object.key.kind == kind && object.key.name == name);
    found.unwrap_or_else(|| panic!("no {} {name}", kind.name())).to_json().unwrap()
}

/// `spec: {}`.
pub(crate) fn demo() -> PingPipeline {
    example("demo")
}

/// All APIs are served. Nothing exists but what the examples refer to: their Secrets, and a grant for the Kafka in another namespace.
pub(crate) fn empty() -> ClusterState {
    let mut state = ClusterState {
        dependencies: Dependency::ALL.into(),
        image: "pingpipeline/pingd:test".into(),
        grants: grants(&[(GrantKind::Kafka, "events")]),
        ..ClusterState::default()
    };
    for (name, keys) in [
        ("own-postgres", &["uri", "ca.crt"][..]),
        ("own-kafka", &["password", "ca.crt"]),
        ("own-cache", &["password", "ca.crt"]),
        ("shared-postgres", &["uri", "ca.crt"]),
        ("shared-cache", &["password", "ca.crt"]),
        ("pings-backup", &["ACCESS_KEY_ID", "ACCESS_SECRET_KEY"]),
    ] {
        let keys: Vec<(&str, &str)> = keys.iter().map(|key| (*key, "secret")).collect();
        with_secret(&mut state, "default", name, &keys);
    }
    let digest = "0".repeat(64);
    with_secret(&mut state, "default", "callers", &[("ci", &digest), ("issuer-ca", "secret"), ("partners", "secret")]);
    let issuer = "https://kubernetes.default.svc".to_owned();
    state.cluster_issuer = Some(ClusterIssuer { issuer, keys: b"{}".to_vec() });
    state
}

/// Grants for namespace `default`.
pub(crate) fn grants(to: &[(GrantKind, &str)]) -> Grants {
    let to = to.iter().map(|(kind, name)| GrantTo { kind: *kind, name: Some((*name).into()), prefix: None }).collect();
    Grants::Known(vec![PingReferenceGrantSpec { from: vec![GrantFrom { namespace: "default".into() }], to }])
}

/// Adds a Secret to what was read, with the label that allows references to it.
pub(crate) fn with_secret(state: &mut ClusterState, namespace: &str, name: &str, keys: &[(&str, &str)]) {
    let data: BTreeMap<String, ByteString> =
        keys.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    let key = Key::new(Kind::Secret, namespace, name);
    state.allowed_references.insert(key.clone());
    state.secrets.insert(key, data);
}

/// The error that `spoil` causes in an otherwise valid `spec: {}`.
pub(crate) fn refusal(spoil: impl FnOnce(&mut PingPipeline)) -> Invalid {
    let mut pipeline = demo();
    spoil(&mut pipeline);
    validate(&pipeline, &empty()).expect_err("it should have been rejected")
}

/// All desired objects of `pipeline`, as if they had been applied, with these statuses.
pub(crate) fn applied(pipeline: &PingPipeline, state: &ClusterState, statuses: &[(Kind, &str, Value)]) -> Applied {
    let desired = build(&validate(pipeline, state).unwrap());
    let mut applied = Applied::default();
    for object in &desired.objects {
        let mut value = object.to_json().unwrap();
        value["metadata"]["generation"] = json!(1);
        value["metadata"]["creationTimestamp"] = json!("2026-11-21T03:00:00Z");
        for (kind, name, status) in statuses {
            if object.key.kind == *kind && object.key.name == *name {
                value["status"] = status.clone();
            }
        }
        applied.desired.insert(object.key.clone());
        applied.live.0.insert(object.key.clone(), serde_json::from_value(value).unwrap());
    }
    applied
}

/// The status after a reconcile of `pipeline` with this result.
pub(crate) fn status_of(pipeline: &PingPipeline, state: &ClusterState, applied: &Applied) -> PingPipelineStatus {
    let validated = validate(pipeline, state);
    status(pipeline, validated.as_ref(), state, applied, now())
}

/// Status, reason and message of the condition `kind`.
pub(crate) fn condition(status: &PingPipelineStatus, kind: &str) -> (String, String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// One live object with our labels.
pub(crate) fn live(kind: Kind, namespace: &str, name: &str, extra: Value) -> (Key, DynamicObject) {
    let mut value = json!({
        "apiVersion": kind.api_resource().api_version,
        "kind": kind.name(),
        "metadata": { "name": name, "namespace": namespace },
    });
    merge(&mut value, extra);
    (Key::new(kind, namespace, name), serde_json::from_value(value).unwrap())
}

/// Some live objects.
pub(crate) fn live_of(objects: impl IntoIterator<Item = (Key, DynamicObject)>) -> ObservedObjects {
    ObservedObjects(objects.into_iter().collect())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (field, value) in from {
                merge(into.entry(field).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
