//! Which pipelines use which objects, so that a watch event on any object triggers the right reconciles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// Objects, and the pipelines that created or read them in their last reconcile. Most objects have one user, so small vectors hold far
/// less memory than sets, and each name is stored once.
#[derive(Debug, Default)]
pub struct Index(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_object: BTreeMap<Arc<Key>, Vec<Arc<PipelineName>>>,
    /// Objects in order.
    by_pipeline: BTreeMap<Arc<PipelineName>, Box<[Arc<Key>]>>,
}

impl Index {
    /// Records that `pipeline` uses exactly `objects`.
    pub fn set(&self, pipeline: &PipelineName, objects: BTreeSet<Key>) {
        let mut entries = self.lock();
        let known = entries.by_pipeline.get(pipeline);
        if known.is_some_and(|known| known.iter().map(|key| &**key).eq(&objects)) {
            return;
        }
        entries.remove(pipeline);
        let pipeline = Arc::new(pipeline.clone());
        let objects: Box<[_]> = objects.into_iter().map(|object| entries.add(object, &pipeline)).collect();
        entries.by_pipeline.insert(pipeline, objects);
    }

    /// True if `pipeline` has been reconciled since this operator started.
    #[must_use]
    pub fn contains(&self, pipeline: &PipelineName) -> bool {
        self.lock().by_pipeline.contains_key(pipeline)
    }

    /// Removes `pipeline`.
    pub fn remove(&self, pipeline: &PipelineName) {
        self.lock().remove(pipeline);
    }

    /// The pipelines that use `object`.
    #[must_use]
    pub fn users_of(&self, object: &Key) -> Vec<PipelineName> {
        let entries = self.lock();
        entries.by_object.get(object).into_iter().flatten().map(|pipeline| PipelineName::clone(pipeline)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Records a user of `object`; returns the stored name of `object`.
    fn add(&mut self, object: Key, pipeline: &Arc<PipelineName>) -> Arc<Key> {
        let known = self.by_object.get_key_value(&object).map(|(known, _)| Arc::clone(known));
        let object = known.unwrap_or_else(|| Arc::new(object));
        let users = self.by_object.entry(Arc::clone(&object)).or_default();
        users.reserve_exact(1);
        users.push(Arc::clone(pipeline));
        object
    }

    fn remove(&mut self, pipeline: &PipelineName) {
        for object in self.by_pipeline.remove(pipeline).unwrap_or_default() {
            if let Some(users) = self.by_object.get_mut(&object) {
                users.retain(|user| **user != *pipeline);
                if users.is_empty() {
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
        let other = PipelineName { namespace: "default".into(), name: "other".into() };
        let [first, shared] = ["a", "b"].map(|name| Key::new(Kind::Secret, "default", name));
        index.set(&pipeline, [first.clone(), shared.clone()].into());
        index.set(&other, [shared.clone()].into());
        assert_eq!(index.users_of(&first), std::slice::from_ref(&pipeline));
        assert_eq!(index.users_of(&shared), [pipeline.clone(), other.clone()]);
        index.set(&pipeline, [first.clone()].into());
        assert_eq!(index.users_of(&shared), std::slice::from_ref(&other));
        index.remove(&pipeline);
        assert!(index.users_of(&first).is_empty() && index.lock().by_object.len() == 1);
    }
}
