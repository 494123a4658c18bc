//! Input and result of the component checks, and results that several of them share.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use ping_api::{crd::SecretKey, kinds::Dependency, reason::Reason};

use crate::{apply::Applied, cluster_state::ClusterState, condition::ConditionValue, pipeline::Pipeline};

/// If an operator reports no status for a new object within this many seconds, it is considered not running.
pub const SILENCE_SECONDS: i64 = 30;

/// Everything that the status depends on.
pub struct StatusInput<'a> {
    /// The validated pipeline.
    pub pipeline: &'a Pipeline,
    /// The state of the cluster before applying.
    pub state: &'a ClusterState,
    /// The result of applying.
    pub applied: &'a Applied,
    /// Current time.
    pub now: Timestamp,
}

/// Status of one component.
pub(super) struct ComponentStatus {
    /// Its condition.
    pub(super) condition: ConditionValue,
    /// Summary for its column.
    pub(super) summary: String,
}

impl ComponentStatus {
    pub(super) fn new(summary: impl Into<String>, condition: ConditionValue) -> Self {
        Self { condition, summary: summary.into() }
    }
}

/// Status of an external component with one Secret key.
pub(super) fn external_secret(input: &StatusInput<'_>, key: &SecretKey) -> ComponentStatus {
    external_secrets(input, std::slice::from_ref(key))
}

/// Status of an external component: ready if every Secret key exists. There is at least one.
pub(super) fn external_secrets(input: &StatusInput<'_>, keys: &[SecretKey]) -> ComponentStatus {
    let namespace = &input.pipeline.names.namespace;
    let missing = keys.iter().find(|key| input.state.secret(namespace, &key.name, &key.key).is_none());
    let condition = match missing {
        Some(SecretKey { name, key }) => ConditionValue::not_met(
            Reason::SecretMissing,
            format!("Secret {namespace}/{name} has no key {key}; create it"),
        ),
        None => {
            let mut names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            names.dedup();
            let verb = if names.len() == 1 { "exists" } else { "exist" };
            ConditionValue::met(Reason::External, format!("Secret {} {verb}", names.join(", ")))
        }
    };
    ComponentStatus::new("external", condition)
}

/// Status of a component whose CRD is not installed.
pub(super) fn missing(dependency: Dependency) -> ComponentStatus {
    let (group, version) = dependency.group_version();
    let message = format!(
        "the API {group}/{version} is not available; install {}. It is detected within seconds",
        dependency.title()
    );
    ComponentStatus::new("missing", ConditionValue::not_met(Reason::DependencyMissing, message))
}

/// Condition of an object for which its operator has reported no status.
pub(super) fn silent(dependency: Dependency, key: &str) -> ConditionValue {
    let message = format!(
        "{} has reported no status for {key} within {SILENCE_SECONDS} s. Check that its operator is running and watches this \
         namespace",
        dependency.title()
    );
    ConditionValue::not_met(Reason::OperatorSilent, message)
}

/// True if the object is so new that its operator may not have processed it yet.
pub(super) fn is_new(object: &impl ResourceExt, now: Timestamp) -> bool {
    let age = object.creation_timestamp().map_or(0, |created| now.as_second() - created.0.as_second());
    age < SILENCE_SECONDS
}
