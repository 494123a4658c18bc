//! Backups of the CloudNativePG cluster, and the backup that it is restored from.

use std::collections::BTreeMap;

use ping_api::{
    crd::{
        backup::{Backup, ObjectStore, Recovery},
        postgres::PostgresCluster,
    },
    kinds::Kind,
    names::{BARMAN_PLUGIN, Names},
};

use super::metadata::data_metadata;
use crate::{
    desired::Desired,
    external::{
        ExternalObject,
        barman::{
            AzureCredentials, Compression, Credentials, GoogleCredentials, LocalName, ObjectStoreConfiguration,
            ObjectStoreSpec, S3Credentials, ScheduledBackupSpec,
        },
        cnpg::{
            ExternalCluster, Plugin, Recovery as CnpgRecovery, RecoveryTarget, VolumeSnapshot,
            VolumeSnapshots as CnpgSnapshots,
        },
    },
    pipeline::Pipeline,
};

/// Component of the objects of Postgres.
pub(super) const COMPONENT: &str = "postgres";
/// The database, and the user who owns it.
pub(super) const DATABASE: &str = "pings";
/// Name of the cluster that is restored, within the spec of the new one.
const ORIGIN: &str = "origin";

/// The object stores of the backups, and of the backup that the cluster is restored from.
pub(super) fn stores(pipeline: &Pipeline, cluster: &PostgresCluster, desired: &mut Desired) {
    let mut push = |name: String, store: &ObjectStore, retention: Option<&str>| {
        let metadata = data_metadata(pipeline, &name, COMPONENT);
        let object = ExternalObject { metadata, spec: object_store(store, retention) };
        desired.push(Kind::ObjectStore, &pipeline.names.namespace, &name, object);
    };
    if let Some(backup) = &cluster.backup {
        push(pipeline.names.postgres(), &backup.store, Some(&backup.retention));
    }
    // No retention: backups of another cluster are only read.
    if let Some(origin) = cluster.recovery.as_ref().and_then(|recovery| recovery.object_store.as_ref()) {
        push(pipeline.names.postgres_origin(), &origin.store, None);
    }
}

/// The schedule of backups.
pub(super) fn schedule(pipeline: &Pipeline, cluster: &PostgresCluster, desired: &mut Desired) {
    let Some(backup) = &cluster.backup else { return };
    let name = pipeline.names.postgres();
    let metadata = data_metadata(pipeline, &name, COMPONENT);
    let object = ExternalObject { metadata, spec: scheduled_backup(backup, &name) };
    desired.push(Kind::ScheduledBackup, &pipeline.names.namespace, &name, object);
}

/// The plugin that archives the write-ahead log.
pub(super) fn archiver(pipeline: &Pipeline) -> Plugin {
    plugin(pipeline.names.postgres(), None, Some(true))
}

/// How the database is restored.
pub(super) fn recovery(recovery: &Recovery) -> CnpgRecovery {
    let snapshot = |name: &String| VolumeSnapshot {
        api_group: "snapshot.storage.k8s.io",
        kind: "VolumeSnapshot",
        name: name.clone(),
    };
    CnpgRecovery {
        source: (recovery.object_store.is_some() || recovery.pipeline.is_some()).then_some(ORIGIN),
        database: DATABASE.into(),
        owner: DATABASE.into(),
        recovery_target: recovery.target_time.clone().map(|target_time| RecoveryTarget { target_time }),
        volume_snapshots: recovery.volume_snapshots.as_ref().map(|snapshots| CnpgSnapshots {
            storage: snapshot(&snapshots.storage),
            wal_storage: snapshots.wal_storage.as_ref().map(snapshot),
        }),
    }
}

/// The cluster whose backups are restored; `None` if only snapshots are.
pub(super) fn origin(recovery: &Recovery, pipeline: &Pipeline) -> Option<ExternalCluster> {
    let (store, server) = match (&recovery.object_store, &recovery.pipeline) {
        (Some(store), _) => (pipeline.names.postgres_origin(), store.server_name.clone()),
        (None, Some(other)) => {
            let other = Names { pipeline: other.clone(), namespace: pipeline.names.namespace.clone() }.postgres();
            (other.clone(), other)
        }
        (None, None) => return None,
    };
    Some(ExternalCluster { name: ORIGIN, plugin: plugin(store, Some(server), None) })
}

fn plugin(store: String, server: Option<String>, is_wal_archiver: Option<bool>) -> Plugin {
    let mut parameters = BTreeMap::from([("barmanObjectName".to_owned(), store)]);
    parameters.extend(server.map(|server| ("serverName".to_owned(), server)));
    Plugin { name: BARMAN_PLUGIN, is_wal_archiver, parameters }
}

fn object_store(store: &ObjectStore, retention: Option<&str>) -> ObjectStoreSpec {
    ObjectStoreSpec {
        retention_policy: retention.map(str::to_owned),
        configuration: ObjectStoreConfiguration {
            destination_path: store.destination_path.clone(),
            endpoint_url: store.endpoint_url.clone(),
            endpoint_ca: store.endpoint_ca.clone(),
            credentials: credentials(store),
            wal: Compression { compression: "gzip" },
            data: Compression { compression: "gzip" },
        },
    }
}

/// The credentials that the spec names, or the identity of the pods.
fn credentials(store: &ObjectStore) -> Credentials {
    if store.destination_path.starts_with("gs://") {
        return Credentials::GoogleCredentials(match &store.google_credentials {
            Some(key) => GoogleCredentials::ApplicationCredentials(key.clone()),
            None => GoogleCredentials::GkeEnvironment(true),
        });
    }
    if store.destination_path.starts_with("http") {
        return Credentials::AzureCredentials(match &store.azure_connection_string {
            Some(key) => AzureCredentials::ConnectionString(key.clone()),
            None => AzureCredentials::Identity(true),
        });
    }
    Credentials::S3Credentials(match (&store.access_key_id, &store.secret_access_key) {
        (Some(id), Some(secret)) => S3Credentials::Key { access_key_id: id.clone(), secret_access_key: secret.clone() },
        _ => S3Credentials::Identity { inherit: true },
    })
}

/// The backup schedule. CloudNativePG expects seconds as the first of six fields; the spec has five.
fn scheduled_backup(backup: &Backup, cluster: &str) -> ScheduledBackupSpec {
    ScheduledBackupSpec {
        cluster: LocalName { name: cluster.into() },
        schedule: format!("0 {}", backup.schedule.trim()),
        method: "plugin",
        plugin_configuration: LocalName { name: BARMAN_PLUGIN.into() },
        backup_owner_reference: "self",
    }
}
