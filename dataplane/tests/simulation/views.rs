//! The views per source as a process sees them: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use ping_core::{Generation, Offset, Partition, RetentionCutoffs, SourceCounts};
use ping_memory::MemoryStore;
use ping_ports::{Advance, Applied, SourceViews, StoreError, ViewPositions};

use crate::{bugs::Bug, rng::Host};

fn unavailable() -> StoreError {
    StoreError("the views are unavailable (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyViews {
    pub host: Host,
    pub inner: Arc<MemoryStore>,
}

#[async_trait]
impl SourceViews for FaultyViews {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        self.host.call(unavailable, self.inner.positions()).await
    }

    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError> {
        let (inner, mut advance, counts) = (Arc::clone(&self.inner), advance.clone(), counts.clone());
        if self.host.rng.bug == Some(Bug::ViewsIgnorePositions)
            && let Some(views) = inner.positions().await?
        {
            for (partition, from) in &mut advance.from {
                *from = views.positions.offsets.get(partition).copied().unwrap_or(0);
            }
        }
        self.host.change(unavailable, async move { inner.apply(&advance, &counts).await }).await
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        cutoffs: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        let (inner, seen, new, ends) = (Arc::clone(&self.inner), seen.cloned(), new.clone(), ends.clone());
        self.host.change(unavailable, async move { inner.rebuild(seen.as_ref(), &new, &ends, cutoffs).await }).await
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        self.host.call(unavailable, self.inner.apply_retention(cutoffs)).await
    }
}
