//! What every pass shares: the client, what is known about the cluster, and where to report.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::events::Recorder,
};
use ping_api::kinds::{Dependency, Key, Kind};

use crate::{index::Index, metrics::Metrics};

/// Shared by all passes.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Image for workloads that name none.
    pub image: String,
    /// Which pipelines look at which objects.
    pub index: Index,
    /// Which APIs are served.
    pub dependencies: Dependencies,
    /// Events on PingPipelines.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// The API of `kind` in `namespace`.
    #[must_use]
    pub fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let resource: ApiResource = kind.api_resource();
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// The API of the object `key`.
    #[must_use]
    pub fn api_of(&self, key: &Key) -> Api<DynamicObject> {
        self.api(key.kind, &key.namespace)
    }
}

/// The APIs that are served, as far as is known.
#[derive(Debug, Default)]
pub struct Dependencies(RwLock<BTreeSet<Dependency>>);

impl Dependencies {
    /// Notes whether `dependency` is served. True when that is news.
    pub fn set(&self, dependency: Dependency, served: bool) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if served { known.insert(dependency) } else { known.remove(&dependency) }
    }

    /// All that are served.
    #[must_use]
    pub fn served(&self) -> BTreeSet<Dependency> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
