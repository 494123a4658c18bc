//! The CloudNativePG cluster.

use ping_api::{
    crd::postgres::{DataDurability, PostgresCluster, Storage},
    kinds::Kind,
};

use super::{
    backup::{self, COMPONENT, DATABASE},
    metadata::{data_metadata, resources},
};
use crate::{
    desired::Desired,
    external::{
        ExternalObject,
        cnpg::{
            Affinity, Annotations, Bootstrap, ClusterSpec, InheritedMetadata, Initdb, Postgresql,
            ServiceAccountTemplate, Storage as CnpgStorage, Synchronous,
        },
    },
    pipeline::{Pipeline, Postgres},
};

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    let Postgres::Cluster(cluster) = &pipeline.postgres else { return };
    let name = pipeline.names.postgres();
    backup::stores(pipeline, cluster, desired);
    let mut metadata = data_metadata(pipeline, &name, COMPONENT);
    let hibernation = if pipeline.hibernate { "on" } else { "off" };
    metadata.annotations.get_or_insert_default().insert("cnpg.io/hibernation".into(), hibernation.into());
    let spec = cluster_spec(cluster, pipeline);
    desired.push(Kind::Cluster, &pipeline.names.namespace, &name, ExternalObject { metadata, spec });
    backup::schedule(pipeline, cluster, desired);
}

fn cluster_spec(cluster: &PostgresCluster, pipeline: &Pipeline) -> ClusterSpec {
    let annotations = cluster.service_account_annotations.clone();
    ClusterSpec {
        instances: cluster.instances,
        image_name: cluster.image.clone(),
        bootstrap: match &cluster.recovery {
            Some(recovery) => Bootstrap::Recovery(backup::recovery(recovery)),
            None => Bootstrap::Initdb(Initdb {
                database: DATABASE.into(),
                owner: DATABASE.into(),
                data_checksums: true,
                encoding: "UTF8".into(),
            }),
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
        service_account_template: (!annotations.is_empty())
            .then_some(ServiceAccountTemplate { metadata: Annotations { annotations } }),
        plugins: cluster.backup.iter().map(|_| backup::archiver(pipeline)).collect(),
        external_clusters: cluster.recovery.iter().filter_map(|of| backup::origin(of, pipeline)).collect(),
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
