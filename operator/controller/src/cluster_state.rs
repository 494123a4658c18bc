//! The result of `read`: everything in the cluster, besides the PingPipeline, that a reconcile depends on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use ping_api::kinds::{Dependency, Key, Kind};
use serde::de::DeserializeOwned;

use crate::external::{
    Observed,
    strimzi::{ObservedKafka, StrimziStatus},
};

/// The state of the cluster at the start of a reconcile.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    /// Served APIs.
    pub dependencies: BTreeSet<Dependency>,
    /// Objects with the pipeline's labels.
    pub live: ObservedObjects,
    /// Data of the Secrets that the pipeline reads. Missing Secrets are absent.
    pub secrets: BTreeMap<Key, BTreeMap<String, ByteString>>,
    /// The Kafka cluster in `clusterRef`, if it exists.
    pub kafka: Option<Observed<ObservedKafka, StrimziStatus>>,
    /// The StatefulSet that the Dragonfly operator created, if any.
    pub cache_pods: Option<DynamicObject>,
    /// Image with `pingd`, for workloads that do not set one.
    pub image: String,
}

impl ClusterState {
    /// The value of a Secret key in `namespace`, if it exists and is not empty.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str, key: &str) -> Option<&[u8]> {
        let data = self.secrets.get(&Key::new(Kind::Secret, namespace, name))?;
        data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty())
    }
}

/// Objects by key.
#[derive(Clone, Debug, Default)]
pub struct ObservedObjects(pub BTreeMap<Key, DynamicObject>);

impl ObservedObjects {
    /// The object, if it exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&DynamicObject> {
        self.0.get(key)
    }

    /// The object parsed as an external API type, if it exists.
    #[must_use]
    pub fn observe<S, T>(&self, key: &Key) -> Option<Observed<S, T>>
    where
        S: DeserializeOwned + Default,
        T: DeserializeOwned,
    {
        self.get(key).map(Observed::of)
    }
}
