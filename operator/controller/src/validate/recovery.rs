//! The backup that a cluster is restored from.

use k8s_openapi::jiff::Timestamp;
use ping_api::{
    crd::{
        backup::{Recovery, RecoveryStore},
        postgres::PostgresCluster,
    },
    kinds::Kind,
    names::Names,
};

use super::invalid::{Invalid, conflicting};
use crate::{
    cluster_state::ClusterState,
    external::cnpg::ObservedCluster,
    pipeline::{Postgres, Restore},
};

/// Rejects a recovery that cannot be done, or whose new backups would end up among the old ones. `live` is the cluster, if it exists.
pub(super) fn recovery(
    cluster: &PostgresCluster,
    names: &Names,
    live: Option<&ObservedCluster>,
) -> Result<(), Invalid> {
    let Some(recovery) = &cluster.recovery else { return Ok(()) };
    origins(recovery)?;
    if live.is_some_and(|live| live.bootstrap.recovery.is_none()) {
        return Err(Invalid::Irreversible(format!(
            "spec.postgres.cluster.recovery is set, but the cluster {} exists and has data of its own. Remove recovery, or \
             create a PingPipeline with another name",
            names.postgres()
        )));
    }
    let same_name = recovery.pipeline.as_ref() == Some(&names.pipeline)
        || recovery.object_store.as_ref().is_some_and(|origin| is_own(origin, cluster, names));
    if same_name {
        return Err(conflicting(
            "the restored pipeline would write its backups among those that it is restored from. Create a PingPipeline with \
             another name, or set another destinationPath for its backups",
        ));
    }
    match recovery.target_time.as_deref().map(str::parse::<Timestamp>) {
        Some(Err(error)) => Err(Invalid::Conflicting(format!(
            "spec.postgres.cluster.recovery.targetTime is not a time of RFC 3339, like 2026-11-28T09:30:00Z: {error}"
        ))),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// The restore that Postgres was started from, if its cluster exists.
pub(super) fn restore(postgres: &Postgres, names: &Names, state: &ClusterState) -> Option<Restore> {
    let Postgres::Cluster(cluster) = postgres else { return None };
    cluster.recovery.as_ref()?;
    let metadata = &state.live.get(&names.key(Kind::Cluster, names.postgres()))?.metadata;
    Some(Restore { id: metadata.uid.clone()?, at: metadata.creation_timestamp.clone()? })
}

/// The same as the rules in the CRD, for API servers that do not evaluate them.
fn origins(recovery: &Recovery) -> Result<(), Invalid> {
    let Recovery { object_store, pipeline, volume_snapshots, target_time } = recovery;
    let has_log = object_store.is_some() || pipeline.is_some();
    match (object_store, pipeline) {
        (Some(_), Some(_)) => {
            Err(conflicting("set either spec.postgres.cluster.recovery.objectStore or pipeline, not both"))
        }
        _ if !has_log && volume_snapshots.is_none() => {
            Err(conflicting("set objectStore, pipeline or volumeSnapshots in spec.postgres.cluster.recovery"))
        }
        _ if !has_log && target_time.is_some() => Err(conflicting(
            "spec.postgres.cluster.recovery.targetTime needs the write-ahead log: set objectStore or pipeline, too",
        )),
        _ => Ok(()),
    }
}

/// True if the cluster's own backups have the same place as those of `origin`.
fn is_own(origin: &RecoveryStore, cluster: &PostgresCluster, names: &Names) -> bool {
    let path = |path: &str| path.trim_end_matches('/').to_owned();
    let of_cluster = cluster.backup.as_ref().is_some_and(|backup| {
        let (own, other) = (&backup.store, &origin.store);
        own.endpoint_url == other.endpoint_url && path(&own.destination_path) == path(&other.destination_path)
    });
    of_cluster && origin.server_name == names.postgres()
}
