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
    /// Pods.
    pub replicas: i32,
    /// Image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Flags.
    pub args: Vec<String>,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Whether its operator makes its NetworkPolicy.
    pub network_policy_enabled: bool,
    /// Labels and annotations of the pods; a changed annotation restarts them.
    pub pod_metadata: PodMetadata,
    /// Spread over nodes.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// What the pods may do: its operator asks for nothing by itself, and a restricted namespace refuses such pods.
    pub pod_security_context: PodSecurityContext,
    /// The same of their container.
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

/// Password.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Where it is.
    pub password_from_secret: SecretKey,
}

/// Snapshots.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Five cron fields.
    pub cron: String,
    /// The volume; without it the operator fails with a log line only.
    pub persistent_volume_claim_spec: PersistentVolumeClaimSpec,
}

/// The part of the spec that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DragonflySeen {
    /// Pods asked for.
    pub replicas: i64,
}

/// `Dragonfly.status`. It stays `Ready` when every pod is gone: look at the StatefulSet as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DragonflyStatus {
    /// ``, `ResourcesCreated`, `Configuring`, `Ready`, `RollingUpdate`; older versions write `ready`.
    pub phase: String,
}
