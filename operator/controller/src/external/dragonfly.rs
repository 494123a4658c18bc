//! The Dragonfly operator 1.6: `Dragonfly`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimSpec, PodSecurityContext, ResourceRequirements, SecurityContext, TopologySpreadConstraint,
};
use ping_api::crd::SecretKey;
use serde::{Deserialize, Serialize};

/// `Dragonfly.spec`, as we write it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DragonflySpec {
    /// Number of pods.
    pub replicas: i32,
    /// Image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Command-line flags.
    pub args: Vec<String>,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// Password of the default user.
    pub authentication: Authentication,
    /// Secret key that holds the access control list.
    pub acl_from_secret: SecretKey,
    /// Secret with the certificate (`tls.crt`, `tls.key`).
    pub tls_secret_ref: SecretName,
    /// Snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Whether the Dragonfly operator creates a NetworkPolicy.
    pub network_policy_enabled: bool,
    /// Labels and annotations of the pods; a changed annotation restarts them.
    pub pod_metadata: PodMetadata,
    /// Spread of the pods over nodes.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Security context of the pods. The Dragonfly operator sets none by default, and restricted namespaces reject such pods.
    pub pod_security_context: PodSecurityContext,
    /// Security context of the container.
    pub container_security_context: SecurityContext,
}

/// Labels and annotations of the pods.
#[derive(Clone, Debug, Serialize)]
pub struct PodMetadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, Serialize)]
pub struct SecretName {
    /// Its name.
    pub name: String,
}

/// Password of the default user.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Secret key that holds the password.
    pub password_from_secret: SecretKey,
}

/// Snapshots.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Schedule as five cron fields.
    pub cron: String,
    /// The volume. Without it, the Dragonfly operator fails and only logs an error.
    pub persistent_volume_claim_spec: PersistentVolumeClaimSpec,
}

/// The part of the spec that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedDragonfly {
    /// Desired number of pods.
    pub replicas: i64,
}

/// `Dragonfly.status`. It stays `Ready` even if all pods are gone, so check the StatefulSet, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DragonflyStatus {
    /// Empty, `ResourcesCreated`, `Configuring`, `Ready` or `RollingUpdate`; older versions write `ready`.
    pub phase: String,
}
