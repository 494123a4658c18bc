//! Third step: a `Pipeline` becomes the objects it stands for. Pure and infallible; one component per file.

mod dragonfly;
pub mod env;
mod kafka;
mod monitoring;
mod network;
mod postgres;
mod processor;
mod secrets;
mod server;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PodSecurityContext, ResourceRequirements, SeccompProfile},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::Resource;
use ping_api::crd::{DeletionPolicy, PingPipeline, workload::Resources};

use crate::{desired::Desired, pipeline::Pipeline};

/// Builds everything, in the order in which it is applied: configuration, then what workloads need, then workloads.
#[must_use]
pub fn build(pipeline: &Pipeline) -> Desired {
    let mut desired = Desired::default();
    secrets::build(pipeline, &mut desired);
    network::build(pipeline, &mut desired);
    postgres::build(pipeline, &mut desired);
    kafka::build(pipeline, &mut desired);
    dragonfly::build(pipeline, &mut desired);
    server::build(pipeline, &mut desired);
    processor::build(pipeline, &mut desired);
    monitoring::build(pipeline, &mut desired);
    desired
}

/// Metadata of an object that goes with the pipeline.
fn metadata(pipeline: &Pipeline, name: &str, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(pipeline.names.namespace.clone()),
        labels: Some(pipeline.names.labels(component)),
        owner_references: Some(vec![owner(pipeline)]),
        ..ObjectMeta::default()
    }
}

/// Metadata of an object that holds data: under `Retain` it has no owner, so that nothing can cascade to it.
fn data_metadata(pipeline: &Pipeline, name: &str, component: &str) -> ObjectMeta {
    let mut metadata = metadata(pipeline, name, component);
    if pipeline.deletion_policy == DeletionPolicy::Retain {
        metadata.owner_references = None;
    }
    metadata
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

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

/// What the restricted pod security standard asks of a pod that runs as `user`.
fn restricted(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        fs_group: Some(user),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

fn resources(spec: &Resources) -> ResourceRequirements {
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
