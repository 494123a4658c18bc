//! Compares an object with its desired state, so that a reconcile of an unchanged pipeline writes nothing.

use ping_api::{names::APPLIED_ANNOTATION, quantity};
use serde_json::Value;

/// What to do with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It matches the desired state.
    Skip,
    /// It does not exist.
    Create,
    /// The desired state changed.
    Update,
    /// Another client changed the field at this path.
    Repair(String),
}

/// Compares `desired`, which contains its fingerprint, with the live object.
#[must_use]
pub fn compare(desired: &Value, live: Option<&Value>) -> Step {
    let Some(live) = live else { return Step::Create };
    let fingerprint = |value: &Value| value["metadata"]["annotations"][APPLIED_ANNOTATION].as_str().map(str::to_owned);
    if fingerprint(desired) != fingerprint(live) {
        return Step::Update;
    }
    match difference(&without_type(desired), live, &mut String::new()) {
        None => Step::Skip,
        Some(path) => Step::Repair(path),
    }
}

/// List items have no `apiVersion` and `kind`.
fn without_type(desired: &Value) -> Value {
    let mut desired = desired.clone();
    if let Some(fields) = desired.as_object_mut() {
        fields.retain(|field, _| field != "apiVersion" && field != "kind");
    }
    desired
}

/// A fingerprint of `value`: the 64-bit FNV-1a hash of its JSON. Written by hand because the value is stored in the cluster and
/// must stay the same across releases, which hashers of the standard library do not guarantee.
#[must_use]
pub fn fingerprint(value: &Value) -> String {
    let hash = value
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// The first path at which `live` lacks or changes a field of `desired`. Additional fields are ignored.
fn difference(desired: &Value, live: &Value, path: &mut String) -> Option<String> {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(there)) => wanted.iter().find_map(|(field, value)| {
            let length = path.len();
            path.push('.');
            path.push_str(field);
            let found = match there.get(field) {
                Some(live) => difference(value, live, path),
                None => (!is_empty(value)).then(|| path.clone()),
            };
            path.truncate(length);
            found
        }),
        (Value::Array(wanted), Value::Array(there)) => {
            let all_there = wanted
                .iter()
                .all(|wanted| there.iter().any(|live| difference(wanted, live, &mut String::new()).is_none()));
            (wanted.len() != there.len() || !all_there).then(|| path.clone())
        }
        (Value::String(wanted), Value::String(there)) if wanted != there => {
            let same =
                quantity::parse(wanted).zip(quantity::parse(there)).is_some_and(|(wanted, there)| wanted == there);
            (!same).then(|| path.clone())
        }
        (wanted, there) => (wanted != there).then(|| path.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(spec: Value) -> Value {
        json!({ "metadata": { "annotations": { APPLIED_ANNOTATION: "1" } }, "spec": spec })
    }

    #[test]
    fn fields_that_others_add_are_ignored() {
        let live = object(json!({ "replicas": 3, "progressDeadlineSeconds": 600 }));
        assert_eq!(compare(&object(json!({ "replicas": 3 })), Some(&live)), Step::Skip);
    }

    #[test]
    fn list_items_have_no_type() {
        let mut desired = object(json!({ "replicas": 3 }));
        desired["apiVersion"] = json!("apps/v1");
        desired["kind"] = json!("Deployment");
        assert_eq!(compare(&desired, Some(&object(json!({ "replicas": 3 })))), Step::Skip);
    }

    #[test]
    fn a_changed_field_is_named() {
        let live = object(json!({ "template": { "replicas": 5 } }));
        let step = compare(&object(json!({ "template": { "replicas": 3 } })), Some(&live));
        assert_eq!(step, Step::Repair(".spec.template.replicas".into()));
    }

    #[test]
    fn quantities_are_compared_by_value() {
        let live = object(json!({ "cpu": "1" }));
        assert_eq!(compare(&object(json!({ "cpu": "1000m" })), Some(&live)), Step::Skip);
    }

    #[test]
    fn a_new_desired_state_is_an_update_even_if_it_only_removes_fields() {
        let mut live = object(json!({ "a": 1, "b": 2 }));
        live["metadata"]["annotations"][APPLIED_ANNOTATION] = json!("0");
        assert_eq!(compare(&object(json!({ "a": 1 })), Some(&live)), Step::Update);
    }

    #[test]
    fn an_entry_added_to_a_list_is_drift() {
        let live = object(json!({ "ingress": [{ "port": 1 }, { "port": 2 }] }));
        assert_eq!(
            compare(&object(json!({ "ingress": [{ "port": 1 }] })), Some(&live)),
            Step::Repair(".spec.ingress".into())
        );
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_release() {
        assert_eq!(fingerprint(&json!({ "a": 1 })), "9c3e82dd6fcae8b1");
    }
}
