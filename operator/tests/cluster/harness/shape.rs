//! The objects of a pipeline without what differs from run to run: two runs that end the same have equal shapes.

use std::collections::BTreeMap;

use kube::{ResourceExt, api::ListParams};
use ping_operator::kinds::Kind;
use serde_json::{Value, json};

use super::{Place, others::api};

/// Every object that carries the labels of a pipeline of `place`, by kind and name.
pub(crate) async fn shape(place: &Place) -> BTreeMap<String, Value> {
    let mut shape = BTreeMap::new();
    let labels = ListParams::default().labels(&format!("pingpipeline.io/namespace={}", place.namespace));
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_made()) {
        for object in api(place, kind, &place.namespace).list(&labels).await.unwrap() {
            let name = format!("{} {}", kind.name(), object.name_any());
            let value = serde_json::to_value(object).unwrap();
            shape.insert(name, without_chance(value, &place.namespace));
        }
    }
    shape
}

/// The keys in which two shapes differ, with both values.
pub(crate) fn differences(left: &BTreeMap<String, Value>, right: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differ = keys.into_iter().filter(|key| left.get(*key) != right.get(*key));
    differ.map(|key| format!("{key}: {:?} / {:?}", left.get(key), right.get(key))).collect()
}

fn without_chance(mut value: Value, namespace: &str) -> Value {
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
    if value["kind"] == "Service" {
        value["spec"]["clusterIP"] = Value::Null;
        value["spec"]["clusterIPs"] = json!([]);
    }
    let text = value.to_string().replace(namespace, "NAMESPACE");
    serde_json::from_str(&text).unwrap()
}
