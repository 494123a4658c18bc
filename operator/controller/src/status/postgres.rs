//! Is Postgres ready? CloudNativePG says so even when every pod is gone, and has no observedGeneration: count as well.

use ping_api::{
    crd::{SecretKey, postgres::PostgresCluster},
    kinds::{Dependency, Kind},
};

use super::{Judgement, Scene, condition::Verdict, is_new, reason::Reason};
use crate::{
    external::{
        Observed,
        cnpg::{ClusterSeen, ClusterStatus},
        said,
    },
    pipeline::Postgres,
};

pub(super) fn judge(scene: &Scene<'_>) -> Judgement {
    match &scene.pipeline.postgres {
        Postgres::External(external) => external_secret(scene, &external.uri),
        Postgres::Cluster(cluster) => own_cluster(scene, cluster),
    }
}

/// A secret that has to be there for an external part to be usable.
pub(super) fn external_secret(scene: &Scene<'_>, key: &SecretKey) -> Judgement {
    let namespace = &scene.pipeline.names.namespace;
    let verdict = match scene.refs.secret(namespace, &key.name, &key.key) {
        Some(_) => Verdict::yes(Reason::External, format!("Secret {} is there", key.name)),
        None => Verdict::no(
            Reason::SecretMissing,
            format!("Secret {namespace}/{} has no key {}; create it", key.name, key.key),
        ),
    };
    Judgement::new("external", verdict)
}

/// A dependency that is not installed.
pub(super) fn missing(dependency: Dependency) -> Judgement {
    let (group, version) = dependency.group_version();
    let message = format!(
        "the API {group}/{version} is not served: install {}. It is picked up within seconds",
        dependency.title()
    );
    Judgement::new("missing", Verdict::no(Reason::DependencyMissing, message))
}

fn own_cluster(scene: &Scene<'_>, wanted: &PostgresCluster) -> Judgement {
    let backup = wanted.backup.as_ref().map(|_| Dependency::BarmanCloud);
    for dependency in [Some(Dependency::CloudNativePg), backup].into_iter().flatten() {
        if scene.applied.missing.contains(&dependency) {
            return missing(dependency);
        }
    }
    let key = scene.pipeline.names.key(Kind::Cluster, scene.pipeline.names.postgres());
    let Some(object) = scene.applied.live.get(&key) else {
        return Judgement::new("-", Verdict::no(Reason::Provisioning, format!("{key} is not there yet")));
    };
    let cluster: Observed<ClusterSeen, ClusterStatus> = Observed::of(object);
    let Some(status) = cluster.status.filter(|status| status.phase.is_some() || !status.conditions.is_empty()) else {
        let verdict = match is_new(object, scene.now) {
            true => Verdict::no(Reason::Provisioning, format!("{key} was just created")),
            false => silent(Dependency::CloudNativePg, &key.to_string()),
        };
        return Judgement::new(format!("0/{}", wanted.instances), verdict);
    };
    let summary = format!("{}/{}", status.ready_instances, wanted.instances);
    if scene.pipeline.hibernate {
        return Judgement::new("asleep", Verdict::no(Reason::Hibernating, "hibernating"));
    }
    Judgement::new(summary, verdict(&status, i64::from(wanted.instances), &key.to_string()))
}

fn verdict(status: &ClusterStatus, wanted: i64, key: &str) -> Verdict {
    let healthy = said(&status.conditions, "Ready").is_some();
    let primary = status.current_primary.as_deref().filter(|name| !name.is_empty());
    let settled = primary.is_some() && status.current_primary == status.target_primary;
    let phase = status.phase.as_deref().unwrap_or("no phase yet");
    let detail = match status.phase_reason.as_deref().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{phase}: {reason}"),
        None => phase.to_owned(),
    };
    if healthy && settled && status.ready_instances >= wanted {
        return Verdict::yes(Reason::Ready, format!("{} of {wanted} instances are ready", status.ready_instances));
    }
    let message = format!(
        "{} of {wanted} instances of {key} are ready ({detail}). See: kubectl describe clusters.postgresql.cnpg.io",
        status.ready_instances
    );
    let reason = if settled && status.ready_instances > 0 { Reason::Degraded } else { Reason::Provisioning };
    Verdict::no(reason, message)
}

/// The other operator has not said a word.
pub(super) fn silent(dependency: Dependency, key: &str) -> Verdict {
    let message = format!(
        "{} has said nothing about {key} for {} s. Is its operator running, and does it watch this namespace?",
        dependency.title(),
        super::SILENCE_SECONDS
    );
    Verdict::no(Reason::OperatorSilent, message)
}
