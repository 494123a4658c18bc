//! A desired object: its key and its typed manifest.

use std::collections::BTreeSet;

use ping_api::kinds::{Key, Kind};
use serde::Serialize;
use serde_json::{Value, json};

/// What `build` returns: the objects in the order in which they are applied.
#[derive(Debug, Default)]
pub struct Desired {
    /// What shall be.
    pub objects: Vec<Object>,
    /// What cannot be built at the moment, but must not be pruned.
    pub keep: BTreeSet<Key>,
}

impl Desired {
    /// Adds an object.
    pub fn push(&mut self, kind: Kind, namespace: &str, name: &str, manifest: impl Manifest + 'static) {
        self.objects.push(Object { key: Key::new(kind, namespace, name), manifest: Box::new(manifest) });
    }

    /// Keeps an object as it is, if it exists.
    pub fn keep(&mut self, key: Key) {
        self.keep.insert(key);
    }
}

/// One desired object.
#[derive(Debug)]
pub struct Object {
    /// Which.
    pub key: Key,
    manifest: Box<dyn Manifest>,
}

impl Object {
    /// The manifest as JSON, with `apiVersion` and `kind`.
    ///
    /// # Errors
    /// When a manifest holds what JSON cannot, such as a map whose keys are not strings.
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

/// Anything that is an object of Kubernetes.
pub trait Manifest: std::fmt::Debug + Send + Sync {
    /// As JSON.
    ///
    /// # Errors
    /// When it holds what JSON cannot.
    fn to_json(&self) -> Result<Value, serde_json::Error>;
}

impl<T: Serialize + std::fmt::Debug + Send + Sync> Manifest for T {
    fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}
