//! The result of `read`: everything in the cluster, besides the PingPipeline, that a reconcile depends on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use ping_api::{
    grant::{GrantKind, PingReferenceGrantSpec, allows},
    kinds::{Dependency, Key, Kind},
};
use serde::de::DeserializeOwned;

use crate::{
    external::{
        Observed,
        strimzi::{ObservedKafka, ObservedTopic, StrimziStatus},
    },
    issued::IssuedSecret,
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
    /// Secrets and ConfigMaps that the spec may refer to: they have the label `pingpipeline.io/allow-reference=true`.
    pub allowed_references: BTreeSet<Key>,
    /// Keys of the ConfigMaps that the spec refers to. Missing ConfigMaps are absent.
    pub config_maps: BTreeMap<Key, BTreeSet<String>>,
    /// Grants in the namespace of `clusterRef`, if that is another one.
    pub grants: Grants,
    /// The issuer of this cluster's ServiceAccount tokens. Read only if the spec accepts them; absent if the operator may not read it.
    pub cluster_issuer: Option<ClusterIssuer>,
    /// Secrets that the operator issues for this pipeline, as they must be from now on. `secrets` holds their content, too.
    pub issued: Vec<IssuedSecret>,
    /// The Kafka cluster in `clusterRef`, if it exists and may be used.
    pub kafka: Option<Observed<ObservedKafka, StrimziStatus>>,
    /// KafkaTopics of that Kafka cluster which do not belong to the pipeline, by their names in Kafka. Read only if the spec names a topic
    /// outside of the pipeline's prefix.
    pub shared_topics: BTreeMap<String, ObservedTopic>,
    /// Secrets with the names of the pipeline's Kafka users that do not belong to these users.
    pub unowned_secrets: BTreeSet<Key>,
    /// Secrets with names that the operator uses for its own, which belong to someone else: their owners, as in
    /// [`crate::ownership::Ownership::Other`]. Their content is not used.
    pub foreign_secrets: BTreeMap<Key, String>,
    /// Capacity of the data volume of the primary of Postgres, such as `10Gi`. It differs from the spec while the volume is being enlarged.
    pub postgres_capacity: Option<String>,
    /// The StatefulSet that the Dragonfly operator created, if any.
    pub cache_pods: Option<DynamicObject>,
    /// Image with `pingd`, for workloads that do not set one.
    pub image: String,
    /// What the operator's administrator allows, and where other operators run.
    pub platform: Platform,
}

/// The issuer of the tokens of the cluster's ServiceAccounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIssuer {
    /// The claim `iss`.
    pub issuer: String,
    /// Its keys (JWKS).
    pub keys: Vec<u8>,
}

/// Settings of the operator's administrator that no PingPipeline can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Patterns of images that pipelines may use besides the default image.
    pub allowed_images: Vec<String>,
    /// Namespace of the operator; `None` if it runs outside of the cluster.
    pub operator_namespace: Option<String>,
    /// Namespace of the CloudNativePG operator.
    pub cloudnative_pg_namespace: String,
    /// Namespace of the Dragonfly operator.
    pub dragonfly_namespace: String,
    /// Namespace of the cluster's DNS.
    pub dns_namespace: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            allowed_images: Vec::new(),
            operator_namespace: None,
            cloudnative_pg_namespace: "cnpg-system".into(),
            dragonfly_namespace: "dragonfly-operator-system".into(),
            dns_namespace: "kube-system".into(),
        }
    }
}

/// The grants of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// These.
    Known(Vec<PingReferenceGrantSpec>),
    /// The operator may not read that namespace.
    Unreadable,
}

impl Default for Grants {
    fn default() -> Self {
        Self::Known(Vec::new())
    }
}

impl Grants {
    /// True if pipelines of namespace `from` may use the object.
    #[must_use]
    pub fn allow(&self, from: &str, kind: GrantKind, name: &str) -> bool {
        matches!(self, Self::Known(grants) if allows(grants, from, kind, name))
    }
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
