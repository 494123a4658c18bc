//! Is the cache ready? The Dragonfly operator says `Ready` before its pods exist and after they are gone: look at the
//! StatefulSet as well.

use ping_api::{
    crd::cache::DragonflySpec,
    kinds::{Dependency, Kind},
};

use super::{
    Judgement, Scene,
    condition::Verdict,
    is_new,
    postgres::{external_secret, missing, silent},
    reason::Reason,
};
use crate::{
    external::{
        Observed,
        dragonfly::{DragonflySeen, DragonflyStatus},
    },
    pipeline::Cache,
};

pub(super) fn judge(scene: &Scene<'_>) -> Judgement {
    match &scene.pipeline.cache {
        Cache::External(external) => match &external.password {
            Some(password) => external_secret(scene, password),
            None => Judgement::new("external", Verdict::yes(Reason::External, "no password is used")),
        },
        Cache::Dragonfly(_) if scene.pipeline.hibernate => {
            Judgement::new("asleep", Verdict::no(Reason::Hibernating, "hibernating; it is rebuilt when it wakes up"))
        }
        Cache::Dragonfly(dragonfly) => own_dragonfly(scene, dragonfly),
    }
}

fn own_dragonfly(scene: &Scene<'_>, wanted: &DragonflySpec) -> Judgement {
    if scene.applied.missing.contains(&Dependency::Dragonfly) {
        return missing(Dependency::Dragonfly);
    }
    let key = scene.pipeline.names.key(Kind::Dragonfly, scene.pipeline.names.cache());
    let Some(object) = scene.applied.live.get(&key) else {
        return Judgement::new("-", Verdict::no(Reason::Provisioning, format!("{key} is not there yet")));
    };
    if let Some(password) = &wanted.password {
        let judgement = external_secret(scene, password);
        if !judgement.verdict.is_true() {
            return Judgement::new(format!("0/{}", wanted.replicas), judgement.verdict);
        }
    }
    let dragonfly: Observed<DragonflySeen, DragonflyStatus> = Observed::of(object);
    let phase = dragonfly.status.map(|status| status.phase).unwrap_or_default();
    let (ready, current) = pods(scene);
    let summary = format!("{ready}/{}", wanted.replicas);
    let all = current && ready >= i64::from(wanted.replicas);
    let verdict = match phase.as_str() {
        "" if !is_new(object, scene.now) => silent(Dependency::Dragonfly, &key.to_string()),
        "Ready" | "ready" if all => {
            Verdict::yes(Reason::Ready, format!("{ready} of {} pods are ready", wanted.replicas))
        }
        _ => {
            let message = format!("{ready} of {} pods of {key} are ready (phase \"{phase}\")", wanted.replicas);
            Verdict::no(if ready > 0 { Reason::Degraded } else { Reason::Provisioning }, message)
        }
    };
    Judgement::new(summary, verdict)
}

/// Ready pods of the StatefulSet, and whether its status is about its current spec.
fn pods(scene: &Scene<'_>) -> (i64, bool) {
    let Some(object) = &scene.refs.cache_pods else { return (0, false) };
    let number = |path: &str| object.data.pointer(path).and_then(serde_json::Value::as_i64);
    let current = number("/status/observedGeneration") == object.metadata.generation;
    (number("/status/readyReplicas").unwrap_or(0), current)
}
