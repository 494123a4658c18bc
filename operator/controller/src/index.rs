//! Which pipelines look at which objects: what turns an event on any object into passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ping_api::kinds::Key;

/// Namespace and name of a PingPipeline.
pub type PipelineName = (String, String);

/// Objects and the pipelines that made or read them in their last pass.
#[derive(Debug, Default)]
pub struct Index(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_object: BTreeMap<Key, BTreeSet<PipelineName>>,
    by_pipeline: BTreeMap<PipelineName, BTreeSet<Key>>,
}

impl Index {
    /// Notes that `pipeline` looks at `objects`, and at nothing else.
    pub fn set(&self, pipeline: &PipelineName, objects: BTreeSet<Key>) {
        let mut entries = self.lock();
        if entries.by_pipeline.get(pipeline) == Some(&objects) {
            return;
        }
        entries.forget(pipeline);
        for object in &objects {
            entries.by_object.entry(object.clone()).or_default().insert(pipeline.clone());
        }
        entries.by_pipeline.insert(pipeline.clone(), objects);
    }

    /// Forgets `pipeline`.
    pub fn remove(&self, pipeline: &PipelineName) {
        self.lock().forget(pipeline);
    }

    /// The pipelines that look at `object`.
    #[must_use]
    pub fn who(&self, object: &Key) -> Vec<PipelineName> {
        self.lock().by_object.get(object).map(|pipelines| pipelines.iter().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn forget(&mut self, pipeline: &PipelineName) {
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
    use super::*;
    use ping_api::kinds::Kind;

    #[test]
    fn a_pipeline_is_found_by_what_its_last_pass_looked_at() {
        let index = Index::default();
        let pipeline = ("default".to_owned(), "demo".to_owned());
        let secret = Key::new(Kind::Secret, "default", "a");
        index.set(&pipeline, [secret.clone()].into());
        assert_eq!(index.who(&secret), std::slice::from_ref(&pipeline));
        index.set(&pipeline, BTreeSet::new());
        assert!(index.who(&secret).is_empty());
    }
}
