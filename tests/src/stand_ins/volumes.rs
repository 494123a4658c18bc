//! A stand-in for a volume provisioner. A volume is a folder of this machine that is writable by every user and is deleted
//! together with its claim.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use super::cluster_client::ClusterClient;

const CLASS: &str = "folders";

pub(super) async fn reconcile_all(client: &ClusterClient, folder: &Path) -> anyhow::Result<()> {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.kube.clone());
    for claim in claims.list(&ListParams::default()).await?.items {
        let spec = claim.spec.clone().unwrap_or_default();
        let pending = spec.volume_name.is_none() && claim.metadata.deletion_timestamp.is_none();
        if pending && spec.storage_class_name.as_deref() == Some(CLASS) {
            provision(client, &claim, folder).await?;
        }
    }
    let volumes: Api<PersistentVolume> = Api::all(client.kube.clone());
    for volume in volumes.list(&ListParams::default()).await?.items {
        let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
        if released {
            volumes.delete(&volume.name_any(), &DeleteParams::default()).await?;
            fs::remove_dir_all(folder.join(volume.name_any()))?;
        }
    }
    Ok(())
}

async fn provision(client: &ClusterClient, claim: &PersistentVolumeClaim, folder: &Path) -> anyhow::Result<()> {
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let name = format!("pvc-{uid}");
    let path = folder.join(&name);
    fs::create_dir_all(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    let spec = claim.spec.clone().unwrap_or_default();
    client
        .apply(json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name, "annotations": { "pv.kubernetes.io/provisioned-by": "testbed/folders" } },
            "spec": {
                "capacity": spec.resources.and_then(|resources| resources.requests),
                "accessModes": spec.access_modes,
                "storageClassName": CLASS,
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": { "path": path },
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "name": claim.name_any(), "namespace": claim.namespace(), "uid": uid,
                },
            },
        }))
        .await?;
    Ok(())
}
