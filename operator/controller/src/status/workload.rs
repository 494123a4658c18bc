//! Status of servers and processors.

use ping_api::{
    kinds::{Key, Kind},
    reason::Reason,
};
use serde::Deserialize;

use super::component::{ComponentStatus, StatusInput};
use crate::{condition::ConditionValue, external::Observed};

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObservedDeployment {
    replicas: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeploymentStatus {
    observed_generation: i64,
    updated_replicas: i64,
    available_replicas: i64,
    replicas: i64,
}

/// State of one Deployment.
struct Pods {
    /// Available pods; `None` if the Deployment does not exist.
    available: Option<i64>,
    desired: i64,
    condition: ConditionValue,
}

/// Combined status of several Deployments, given by component and minimum number of pods.
pub(super) fn status(
    input: &StatusInput<'_>,
    deployments: impl IntoIterator<Item = (&'static str, i32)>,
) -> ComponentStatus {
    if input.pipeline.hibernate {
        return ComponentStatus::new("hibernated", ConditionValue::not_met(Reason::Hibernating, "hibernating"));
    }
    let all: Vec<Pods> = deployments.into_iter().map(|(component, minimum)| pods(input, component, minimum)).collect();
    let desired: i64 = all.iter().map(|pods| pods.desired).sum();
    let available: i64 = all.iter().filter_map(|pods| pods.available).sum();
    let summary = match all.iter().any(|pods| pods.available.is_some()) {
        true => format!("{available}/{desired}"),
        false => "-".into(),
    };
    let ready = || ConditionValue::met(Reason::Ready, format!("{available} of {desired} pods are available"));
    let not_ready = all.into_iter().map(|pods| pods.condition).find(|condition| !condition.is_met());
    ComponentStatus::new(summary, not_ready.unwrap_or_else(ready))
}

fn pods(input: &StatusInput<'_>, component: &str, minimum: i32) -> Pods {
    let key = input.pipeline.names.key(Kind::Deployment, input.pipeline.names.part(component));
    let Some(object) = input.applied.live.get(&key) else {
        let message = match input.pipeline.kafka.connection {
            None => format!("{key} waits for the address of Kafka"),
            Some(_) => format!("{key} does not exist yet"),
        };
        let condition = ConditionValue::not_met(Reason::Provisioning, message);
        return Pods { available: None, desired: i64::from(minimum), condition };
    };
    let Observed { spec, status } = Observed::<ObservedDeployment, DeploymentStatus>::of(object);
    let status = status.unwrap_or_default();
    let desired = spec.replicas.max(i64::from(minimum));
    let condition = condition(&status, desired, object.metadata.generation, &key);
    Pods { available: Some(status.available_replicas), desired, condition }
}

fn condition(status: &DeploymentStatus, desired: i64, generation: Option<i64>, key: &Key) -> ConditionValue {
    let current = Some(status.observed_generation) >= generation;
    let rolled_out = current && status.updated_replicas >= desired && status.replicas <= status.updated_replicas;
    if rolled_out && status.available_replicas >= desired {
        let message = format!("{} of {desired} pods are available", status.available_replicas);
        return ConditionValue::met(Reason::Ready, message);
    }
    let message = format!(
        "{} of {desired} pods of {key} are available, {} pods run the current version. Run: kubectl describe pods",
        status.available_replicas, status.updated_replicas
    );
    let reason = match status.available_replicas {
        0 => Reason::Provisioning,
        _ if !rolled_out => Reason::RollingOut,
        _ => Reason::Degraded,
    };
    ConditionValue::not_met(reason, message)
}
