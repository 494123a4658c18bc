//! How many pods a Deployment is told to have. A field that server-side apply gives up, and nobody else owns, falls back to
//! its default of 1: so the number is kept until an autoscaler has taken it over.

use kube::{ResourceExt, api::DynamicObject};

use crate::{
    crd::PingPipelineSpec,
    kinds::Kind,
    names::{Names, OPERATOR},
    pipeline::Replicas,
    refs::Refs,
};

pub(super) fn replicas(spec: &PingPipelineSpec, names: &Names, refs: &Refs) -> Replicas {
    let number = |role: &str, fixed: i32, at_least: Option<i32>| match (spec.hibernate, at_least) {
        (true, _) => Some(0),
        (false, None) => Some(fixed),
        (false, Some(at_least)) => match refs.live.get(&names.key(Kind::Deployment, names.part(role))) {
            None => Some(at_least),
            Some(live) if is_taken_over(live) => None,
            Some(live) => Some(current(live).max(at_least)),
        },
    };
    let server = spec.server.autoscaling.as_ref().map(|scaling| scaling.min_replicas);
    let processor = spec.processor.autoscaling.as_ref().map(|scaling| scaling.min_replicas);
    Replicas {
        server: number("server", spec.server.replicas, server),
        processor: number("processor", spec.processor.replicas, processor),
    }
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
