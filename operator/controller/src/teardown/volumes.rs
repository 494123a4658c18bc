//! Volumes that outlive the pods of other operators. They are deleted one by one, because the right to delete a collection would cover every
//! volume of the namespace.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use ping_api::names::Names;

use super::TeardownError;
use crate::{build::CLUSTER_LABEL, context::Context};

/// Deletes the volumes of the cache. The Dragonfly operator does not do that.
pub(super) async fn delete_of_cache(names: &Names, context: &Context) -> Result<(), TeardownError> {
    let cache = names.cache();
    delete(names, &format!("app={cache}"), &format!("df-{cache}-"), context).await
}

/// Deletes the volumes of a node pool of the pipeline's own Kafka. Strimzi does that only if it has seen `deletionPolicy: Delete` before Kafka was
/// deleted. A new Kafka of the same name would find them, and not start with the data of another cluster.
pub(super) async fn delete_of_pool(pool: &str, names: &Names, context: &Context) -> Result<(), TeardownError> {
    let kafka = names.kafka();
    delete(names, &format!("{CLUSTER_LABEL}={kafka}"), &format!("data-0-{kafka}-{pool}-"), context).await
}

async fn delete(names: &Names, label: &str, prefix: &str, context: &Context) -> Result<(), TeardownError> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &names.namespace);
    let refused = |source| TeardownError::Refused { what: format!("the volumes {prefix}…"), source };
    let claims = api.list_metadata(&ListParams::default().labels(label)).await.map_err(refused)?.items;
    for claim in claims.iter().filter(|claim| is_numbered(&claim.name_any(), prefix)) {
        let same = Preconditions { uid: claim.uid(), resource_version: None };
        match api.delete(&claim.name_any(), &DeleteParams::background().preconditions(same)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            other => other.map(|_| ()).map_err(refused)?,
        }
    }
    Ok(())
}

/// True if `name` is `prefix` and the number of a pod. Anyone may set a label, so it is not enough.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_claims_of_numbered_pods_are_deleted() {
        let prefix = "data-0-demo-kafka-demo-broker-";
        assert!(is_numbered("data-0-demo-kafka-demo-broker-12", prefix));
        for other in
            ["data-0-demo-kafka-demo-broker-a-0", "data-0-demo-kafka-demo-broker-", "data-0-demo-kafka-0", "backups"]
        {
            assert!(!is_numbered(other, prefix), "{other}");
        }
    }
}
