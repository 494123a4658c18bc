//! What `read` brings back: everything outside of the PingPipeline that a pass depends on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use ping_api::kinds::{Dependency, Key, Kind};
use serde::de::DeserializeOwned;

use crate::external::{
    Observed,
    strimzi::{KafkaSeen, StrimziStatus},
};

/// The world as one pass sees it.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    /// APIs that are served.
    pub dependencies: BTreeSet<Dependency>,
    /// What carries the pipeline's labels.
    pub live: Live,
    /// Secrets that the pipeline reads; what does not exist is absent.
    pub secrets: BTreeMap<Key, BTreeMap<String, ByteString>>,
    /// The Kafka of `clusterRef`, if it exists.
    pub kafka: Option<Observed<KafkaSeen, StrimziStatus>>,
    /// The StatefulSet that the Dragonfly operator made, if any.
    pub cache_pods: Option<DynamicObject>,
    /// Image for workloads that name none.
    pub image: String,
}

impl Refs {
    /// The value of a secret key in `namespace`, if it exists and is not empty.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str, key: &str) -> Option<&[u8]> {
        let data = self.secrets.get(&Key::new(Kind::Secret, namespace, name))?;
        data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty())
    }
}

/// Objects by key.
#[derive(Clone, Debug, Default)]
pub struct Live(pub BTreeMap<Key, DynamicObject>);

impl Live {
    /// The object, if it exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&DynamicObject> {
        self.0.get(key)
    }

    /// The object as one of our foreign types, if it exists.
    #[must_use]
    pub fn observe<S, T>(&self, key: &Key) -> Option<Observed<S, T>>
    where
        S: DeserializeOwned + Default,
        T: DeserializeOwned,
    {
        self.get(key).map(Observed::of)
    }
}
