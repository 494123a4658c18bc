//! What backups need: the Barman Cloud plugin of CloudNativePG, and an object store.
//!
//! `testbed/control-plane/install.sh barman-cloud` installs the programs.

use std::fs;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Cluster, archives, create_subfolder};
use crate::{
    certificates::{Authority, Leaf},
    control_plane::{cached, version},
};

const KUSTOMIZATION: &str = include_str!("../../cluster/backups/kustomization.yaml");
const OBJECT_STORE: &str = include_str!("../../cluster/backups/object-store.yaml");
/// Namespace and name of the object store.
const STORE: &str = "object-store";
/// Its name for pods. moto takes a host outside of `svc.cluster.local` for one whose first label is a bucket.
const HOST: &str = "object-store.object-store.svc.cluster.local";
const PORT: u16 = 9000;
/// Namespace of CloudNativePG and of its plugins.
const PLUGINS: &str = "cnpg-system";

/// An object store with the API of S3, in the cluster. It accepts every key, and has no buckets at first.
#[derive(Debug)]
pub struct ObjectStore {
    /// Its URL for pods.
    pub url: String,
    /// IP address and port of its Service, which this machine reaches, too.
    pub address: String,
    /// The CA of its certificate, as PEM.
    pub ca: String,
}

impl Cluster {
    /// Installs the plugin and starts the object store; returns when both are ready.
    pub async fn install_backups(&self) -> anyhow::Result<ObjectStore> {
        for archive in archives("backups").await? {
            self.import(&archive).await?;
        }
        let kubectl = self.control_plane();
        let authority = Authority::new("test bed")?;
        kubectl.kubectl_with_input(["apply", "--filename=-"], &secrets(&authority)?.to_string()).await?;
        let folder = self.write_manifests()?;
        let manifests = kubectl.kubectl(["kustomize", &folder]).await?;
        kubectl.kubectl_with_input(["apply", "--server-side", "--filename=-"], &manifests).await?;
        self.wait_until_ready(PLUGINS, "deployment/barman-cloud").await?;
        self.wait_until_ready(STORE, "deployment/object-store").await?;
        let address = ["get", "service", STORE, "--namespace", STORE, "--output=jsonpath={.spec.clusterIP}"];
        let address = kubectl.kubectl(address).await?;
        Ok(ObjectStore {
            url: format!("https://{HOST}:{PORT}"),
            address: format!("{}:{PORT}", address.trim()),
            ca: authority.certificate().to_owned(),
        })
    }

    /// Writes what kustomize reads; its folder.
    fn write_manifests(&self) -> anyhow::Result<String> {
        let release = cached("barman-cloud", "BARMAN_CLOUD_PLUGIN_VERSION")?.join("release.yaml");
        let folder = create_subfolder(self.folder(), "backups")?;
        fs::copy(&release, folder.join("release.yaml")).with_context(|| {
            format!("{} is missing: run testbed/control-plane/install.sh barman-cloud", release.display())
        })?;
        let version = version("BARMAN_CLOUD_PLUGIN_VERSION")?;
        for (name, content) in [("kustomization.yaml", KUSTOMIZATION), ("object-store.yaml", OBJECT_STORE)] {
            fs::write(folder.join(name), content.replace("@VERSION@", version))?;
        }
        Ok(folder.to_string_lossy().into_owned())
    }
}

/// The certificates by which CloudNativePG and the plugin know each other, and that of the object store, with its namespace. The first two are their
/// own authorities, as in the plugin's release: a client in Go sends none that another authority signed, because the plugin does not name that.
fn secrets(authority: &Authority) -> anyhow::Result<Value> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": STORE } });
    let items = [
        namespace,
        secret(PLUGINS, "barman-cloud-server-tls", &Leaf::self_signed("barman-cloud")?),
        secret(PLUGINS, "barman-cloud-client-tls", &Leaf::self_signed("barman-cloud-client")?),
        secret(STORE, "object-store-tls", &authority.server(&[HOST])?),
    ];
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

fn secret(namespace: &str, name: &str, leaf: &Leaf) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": { "name": name, "namespace": namespace },
        "stringData": { "tls.crt": leaf.certificate, "tls.key": leaf.key },
    })
}
