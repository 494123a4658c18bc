//! Status of Postgres. CloudNativePG reports `Ready` even if all pods are gone, and has no `observedGeneration`, so the ready
//! instances are checked, too.

use ping_api::{
    crd::{postgres::PostgresCluster, status::PostgresVolume},
    kinds::{Dependency, Kind},
    quantity,
    reason::Reason,
};

use super::component::{ComponentStatus, StatusInput, external_secrets, is_new, missing, silent};
use crate::{
    cluster_state::ClusterState,
    condition::ConditionValue,
    external::{
        Observed,
        cnpg::{ClusterStatus, ObservedCluster},
        true_condition,
    },
    pipeline::{Pipeline, Postgres, Tls},
};

pub(super) fn status(input: &StatusInput<'_>) -> ComponentStatus {
    match &input.pipeline.postgres {
        Postgres::External(external) => {
            let mut keys = vec![external.uri.clone()];
            keys.extend(external.read_uri.clone());
            keys.extend(input.pipeline.postgres_tls().iter().flat_map(Tls::keys));
            external_secrets(input, &keys)
        }
        Postgres::Cluster(cluster) => managed_cluster(input, cluster),
    }
}

/// The data volume of each instance.
pub(super) fn volume(pipeline: &Pipeline, state: &ClusterState) -> Option<PostgresVolume> {
    let Postgres::Cluster(cluster) = &pipeline.postgres else { return None };
    let capacity = state.postgres_capacity.as_deref().unwrap_or(&cluster.storage.size);
    let bytes = quantity::parse(capacity)? as i64;
    Some(PostgresVolume { bytes, holds_wal: cluster.wal_storage.is_none() })
}

fn managed_cluster(input: &StatusInput<'_>, spec: &PostgresCluster) -> ComponentStatus {
    let backup = spec.backup.as_ref().map(|_| Dependency::BarmanCloud);
    for dependency in [Some(Dependency::CloudNativePg), backup].into_iter().flatten() {
        if input.applied.missing.contains(&dependency) {
            return missing(dependency);
        }
    }
    let key = input.pipeline.names.key(Kind::Cluster, input.pipeline.names.postgres());
    let Some(object) = input.applied.live.get(&key) else {
        let condition = ConditionValue::not_met(Reason::Provisioning, format!("{key} does not exist yet"));
        return ComponentStatus::new("-", condition);
    };
    let cluster: Observed<ObservedCluster, ClusterStatus> = Observed::of(object);
    let Some(status) = cluster.status.filter(|status| status.phase.is_some() || !status.conditions.is_empty()) else {
        let condition = match is_new(object, input.now) {
            true => ConditionValue::not_met(Reason::Provisioning, format!("{key} was created recently")),
            false => silent(Dependency::CloudNativePg, &key.to_string()),
        };
        return ComponentStatus::new(format!("0/{}", spec.instances), condition);
    };
    if input.pipeline.hibernate {
        return ComponentStatus::new("hibernated", ConditionValue::not_met(Reason::Hibernating, "hibernating"));
    }
    let summary = format!("{}/{}", status.ready_instances, spec.instances);
    ComponentStatus::new(summary, condition(&status, i64::from(spec.instances), &key.to_string()))
}

fn condition(status: &ClusterStatus, desired: i64, key: &str) -> ConditionValue {
    let healthy = true_condition(&status.conditions, "Ready").is_some();
    let primary = status.current_primary.as_deref().filter(|name| !name.is_empty());
    let settled = primary.is_some() && status.current_primary == status.target_primary;
    let phase = status.phase.as_deref().unwrap_or("no phase yet");
    let detail = match status.phase_reason.as_deref().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{phase}: {reason}"),
        None => phase.to_owned(),
    };
    if healthy && settled && status.ready_instances >= desired {
        let message = format!("{} of {desired} instances are ready", status.ready_instances);
        return ConditionValue::met(Reason::Ready, message);
    }
    let message = format!(
        "{} of {desired} instances of {key} are ready ({detail}). Run: kubectl describe clusters.postgresql.cnpg.io",
        status.ready_instances
    );
    let reason = if settled && status.ready_instances > 0 { Reason::Degraded } else { Reason::Provisioning };
    ConditionValue::not_met(reason, message)
}
