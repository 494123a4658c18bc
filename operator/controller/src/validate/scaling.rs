//! How many pods a Deployment is told to have. A field that server-side apply gives up, and nobody else owns, falls back to
//! its default of 1: so the number is kept until an autoscaler has taken it over.

use kube::{ResourceExt, api::DynamicObject};
use ping_api::{
    crd::{PingPipelineSpec, workload::ServerSpec},
    kinds::Kind,
    names::{Names, OPERATOR},
    roles::{Role, deployments},
};

use crate::cluster_state::Refs;

/// The number of servers of a role.
pub(super) fn servers(spec: &ServerSpec, hibernate: bool, names: &Names, role: Role, refs: &Refs) -> Option<i32> {
    let at_least = spec.autoscaling.as_ref().map(|scaling| scaling.min_replicas);
    let deployment = refs.live.get(&names.key(Kind::Deployment, names.part(role.component())));
    number(hibernate, spec.replicas, at_least, deployment)
}

/// The number of processors.
pub(super) fn processors(spec: &PingPipelineSpec, names: &Names, refs: &Refs) -> Option<i32> {
    let at_least = spec.processor.autoscaling.as_ref().map(|scaling| scaling.min_replicas);
    let deployment = refs.live.get(&names.key(Kind::Deployment, names.part("processor")));
    number(spec.hibernate, spec.processor.replicas, at_least, deployment)
}

fn number(hibernate: bool, fixed: i32, at_least: Option<i32>, deployment: Option<&DynamicObject>) -> Option<i32> {
    match (hibernate, at_least, deployment) {
        (true, ..) => Some(0),
        (false, None, _) => Some(fixed),
        (false, Some(at_least), None) => Some(at_least),
        (false, Some(_), Some(live)) if is_taken_over(live) => None,
        (false, Some(at_least), Some(live)) => Some(current(live).max(at_least)),
    }
}

/// The servers of the form before: they stay until those that are wanted are all there, so that there always are some.
pub(super) fn retiring(spec: &PingPipelineSpec, names: &Names, refs: &Refs) -> Vec<Role> {
    let wanted = deployments(&spec.server);
    let is_there = |(role, of_role): &(Role, ServerSpec)| {
        let live = refs.live.get(&names.key(Kind::Deployment, names.part(role.component())));
        live.is_some_and(|live| spec.hibernate || serves(live, of_role.at_least()))
    };
    if wanted.iter().all(is_there) {
        return Vec::new();
    }
    Role::EACH.into_iter().filter(|role| wanted.iter().all(|(wanted, _)| wanted != role)).collect()
}

/// True when so many pods of its current version are available.
fn serves(deployment: &DynamicObject, at_least: i32) -> bool {
    let number = |path: &str| deployment.data.pointer(path).and_then(serde_json::Value::as_i64).unwrap_or_default();
    let current = deployment.metadata.generation.unwrap_or_default() <= number("/status/observedGeneration");
    current && number("/status/availableReplicas") >= i64::from(at_least)
}

/// True when somebody else, such as an autoscaler, owns the number of pods.
fn is_taken_over(live: &DynamicObject) -> bool {
    live.managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() != Some(OPERATOR))
        .any(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some()))
}

fn current(live: &DynamicObject) -> i32 {
    let number = live.data.pointer("/spec/replicas").and_then(serde_json::Value::as_i64);
    number.and_then(|number| i32::try_from(number).ok()).unwrap_or_default()
}
