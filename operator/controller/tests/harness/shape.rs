//! The objects of a pipeline without what differs from run to run: two runs that end the same have equal shapes.

use std::collections::{BTreeMap, BTreeSet};

use kube::{ResourceExt, api::ListParams};
use ping_api::kinds::Kind;
use serde_json::{Value, json};

use super::{TestNamespace, fake_operators::api};

/// Every object that carries the labels of a pipeline of `test`, by kind and name.
pub(crate) async fn shape(test: &TestNamespace) -> BTreeMap<String, Value> {
    let mut shape = BTreeMap::new();
    let labels = ListParams::default().labels(&format!("pingpipeline.io/namespace={}", test.namespace));
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_created()) {
        for object in api(test, kind, &test.namespace).list(&labels).await.unwrap() {
            let name = format!("{} {}", kind.name(), object.name_any());
            let value = serde_json::to_value(object).unwrap();
            shape.insert(name, without_chance(kind, value, &test.namespace));
        }
    }
    shape
}

/// Where two shapes differ.
pub(crate) fn differences(left: &BTreeMap<String, Value>, right: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let mut found = Vec::new();
    for key in keys {
        match (left.get(key), right.get(key)) {
            (Some(left), Some(right)) => differ(key.clone(), left, right, &mut found),
            (left, _) => found.push(format!("{key} is {}", if left.is_some() { "too much" } else { "missing" })),
        }
    }
    found
}

fn differ(path: String, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let fields: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let value =
                |fields: &serde_json::Map<String, Value>, field: &str| fields.get(field).cloned().unwrap_or_default();
            for field in fields {
                differ(format!("{path}.{field}"), &value(left, field), &value(right, field), found);
            }
        }
        (left, right) if left == right => {}
        (left, right) => found.push(format!("{path}: {left} / {right}")),
    }
}

fn without_chance(kind: Kind, mut value: Value, namespace: &str) -> Value {
    value["status"] = Value::Null;
    for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        value["metadata"][field] = Value::Null;
    }
    if let Some(owners) = value["metadata"]["ownerReferences"].as_array_mut() {
        owners.iter_mut().for_each(|owner| owner["uid"] = Value::Null);
    }
    let annotations = &mut value["metadata"]["annotations"];
    annotations["pingpipeline.io/applied"] = Value::Null;
    annotations["deployment.kubernetes.io/revision"] = Value::Null;
    if let Some(uid) = value.pointer_mut("/metadata/annotations/pingpipeline.io~1owner-uid") {
        *uid = json!("uid");
    }
    // Fingerprints are salted with the namespace.
    for metadata in ["/spec/template/metadata", "/spec/podMetadata"] {
        if let Some(secrets) = value.pointer_mut(&format!("{metadata}/annotations/pingpipeline.io~1secrets")) {
            *secrets = json!(secrets != "pending");
        }
    }
    // Keys, certificates and passwords are random.
    if kind == Kind::Secret
        && let Some(data) = value["data"].as_object_mut()
    {
        data.values_mut().for_each(|value| *value = json!(value != ""));
    }
    if value.pointer("/spec/clusterIP").is_some() {
        value["spec"]["clusterIP"] = Value::Null;
        value["spec"]["clusterIPs"] = json!([]);
    }
    let text = value.to_string().replace(namespace, "NAMESPACE");
    serde_json::from_str(&text).unwrap()
}
