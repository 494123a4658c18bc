//! Are the servers, or the processors, ready?

use serde::Deserialize;

use super::{Judgement, Scene, condition::Verdict, reason::Reason};
use crate::{foreign::Observed, kinds::Kind};

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

pub(super) fn judge(scene: &Scene<'_>, role: &str, wanted: i32) -> Judgement {
    let key = scene.pipeline.names.key(Kind::Deployment, scene.pipeline.names.part(role));
    if scene.pipeline.hibernate {
        return Judgement::new("asleep", Verdict::no(Reason::Hibernating, "hibernating"));
    }
    let Some(object) = scene.applied.live.get(&key) else {
        let message = match scene.pipeline.kafka.connection {
            None => format!("{key} waits for the address of Kafka"),
            Some(_) => format!("{key} is not there yet"),
        };
        return Judgement::new("-", Verdict::no(Reason::Provisioning, message));
    };
    let Observed { spec, status } = Observed::<DeploymentSeen, DeploymentStatus>::of(object);
    let status = status.unwrap_or_default();
    let wanted = spec.replicas.max(i64::from(wanted));
    let summary = format!("{}/{wanted}", status.available_replicas);
    Judgement::new(summary, verdict(&status, wanted, object.metadata.generation, &key.to_string()))
}

fn verdict(status: &DeploymentStatus, wanted: i64, generation: Option<i64>, key: &str) -> Verdict {
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
