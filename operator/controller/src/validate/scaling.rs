//! `replicas` of Deployments. A field that server-side apply gives up and no other manager owns falls back to its default of 1, so
//! the number is set until an autoscaler owns it.

use kube::{ResourceExt, api::DynamicObject};
use ping_api::{
    crd::{PingPipelineSpec, workload::ServerSpec},
    kinds::Kind,
    names::{Names, OPERATOR},
    roles::{Role, deployments},
};

use crate::cluster_state::ClusterState;

/// `replicas` of the servers of a role.
pub(super) fn servers(
    spec: &ServerSpec,
    hibernate: bool,
    names: &Names,
    role: Role,
    state: &ClusterState,
) -> Option<i32> {
    let at_least = spec.autoscaling.as_ref().map(|scaling| scaling.min_replicas);
    let deployment = state.live.get(&names.key(Kind::Deployment, names.part(role.component())));
    number(hibernate, spec.replicas, at_least, deployment)
}

/// `replicas` of the processors.
pub(super) fn processors(spec: &PingPipelineSpec, names: &Names, state: &ClusterState) -> Option<i32> {
    let at_least = spec.processor.autoscaling.as_ref().map(|scaling| scaling.min_replicas);
    let deployment = state.live.get(&names.key(Kind::Deployment, names.part("processor")));
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

/// Roles of the previous server layout. Their Deployments stay until all Deployments of the new layout are available, so that
/// clients are served throughout.
pub(super) fn retiring(spec: &PingPipelineSpec, names: &Names, state: &ClusterState) -> Vec<Role> {
    let wanted = deployments(&spec.server);
    let is_there = |(role, of_role): &(Role, ServerSpec)| {
        let live = state.live.get(&names.key(Kind::Deployment, names.part(role.component())));
        live.is_some_and(|live| spec.hibernate || is_available(live, of_role.at_least()))
    };
    if wanted.iter().all(is_there) {
        return Vec::new();
    }
    Role::ALL.into_iter().filter(|role| wanted.iter().all(|(wanted, _)| wanted != role)).collect()
}

/// True if at least `at_least` pods of the current version are available.
fn is_available(deployment: &DynamicObject, at_least: i32) -> bool {
    let number = |path: &str| deployment.data.pointer(path).and_then(serde_json::Value::as_i64).unwrap_or_default();
    let current = deployment.metadata.generation.unwrap_or_default() <= number("/status/observedGeneration");
    current && number("/status/availableReplicas") >= i64::from(at_least)
}

/// True if another manager, such as an autoscaler, owns `replicas`.
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
