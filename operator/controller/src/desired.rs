//! Desired objects: keys and typed manifests.

use std::collections::BTreeSet;

use ping_api::kinds::{Key, Kind};
use serde::Serialize;
use serde_json::{Value, json};

/// The desired state of a pipeline: its objects in the order in which they are applied.
#[derive(Debug, Default)]
pub struct Desired {
    /// Objects to create or update.
    pub objects: Vec<Object>,
    /// Objects that cannot be built at the moment but must not be pruned.
    pub keep: BTreeSet<Key>,
}

impl Desired {
    /// Adds an object.
    pub fn push(&mut self, kind: Kind, namespace: &str, name: &str, manifest: impl Manifest + 'static) {
        self.objects.push(Object { key: Key::new(kind, namespace, name), manifest: Box::new(manifest) });
    }

    /// Protects an existing object from pruning.
    pub fn keep(&mut self, key: Key) {
        self.keep.insert(key);
    }
}

/// One desired object.
#[derive(Debug)]
pub struct Object {
    /// Kind, namespace and name.
    pub key: Key,
    manifest: Box<dyn Manifest>,
}

impl Object {
    /// The manifest as JSON, with `apiVersion` and `kind`.
    ///
    /// # Errors
    /// If the manifest cannot be represented in JSON, for example a map whose keys are not strings.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let mut value = self.manifest.to_json()?;
        let resource = self.key.kind.api_resource();
        if let Value::Object(fields) = &mut value {
            fields.insert("apiVersion".into(), json!(resource.api_version));
            fields.insert("kind".into(), json!(resource.kind));
        }
        Ok(value)
    }
}

/// A serializable Kubernetes object.
pub trait Manifest: std::fmt::Debug + Send + Sync {
    /// The object as JSON.
    ///
    /// # Errors
    /// If it cannot be represented in JSON.
    fn to_json(&self) -> Result<Value, serde_json::Error>;
}

impl<T: Serialize + std::fmt::Debug + Send + Sync> Manifest for T {
    fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}
