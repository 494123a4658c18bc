//! Metadata, selectors and pod settings that several components share.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        autoscaling::v2::CrossVersionObjectReference,
        core::v1::{PodSecurityContext, ResourceRequirements, SeccompProfile},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::Resource;
use ping_api::{
    crd::{DeletionPolicy, PingPipeline, workload::Resources},
    names::{OWNER_ANNOTATION, OWNER_UID_ANNOTATION},
};

use crate::pipeline::Pipeline;

/// Metadata of an object that is deleted with the pipeline.
pub(super) fn metadata(pipeline: &Pipeline, name: &str, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(pipeline.names.namespace.clone()),
        labels: Some(pipeline.names.labels(component)),
        owner_references: Some(vec![owner(pipeline)]),
        ..ObjectMeta::default()
    }
}

/// Metadata of an object that holds data. Under `Retain` it has no owner reference, so it cannot be deleted by cascade. Annotations say
/// to whom it belongs.
pub(super) fn data_metadata(pipeline: &Pipeline, name: &str, component: &str) -> ObjectMeta {
    let mut metadata = metadata(pipeline, name, component);
    metadata.annotations = Some(owner_annotations(pipeline));
    if pipeline.deletion_policy == DeletionPolicy::Retain {
        metadata.owner_references = None;
    }
    metadata
}

/// Metadata of an object in `namespace`. Owner references cannot cross namespaces, so annotations say to whom it belongs.
pub(super) fn in_namespace(mut metadata: ObjectMeta, pipeline: &Pipeline, namespace: &str) -> ObjectMeta {
    if namespace != pipeline.names.namespace {
        metadata.owner_references = None;
        metadata.annotations.get_or_insert_default().extend(owner_annotations(pipeline));
    }
    metadata.namespace = Some(namespace.into());
    metadata
}

fn owner_annotations(pipeline: &Pipeline) -> BTreeMap<String, String> {
    [(OWNER_ANNOTATION.to_owned(), pipeline.names.owner()), (OWNER_UID_ANNOTATION.to_owned(), pipeline.uid.clone())]
        .into()
}

fn owner(pipeline: &Pipeline) -> OwnerReference {
    OwnerReference {
        api_version: PingPipeline::api_version(&()).into_owned(),
        kind: PingPipeline::kind(&()).into_owned(),
        name: pipeline.names.pipeline.clone(),
        uid: pipeline.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// A selector for these labels.
pub(super) fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

/// Security context that the restricted pod security standard requires, for a pod that runs as `user`.
pub(super) fn restricted(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        fs_group: Some(user),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

/// Resource requirements in the form of the Kubernetes API.
pub(super) fn resources(spec: &Resources) -> ResourceRequirements {
    let quantities = |map: &BTreeMap<String, IntOrString>| {
        let quantity = |value: &IntOrString| match value {
            IntOrString::Int(number) => Quantity(number.to_string()),
            IntOrString::String(text) => Quantity(text.clone()),
        };
        (!map.is_empty()).then(|| map.iter().map(|(name, value)| (name.clone(), quantity(value))).collect())
    };
    ResourceRequirements {
        requests: quantities(&spec.requests),
        limits: quantities(&spec.limits),
        ..ResourceRequirements::default()
    }
}

/// The Deployment that an autoscaler scales.
pub(super) fn scale_target(name: &str) -> CrossVersionObjectReference {
    CrossVersionObjectReference { api_version: Some("apps/v1".into()), kind: "Deployment".into(), name: name.into() }
}
