//! Pods of the pipeline, selected by labels.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};

use crate::cluster::Cluster;

/// The pods that `selector` matches.
pub(super) async fn find(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<Pod>> {
    let found = api(cluster).list(&ListParams::default().labels(selector)).await?;
    Ok(found.items)
}

/// Names of the matching pods that are not being deleted.
pub(super) async fn remaining(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<String>> {
    let found = find(cluster, selector).await?;
    Ok(found.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(ResourceExt::name_any).collect())
}

/// Deletes a pod with its own grace period, or with `grace_period` seconds. It may be gone already.
pub(super) async fn delete(cluster: &Cluster, pod: &str, grace_period: Option<u32>) -> anyhow::Result<()> {
    let params = DeleteParams { grace_period_seconds: grace_period, ..DeleteParams::default() };
    match api(cluster).delete(pod, &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot delete pod {pod}")),
        Ok(_) => Ok(()),
    }
}

/// The pods of the namespace.
pub(super) fn api(cluster: &Cluster) -> Api<Pod> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}
