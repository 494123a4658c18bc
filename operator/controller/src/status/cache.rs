//! Status of the cache. The Dragonfly operator reports `Ready` before its pods exist and after they are gone, so the StatefulSet is
//! checked, too.

use ping_api::{
    crd::{SecretKey, cache::DragonflySpec},
    kinds::{Dependency, Kind},
    reason::Reason,
};

use super::component::{ComponentStatus, StatusInput, external_secret, external_secrets, is_new, missing, silent};
use crate::{
    condition::ConditionValue,
    external::{
        Observed,
        dragonfly::{DragonflyStatus, ObservedDragonfly},
    },
    pipeline::{Cache, Tls},
};

pub(super) fn status(input: &StatusInput<'_>) -> ComponentStatus {
    match &input.pipeline.cache {
        Cache::External(external) => {
            let mut keys: Vec<SecretKey> = external.password.iter().cloned().collect();
            keys.extend(input.pipeline.cache_tls().iter().flat_map(Tls::keys));
            if keys.is_empty() {
                let condition = ConditionValue::met(Reason::External, "the external cache is used without a password");
                return ComponentStatus::new("external", condition);
            }
            external_secrets(input, &keys)
        }
        Cache::Dragonfly(_) if input.pipeline.hibernate => {
            let message = "hibernating; the cache is rebuilt when the pipeline starts again";
            ComponentStatus::new("hibernated", ConditionValue::not_met(Reason::Hibernating, message))
        }
        Cache::Dragonfly(dragonfly) => managed_dragonfly(input, dragonfly),
    }
}

fn managed_dragonfly(input: &StatusInput<'_>, spec: &DragonflySpec) -> ComponentStatus {
    if input.applied.missing.contains(&Dependency::Dragonfly) {
        return missing(Dependency::Dragonfly);
    }
    let key = input.pipeline.names.key(Kind::Dragonfly, input.pipeline.names.cache());
    let Some(object) = input.applied.live.get(&key) else {
        let condition = ConditionValue::not_met(Reason::Provisioning, format!("{key} does not exist yet"));
        return ComponentStatus::new("-", condition);
    };
    if let Some(password) = &spec.password {
        let secret = external_secret(input, password);
        if !secret.condition.is_met() {
            return ComponentStatus::new(format!("0/{}", spec.replicas), secret.condition);
        }
    }
    let dragonfly: Observed<ObservedDragonfly, DragonflyStatus> = Observed::of(object);
    let phase = dragonfly.status.map(|status| status.phase).unwrap_or_default();
    let (ready, current) = ready_pods(input);
    let summary = format!("{ready}/{}", spec.replicas);
    let all_ready = current && ready >= i64::from(spec.replicas);
    let condition = match phase.as_str() {
        "" if !is_new(object, input.now) => silent(Dependency::Dragonfly, &key.to_string()),
        "Ready" | "ready" if all_ready => {
            ConditionValue::met(Reason::Ready, format!("{ready} of {} pods are ready", spec.replicas))
        }
        _ => {
            let message = format!("{ready} of {} pods of {key} are ready (phase \"{phase}\")", spec.replicas);
            ConditionValue::not_met(if ready > 0 { Reason::Degraded } else { Reason::Provisioning }, message)
        }
    };
    ComponentStatus::new(summary, condition)
}

/// Number of ready pods of the StatefulSet, and whether its status describes its current spec.
fn ready_pods(input: &StatusInput<'_>) -> (i64, bool) {
    let Some(object) = &input.state.cache_pods else { return (0, false) };
    let number = |path: &str| object.data.pointer(path).and_then(serde_json::Value::as_i64);
    let current = number("/status/observedGeneration") == object.metadata.generation;
    (number("/status/readyReplicas").unwrap_or(0), current)
}
