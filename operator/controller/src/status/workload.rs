//! Are the servers, or the processors, ready?

use ping_api::kinds::{Key, Kind};
use serde::Deserialize;

use super::{Judgement, Scene, condition::Verdict, reason::Reason};
use crate::external::Observed;

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeploymentSeen {
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

/// What one Deployment has to show.
struct Pods {
    /// Available; none while there is no Deployment.
    available: Option<i64>,
    wanted: i64,
    verdict: Verdict,
}

/// Judges Deployments together, by component and the pods that are wanted of it at least.
pub(super) fn judge(scene: &Scene<'_>, deployments: impl IntoIterator<Item = (&'static str, i32)>) -> Judgement {
    if scene.pipeline.hibernate {
        return Judgement::new("asleep", Verdict::no(Reason::Hibernating, "hibernating"));
    }
    let all: Vec<Pods> = deployments.into_iter().map(|(component, wanted)| pods(scene, component, wanted)).collect();
    let wanted: i64 = all.iter().map(|pods| pods.wanted).sum();
    let available: i64 = all.iter().filter_map(|pods| pods.available).sum();
    let summary = match all.iter().any(|pods| pods.available.is_some()) {
        true => format!("{available}/{wanted}"),
        false => "-".into(),
    };
    let fine = || Verdict::yes(Reason::Ready, format!("{available} of {wanted} pods are available"));
    let verdict = all.into_iter().map(|pods| pods.verdict).find(|verdict| !verdict.is_true());
    Judgement::new(summary, verdict.unwrap_or_else(fine))
}

fn pods(scene: &Scene<'_>, component: &str, wanted: i32) -> Pods {
    let key = scene.pipeline.names.key(Kind::Deployment, scene.pipeline.names.part(component));
    let Some(object) = scene.applied.live.get(&key) else {
        let message = match scene.pipeline.kafka.connection {
            None => format!("{key} waits for the address of Kafka"),
            Some(_) => format!("{key} is not there yet"),
        };
        let verdict = Verdict::no(Reason::Provisioning, message);
        return Pods { available: None, wanted: i64::from(wanted), verdict };
    };
    let Observed { spec, status } = Observed::<DeploymentSeen, DeploymentStatus>::of(object);
    let status = status.unwrap_or_default();
    let wanted = spec.replicas.max(i64::from(wanted));
    let verdict = verdict(&status, wanted, object.metadata.generation, &key);
    Pods { available: Some(status.available_replicas), wanted, verdict }
}

fn verdict(status: &DeploymentStatus, wanted: i64, generation: Option<i64>, key: &Key) -> Verdict {
    let current = Some(status.observed_generation) >= generation;
    let rolled = current && status.updated_replicas >= wanted && status.replicas <= status.updated_replicas;
    if rolled && status.available_replicas >= wanted {
        return Verdict::yes(Reason::Ready, format!("{} of {wanted} pods are available", status.available_replicas));
    }
    let message = format!(
        "{} of {wanted} pods of {key} are available, {} of them of the current version. See: kubectl describe pods",
        status.available_replicas, status.updated_replicas
    );
    let reason = match status.available_replicas {
        0 => Reason::Provisioning,
        _ if !rolled => Reason::RollingOut,
        _ => Reason::Degraded,
    };
    Verdict::no(reason, message)
}
