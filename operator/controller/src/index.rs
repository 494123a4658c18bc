//! Which pipelines use which objects, so that a watch event on any object triggers the right reconciles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{core::DynamicObject, runtime::reflector::ObjectRef};
use ping_api::{crd::PingPipeline, kinds::Key, names::Names};

/// Namespace and name of a PingPipeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<Names> for PipelineName {
    fn from(names: Names) -> Self {
        Self { namespace: names.namespace, name: names.pipeline }
    }
}

impl From<&ObjectRef<DynamicObject>> for PipelineName {
    fn from(reference: &ObjectRef<DynamicObject>) -> Self {
        Self { namespace: reference.namespace.clone().unwrap_or_default(), name: reference.name.clone() }
    }
}

impl PipelineName {
    /// A reference for the controller.
    #[must_use]
    pub fn object_ref(&self) -> ObjectRef<PingPipeline> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

/// Objects, and the pipelines that created or read them in their last reconcile.
#[derive(Debug, Default)]
pub struct Index(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_object: BTreeMap<Key, BTreeSet<PipelineName>>,
    by_pipeline: BTreeMap<PipelineName, BTreeSet<Key>>,
}

impl Index {
    /// Records that `pipeline` uses exactly `objects`.
    pub fn set(&self, pipeline: &PipelineName, objects: BTreeSet<Key>) {
        let mut entries = self.lock();
        if entries.by_pipeline.get(pipeline) == Some(&objects) {
            return;
        }
        entries.remove(pipeline);
        for object in &objects {
            entries.by_object.entry(object.clone()).or_default().insert(pipeline.clone());
        }
        entries.by_pipeline.insert(pipeline.clone(), objects);
    }

    /// Removes `pipeline`.
    pub fn remove(&self, pipeline: &PipelineName) {
        self.lock().remove(pipeline);
    }

    /// The pipelines that use `object`.
    #[must_use]
    pub fn users_of(&self, object: &Key) -> Vec<PipelineName> {
        self.lock().by_object.get(object).map(|pipelines| pipelines.iter().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn remove(&mut self, pipeline: &PipelineName) {
        for object in self.by_pipeline.remove(pipeline).unwrap_or_default() {
            if let Some(pipelines) = self.by_object.get_mut(&object) {
                pipelines.remove(pipeline);
                if pipelines.is_empty() {
                    self.by_object.remove(&object);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ping_api::kinds::Kind;

    use super::*;

    #[test]
    fn a_pipeline_is_found_by_the_objects_of_its_last_reconcile() {
        let index = Index::default();
        let pipeline = PipelineName { namespace: "default".into(), name: "demo".into() };
        let secret = Key::new(Kind::Secret, "default", "a");
        index.set(&pipeline, [secret.clone()].into());
        assert_eq!(index.users_of(&secret), std::slice::from_ref(&pipeline));
        index.set(&pipeline, BTreeSet::new());
        assert!(index.users_of(&secret).is_empty());
    }
}
