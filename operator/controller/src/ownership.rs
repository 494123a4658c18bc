//! Which objects belong to a pipeline. The operator changes and deletes only those. Pure.
//!
//! Labels alone prove nothing: anyone who may write an object may set them, and other operators copy them to objects of their own.

use kube::ResourceExt;
use ping_api::{
    crd::PingPipeline,
    names::{NAMESPACE_LABEL, Names, OWNER_ANNOTATION, OWNER_UID_ANNOTATION, PIPELINE_LABEL},
};

/// The pipeline whose objects are looked for.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its names.
    pub names: Names,
    /// UID of the PingPipeline.
    pub uid: String,
}

impl Owner {
    /// The owner of the objects of `pipeline`.
    #[must_use]
    pub fn of(pipeline: &PingPipeline) -> Self {
        Self { names: Names::of(pipeline), uid: pipeline.uid().unwrap_or_default() }
    }
}

/// To whom an object belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// To this pipeline.
    Own,
    /// To a deleted pipeline of the same namespace and name, which retained it. This pipeline may use it again.
    Released,
    /// To someone else, as described: a clause that can follow "belongs to", with what to do if that is known.
    Other(String),
}

/// To whom `object` belongs. It is `Own` if it has the labels of `owner`, and the UID of `owner` either in its controller reference
/// or, without one, in its annotations.
#[must_use]
pub fn ownership(object: &impl ResourceExt, owner: &Owner) -> Ownership {
    if let Some(controller) = object.owner_references().iter().find(|reference| reference.controller == Some(true)) {
        return match (controller.kind == "PingPipeline", controller.uid == owner.uid) {
            (true, true) => labelled(object, owner),
            (true, false) if controller.name == owner.names.pipeline => Ownership::Other(format!(
                "an earlier PingPipeline {} (UID {}), and Kubernetes deletes it together with that one",
                owner.names.owner(),
                controller.uid
            )),
            _ => Ownership::Other(format!("{} {}", controller.kind, controller.name)),
        };
    }
    let annotation = |name: &str| object.annotations().get(name).map(String::as_str);
    match (annotation(OWNER_ANNOTATION), annotation(OWNER_UID_ANNOTATION)) {
        (Some(name), uid) if name == owner.names.owner() => match uid {
            None => released(object, owner),
            Some(uid) if uid == owner.uid => labelled(object, owner),
            Some(uid) => Ownership::Other(format!(
                "an earlier PingPipeline {name} (UID {uid}). To use it again, remove its annotation {OWNER_UID_ANNOTATION}"
            )),
        },
        (Some(name), _) => Ownership::Other(format!("PingPipeline {name}")),
        (None, _) => Ownership::Other(by_label(object)),
    }
}

fn labelled(object: &impl ResourceExt, owner: &Owner) -> Ownership {
    if has_labels(object, owner) { Ownership::Own } else { Ownership::Other(by_label(object)) }
}

fn released(object: &impl ResourceExt, owner: &Owner) -> Ownership {
    if has_labels(object, owner) { Ownership::Released } else { Ownership::Other(by_label(object)) }
}

fn has_labels(object: &impl ResourceExt, owner: &Owner) -> bool {
    owner.names.ownership().iter().all(|(name, value)| object.labels().get(name) == Some(value))
}

fn by_label(object: &impl ResourceExt) -> String {
    let label = |name: &str| object.labels().get(name);
    match (label(NAMESPACE_LABEL), label(PIPELINE_LABEL), label("app.kubernetes.io/managed-by")) {
        (Some(namespace), Some(pipeline), _) => format!("PingPipeline {namespace}/{pipeline} by its labels only"),
        (_, _, Some(manager)) => manager.clone(),
        _ => "another owner".into(),
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    fn owner() -> Owner {
        Owner { names: Names { namespace: "team".into(), pipeline: "demo".into() }, uid: "1".into() }
    }

    fn found(metadata: Value) -> Ownership {
        let mut value = json!({ "metadata": {
            "name": "a", "labels": { PIPELINE_LABEL: "demo", NAMESPACE_LABEL: "team" },
        } });
        value["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        ownership(&serde_json::from_value::<DynamicObject>(value).unwrap(), &owner())
    }

    fn controller(kind: &str, uid: &str) -> Value {
        json!({ "ownerReferences": [{ "apiVersion": "a/v1", "kind": kind, "name": "demo", "uid": uid, "controller": true }] })
    }

    #[test]
    fn an_object_is_own_by_its_controller_or_by_its_annotations() {
        assert_eq!(found(controller("PingPipeline", "1")), Ownership::Own);
        assert_eq!(
            found(json!({ "annotations": { OWNER_ANNOTATION: "team/demo", OWNER_UID_ANNOTATION: "1" } })),
            Ownership::Own
        );
        assert_eq!(found(json!({ "annotations": { OWNER_ANNOTATION: "team/demo" } })), Ownership::Released);
    }

    #[test]
    fn labels_alone_and_other_owners_do_not_count() {
        let annotations =
            |owner: &str, uid: &str| json!({ "annotations": { OWNER_ANNOTATION: owner, OWNER_UID_ANNOTATION: uid } });
        let mut unlabelled = controller("PingPipeline", "1");
        unlabelled["labels"] = json!({});
        for (metadata, words) in [
            (json!({}), "PingPipeline team/demo by its labels only"),
            (json!({ "labels": {} }), "another owner"),
            (json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" } }), "Helm"),
            (controller("Kafka", "1"), "Kafka demo"),
            (controller("PingPipeline", "2"), "an earlier PingPipeline team/demo (UID 2)"),
            (annotations("team/other", "1"), "PingPipeline team/other"),
            (annotations("team/demo", "2"), "remove its annotation pingpipeline.io/owner-uid"),
            (unlabelled, "another owner"),
        ] {
            let Ownership::Other(text) = found(metadata.clone()) else { panic!("{metadata} counts as own") };
            assert!(text.contains(words), "{metadata}: \"{words}\" is not in: {text}");
        }
    }
}
