//! The CloudNativePG cluster and its backups.

use std::collections::BTreeMap;

use ping_api::{
    crd::postgres::{Backup, DataDurability, PostgresCluster, Storage},
    kinds::Kind,
};

use super::metadata::{data_metadata, resources};
use crate::{
    desired::Desired,
    external::{
        ExternalObject,
        cnpg::{
            Affinity, Bootstrap, ClusterSpec, Compression, InheritedMetadata, Initdb, LocalName,
            ObjectStoreConfiguration, ObjectStoreSpec, Plugin, Postgresql, S3Credentials, ScheduledBackupSpec,
            Storage as CnpgStorage, Synchronous,
        },
    },
    pipeline::{Pipeline, Postgres},
};

const COMPONENT: &str = "postgres";
const BARMAN: &str = "barman-cloud.cloudnative-pg.io";

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    let Postgres::Cluster(cluster) = &pipeline.postgres else { return };
    let name = pipeline.names.postgres();
    let namespace = &pipeline.names.namespace;
    if let Some(backup) = &cluster.backup {
        let store = ExternalObject { metadata: data_metadata(pipeline, &name, COMPONENT), spec: object_store(backup) };
        desired.push(Kind::ObjectStore, namespace, &name, store);
    }
    let mut cluster_metadata = data_metadata(pipeline, &name, COMPONENT);
    let hibernation = if pipeline.hibernate { "on" } else { "off" };
    cluster_metadata.annotations.get_or_insert_default().insert("cnpg.io/hibernation".into(), hibernation.into());
    let spec = cluster_spec(cluster, &name);
    desired.push(Kind::Cluster, namespace, &name, ExternalObject { metadata: cluster_metadata, spec });
    if let Some(backup) = &cluster.backup {
        let scheduled = ExternalObject {
            metadata: data_metadata(pipeline, &name, COMPONENT),
            spec: scheduled_backup(backup, &name),
        };
        desired.push(Kind::ScheduledBackup, namespace, &name, scheduled);
    }
}

fn cluster_spec(cluster: &PostgresCluster, name: &str) -> ClusterSpec {
    ClusterSpec {
        instances: cluster.instances,
        image_name: cluster.image.clone(),
        bootstrap: Bootstrap {
            initdb: Initdb {
                database: "pings".into(),
                owner: "pings".into(),
                data_checksums: true,
                encoding: "UTF8".into(),
            },
        },
        postgresql: Postgresql { parameters: cluster.parameters.clone(), synchronous: synchronous(cluster) },
        storage: storage(&cluster.storage),
        wal_storage: cluster.wal_storage.as_ref().map(storage),
        resources: resources(&cluster.resources),
        affinity: Affinity {
            enable_pod_anti_affinity: true,
            topology_key: "kubernetes.io/hostname",
            pod_anti_affinity_type: "preferred",
        },
        enable_pdb: cluster.instances > 1,
        inherited_metadata: InheritedMetadata {
            labels: [("app.kubernetes.io/part-of".to_owned(), "pingpipeline".to_owned())].into(),
        },
        plugins: cluster.backup.iter().map(|_| plugin(name)).collect(),
    }
}

/// Synchronous replication; `None` for a single instance, which would have no standby to wait for and accept no writes.
fn synchronous(cluster: &PostgresCluster) -> Option<Synchronous> {
    let number = cluster.synchronous.number;
    (number > 0 && cluster.instances > 1).then(|| {
        let required = cluster.synchronous.data_durability == DataDurability::Required;
        Synchronous {
            method: "any",
            number,
            data_durability: if required { "required" } else { "preferred" },
            failover_quorum: (required && cluster.instances > 2).then_some(true),
        }
    })
}

fn storage(storage: &Storage) -> CnpgStorage {
    CnpgStorage { size: storage.size.clone(), storage_class: storage.storage_class.clone() }
}

fn plugin(store: &str) -> Plugin {
    Plugin {
        name: BARMAN,
        is_wal_archiver: true,
        parameters: BTreeMap::from([("barmanObjectName".to_owned(), store.to_owned())]),
    }
}

fn object_store(backup: &Backup) -> ObjectStoreSpec {
    ObjectStoreSpec {
        retention_policy: backup.retention.clone(),
        configuration: ObjectStoreConfiguration {
            destination_path: backup.destination_path.clone(),
            endpoint_url: backup.endpoint_url.clone(),
            s3_credentials: S3Credentials {
                access_key_id: backup.access_key_id.clone(),
                secret_access_key: backup.secret_access_key.clone(),
            },
            wal: Compression { compression: "gzip" },
            data: Compression { compression: "gzip" },
        },
    }
}

/// The backup schedule. CloudNativePG expects seconds as the first of six fields; the spec has five.
fn scheduled_backup(backup: &Backup, cluster: &str) -> ScheduledBackupSpec {
    ScheduledBackupSpec {
        cluster: LocalName { name: cluster.into() },
        schedule: format!("0 {}", backup.schedule.trim()),
        method: "plugin",
        plugin_configuration: LocalName { name: BARMAN.into() },
        backup_owner_reference: "self",
    }
}
