//! A volume provisioner: a volume is a folder of this machine that every user may write to, and goes when its claim goes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use super::world::World;

const CLASS: &str = "folders";

pub(super) async fn pass(world: &World, folder: &Path) -> anyhow::Result<()> {
    let claims: Api<PersistentVolumeClaim> = Api::all(world.client.clone());
    for claim in claims.list(&ListParams::default()).await?.items {
        let spec = claim.spec.clone().unwrap_or_default();
        let pending = spec.volume_name.is_none() && claim.metadata.deletion_timestamp.is_none();
        if pending && spec.storage_class_name.as_deref() == Some(CLASS) {
            provision(world, &claim, folder).await?;
        }
    }
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    for volume in volumes.list(&ListParams::default()).await?.items {
        let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
        if released {
            volumes.delete(&volume.name_any(), &DeleteParams::default()).await?;
            fs::remove_dir_all(folder.join(volume.name_any()))?;
        }
    }
    Ok(())
}

async fn provision(world: &World, claim: &PersistentVolumeClaim, folder: &Path) -> anyhow::Result<()> {
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let name = format!("pvc-{uid}");
    let path = folder.join(&name);
    fs::create_dir_all(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    let spec = claim.spec.clone().unwrap_or_default();
    world
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
