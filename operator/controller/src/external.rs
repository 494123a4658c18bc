//! Types of external APIs (other operators), reduced to the fields that we set or read. Types that we write are strict. Types that
//! we read are lenient, because other versions of those operators write other values.

pub mod barman;
pub mod cnpg;
pub mod dragonfly;
pub mod monitoring;
pub mod strimzi;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An object of an external API, as we write it. `apiVersion` and `kind` are added when it is sent.
#[derive(Clone, Debug, Serialize)]
pub struct ExternalObject<S> {
    /// Name, namespace, labels, owner.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: S,
}

/// An object of an external API, as we read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Observed<S, T> {
    /// The part of the spec that we read.
    pub spec: S,
    /// Status from its operator; `None` while there is none.
    pub status: Option<T>,
}

impl<S: DeserializeOwned + Default, T: DeserializeOwned> Observed<S, T> {
    /// Parses `object`. Parts that cannot be parsed are treated as absent.
    #[must_use]
    pub fn of(object: &DynamicObject) -> Self {
        let spec =
            object.data.get("spec").and_then(|spec| serde_json::from_value(spec.clone()).ok()).unwrap_or_default();
        let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
        Self { spec, status }
    }
}

/// A part of an object that we do not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Ignored {}

/// A condition as other operators write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ExternalCondition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Machine-readable reason.
    pub reason: Option<String>,
    /// Explanation.
    pub message: Option<String>,
}

/// The condition of type `kind`, if it is `True`.
#[must_use]
pub fn true_condition<'a>(conditions: &'a [ExternalCondition], kind: &str) -> Option<&'a ExternalCondition> {
    conditions.iter().find(|condition| condition.kind == kind && condition.status == "True")
}
