//! Hand-trimmed types of the three operators: only the fields that we set or read. What we set is strict; what we read is
//! lenient, for other versions of those operators write other things there.

pub mod cnpg;
pub mod dragonfly;
pub mod monitoring;
pub mod strimzi;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An object of somebody else's kind, as we write it. `apiVersion` and `kind` are added when it is sent.
#[derive(Clone, Debug, Serialize)]
pub struct Foreign<S> {
    /// Name, namespace, labels, owner.
    pub metadata: ObjectMeta,
    /// What we want.
    pub spec: S,
}

/// An object of somebody else's kind, as we read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Observed<S, T> {
    /// The part of the spec that we look at.
    pub spec: S,
    /// What its operator says; none while it has said nothing.
    pub status: Option<T>,
}

impl<S: DeserializeOwned + Default, T: DeserializeOwned> Observed<S, T> {
    /// Reads `object`; what cannot be read counts as not said.
    #[must_use]
    pub fn of(object: &DynamicObject) -> Self {
        let spec =
            object.data.get("spec").and_then(|spec| serde_json::from_value(spec.clone()).ok()).unwrap_or_default();
        let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
        Self { spec, status }
    }
}

/// A condition as the other operators write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Said {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
}

/// The condition `kind` that is `True`, if any.
#[must_use]
pub fn said<'a>(conditions: &'a [Said], kind: &str) -> Option<&'a Said> {
    conditions.iter().find(|condition| condition.kind == kind && condition.status == "True")
}
