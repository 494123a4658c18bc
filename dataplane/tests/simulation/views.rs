//! The views per source as a process sees them: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use ping_core::{Generation, Millis, Offset, Partition, RetentionCutoffs};
use ping_memory::MemoryStore;
use ping_ports::{Advance, Applied, SourceViews, StoreError, ViewPositions};
use ping_segments::{Place, Segment, StoredSegment};

use crate::{bugs::Bug, rng::Host, topic::TopicOfProjection};

pub fn unavailable() -> StoreError {
    StoreError("the views are unavailable (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyViews {
    pub host: Host,
    pub inner: Arc<MemoryStore>,
    pub topic: TopicOfProjection,
}

#[async_trait]
impl SourceViews for FaultyViews {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        self.host.call(unavailable, self.inner.positions()).await
    }

    async fn apply(&self, advance: &Advance, segments: &[Segment]) -> Result<Applied, StoreError> {
        let (inner, mut advance, mut segments) = (Arc::clone(&self.inner), advance.clone(), segments.to_vec());
        if self.host.rng.bug == Some(Bug::SegmentLost) {
            segments.pop();
        }
        if self.host.rng.bug == Some(Bug::ViewsIgnorePositions)
            && let Some(views) = inner.positions().await?
        {
            for (partition, from) in &mut advance.from {
                *from = views.positions.offsets.get(partition).copied().unwrap_or(0);
            }
        }
        self.host.change(unavailable, async move { inner.apply(&advance, &segments).await }).await
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        cutoffs: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        let (inner, seen, new, ends) = (Arc::clone(&self.inner), seen.cloned(), new.clone(), ends.clone());
        let generation = new.clone();
        let rebuild = async move { inner.rebuild(seen.as_ref(), &new, &ends, cutoffs).await };
        self.host.change(unavailable, self.topic.rebuilt(generation, unavailable, rebuild)).await
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        self.host.call(unavailable, self.inner.apply_retention(cutoffs)).await
    }

    async fn full_places(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.host.call(unavailable, self.inner.full_places(fan_in, limit)).await
    }

    async fn segments_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        self.host.call(unavailable, self.inner.segments_at(places, limit)).await
    }

    async fn replace(&self, generation: &Generation, merged: &[i64], sums: &[Segment]) -> Result<bool, StoreError> {
        let (inner, generation) = (Arc::clone(&self.inner), generation.clone());
        let (merged, sums, bug) = (merged.to_vec(), sums.to_vec(), self.host.rng.bug);
        let replace = async move {
            let replaced = inner.replace(&generation, &merged, &sums).await?;
            if !replaced && bug == Some(Bug::MergedTwice) {
                return inner.replace(&generation, &[], &sums).await;
            }
            Ok(replaced)
        };
        self.host.change(unavailable, replace).await
    }

    async fn export_rows(&self, now: Millis) -> Result<(), StoreError> {
        self.host.call(unavailable, self.inner.export_rows(now)).await
    }
}
