//! State shared by all reconciles: the client, known APIs, the index, metrics and the event recorder.

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

use crate::{
    cluster_state::Platform,
    connections::Connections,
    index::{Index, PipelineName},
    metrics::Metrics,
};

/// Shared by all reconciles.
pub struct Context {
    /// Client for the API server.
    pub client: Client,
    /// Image with `pingd`, for pipelines that do not set one.
    pub image: String,
    /// What the administrator allows.
    pub platform: Platform,
    /// URL template of the servers, see [`crate::connections::settings`].
    pub server_address: String,
    /// Connections to the servers of pipelines.
    pub connections: Connections,
    /// Which pipelines use which objects.
    pub index: Index,
    /// Which APIs are served.
    pub dependencies: Dependencies,
    /// Recorder for events on PingPipelines.
    pub recorder: Recorder,
    /// Metrics of the operator.
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

    /// Removes everything that is kept about a pipeline, because it is gone.
    pub fn forget(&self, pipeline: &PipelineName) {
        self.metrics.forget(pipeline);
        self.index.remove(pipeline);
        self.connections.remove(pipeline);
    }
}

/// The APIs that the API server is known to serve.
#[derive(Debug, Default)]
pub struct Dependencies(RwLock<BTreeSet<Dependency>>);

impl Dependencies {
    /// Records whether `dependency` is served. Returns true if that changed.
    pub fn set(&self, dependency: Dependency, served: bool) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if served { known.insert(dependency) } else { known.remove(&dependency) }
    }

    /// All served APIs.
    #[must_use]
    pub fn served(&self) -> BTreeSet<Dependency> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
