//! Step 1, the only one that reads from the cluster: objects with the pipeline's labels, its Secrets, and the Kafka cluster it
//! refers to.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use ping_api::{
    crd::{PingPipeline, SecretKey},
    kinds::{Dependency, Key, Kind},
    names::{NAMESPACE_LABEL, Names, PIPELINE_LABEL},
};

use crate::{
    cluster_state::{ClusterState, ObservedObjects},
    context::Context,
    error::{is_absent, present},
    external::Observed,
};

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}")]
pub struct ReadError {
    what: String,
    source: kube::Error,
}

/// Reads everything that `pipeline` depends on.
///
/// # Errors
/// If the API server rejects a request or does not respond. A missing object is not an error.
pub async fn read(pipeline: &PingPipeline, context: &Context) -> Result<ClusterState, ReadError> {
    let names = Names::of(pipeline);
    let dependencies = context.dependencies.served();
    let live = observed_objects(pipeline, &names, &dependencies, context).await?;
    let secrets = secrets(pipeline, &names, context).await?;
    let kafka = match (&pipeline.spec.kafka.cluster_ref, dependencies.contains(&Dependency::Strimzi)) {
        (Some(reference), true) => {
            let namespace = reference.namespace.as_ref().unwrap_or(&names.namespace);
            get(&Key::new(Kind::Kafka, namespace, &reference.name), context).await?.as_ref().map(Observed::of)
        }
        _ => None,
    };
    let cache_pods = match pipeline.spec.cache.external {
        None => get(&names.key(Kind::StatefulSet, names.cache()), context).await?,
        Some(_) => None,
    };
    Ok(ClusterState { dependencies, live, secrets, kafka, cache_pods, image: context.image.clone() })
}

/// Every object that a reconcile of `pipeline` reads, apart from those it creates.
#[must_use]
pub fn references(pipeline: &PingPipeline) -> BTreeSet<Key> {
    let names = Names::of(pipeline);
    let mut keys = secret_keys(pipeline, &names);
    if let Some(reference) = &pipeline.spec.kafka.cluster_ref {
        let namespace = reference.namespace.as_ref().unwrap_or(&names.namespace);
        keys.insert(Key::new(Kind::Kafka, namespace, &reference.name));
    }
    keys.insert(names.key(Kind::StatefulSet, names.cache()));
    keys
}

/// All objects in the cluster with the labels of `pipeline`.
///
/// # Errors
/// If the API server rejects a request or does not respond.
pub async fn observed_objects(
    pipeline: &PingPipeline,
    names: &Names,
    dependencies: &BTreeSet<Dependency>,
    context: &Context,
) -> Result<ObservedObjects, ReadError> {
    let cross_namespace = pipeline.spec.kafka.cluster_ref.as_ref().and_then(|reference| reference.namespace.as_ref());
    let cross_namespace = cross_namespace.filter(|namespace| **namespace != names.namespace);
    let served = |kind: &Kind| kind.dependency().is_none_or(|dependency| dependencies.contains(&dependency));
    let own = Kind::ALL.into_iter().filter(|kind| kind.is_created()).filter(served);
    let lists = own.map(|kind| (kind, &names.namespace)).chain(cross_namespace.into_iter().flat_map(|namespace| {
        [Kind::KafkaTopic, Kind::KafkaUser].into_iter().filter(served).map(move |kind| (kind, namespace))
    }));
    let objects = try_join_all(lists.map(|(kind, namespace)| list(kind, namespace, names, context))).await?;
    Ok(ObservedObjects(objects.into_iter().flatten().collect()))
}

async fn list(
    kind: Kind,
    namespace: &str,
    names: &Names,
    context: &Context,
) -> Result<Vec<(Key, DynamicObject)>, ReadError> {
    let labels = format!("{PIPELINE_LABEL}={},{NAMESPACE_LABEL}={}", names.pipeline, names.namespace);
    match context.api(kind, namespace).list(&ListParams::default().labels(&labels)).await {
        Ok(list) => {
            Ok(list.items.into_iter().map(|object| (Key::new(kind, namespace, object.name_any()), object)).collect())
        }
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(source) => Err(ReadError { what: format!("objects of kind {} in {namespace}", kind.name()), source }),
    }
}

async fn get(key: &Key, context: &Context) -> Result<Option<DynamicObject>, ReadError> {
    match present(context.api_of(key).get_opt(&key.name).await) {
        Ok(object) => Ok(object),
        Err(source) => Err(ReadError { what: key.to_string(), source }),
    }
}

async fn secrets(
    pipeline: &PingPipeline,
    names: &Names,
    context: &Context,
) -> Result<BTreeMap<Key, BTreeMap<String, ByteString>>, ReadError> {
    let fetch = async |key: Key| {
        let api = Api::<Secret>::namespaced(context.client.clone(), &key.namespace);
        match api.get_opt(&key.name).await {
            Ok(secret) => Ok(secret.map(|secret| (key, secret.data.unwrap_or_default()))),
            Err(source) => Err(ReadError { what: key.to_string(), source }),
        }
    };
    let found = try_join_all(secret_keys(pipeline, names).into_iter().map(fetch)).await?;
    Ok(found.into_iter().flatten().collect())
}

/// The Secrets that pods of the pipeline read, and their originals in Kafka's namespace.
fn secret_keys(pipeline: &PingPipeline, names: &Names) -> BTreeSet<Key> {
    let spec = &pipeline.spec;
    let uri = spec.postgres.external.as_ref().map_or_else(|| names.postgres_uri(), |external| external.uri.clone());
    let cache = match (&spec.cache.dragonfly, &spec.cache.external) {
        (_, Some(external)) => external.password.clone(),
        (dragonfly, None) => dragonfly.as_ref().and_then(|dragonfly| dragonfly.password.clone()),
    };
    let mut local: Vec<String> = [Some(uri), cache].into_iter().flatten().map(|SecretKey { name, .. }| name).collect();
    let mut keys = BTreeSet::new();
    match (&spec.kafka.cluster_ref, &spec.kafka.external) {
        (Some(reference), _) => {
            let namespace = reference.namespace.as_ref().unwrap_or(&names.namespace);
            let prefix = names.kafka_prefix(Some(reference));
            let mut originals = vec![format!("{}-cluster-ca-cert", reference.name)];
            originals.extend(["server", "processor"].map(|role| format!("{prefix}-{role}")));
            keys.extend(originals.into_iter().map(|name| Key::new(Kind::Secret, namespace, name)));
            local.push(names.kafka_ca_copy());
            local.extend(["server", "processor"].map(|role| names.kafka_credentials(role)));
        }
        (None, Some(external)) => {
            local.extend(external.tls.as_ref().and_then(|tls| tls.ca.as_ref()).map(|ca| ca.name.clone()));
            local.extend(external.sasl.as_ref().map(|sasl| sasl.password.name.clone()));
        }
        (None, None) => {
            local.push(format!("{}-cluster-ca-cert", names.kafka()));
            local.extend(["server", "processor"].map(|role| names.kafka_credentials(role)));
        }
    }
    keys.extend(local.into_iter().map(|name| names.key(Kind::Secret, name)));
    keys
}
