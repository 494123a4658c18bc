//! The views per source as a process sees them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use ping_core::{Generation, Offset, Partition, Positions, RetentionCutoffs, SourceCounts};
use ping_memory::MemoryStore;
use ping_ports::{Advance, Applied, SourceViews, StoreError};

use crate::{bugs::Bug, rng::Host};

fn away() -> StoreError {
    StoreError("the views are away (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyViews {
    pub host: Host,
    pub inner: Arc<MemoryStore>,
}

#[async_trait]
impl SourceViews for FaultyViews {
    async fn positions(&self) -> Result<Option<Positions>, StoreError> {
        self.host.call(away, self.inner.positions()).await
    }

    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError> {
        let (inner, mut advance, counts) = (Arc::clone(&self.inner), advance.clone(), counts.clone());
        if self.host.rng.bug == Some(Bug::ViewsIgnorePositions)
            && let Some(positions) = inner.positions().await?
        {
            for (partition, from) in &mut advance.from {
                *from = positions.offsets.get(partition).copied().unwrap_or(0);
            }
        }
        self.host.change(away, async move { inner.apply(&advance, &counts).await }).await
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        ends: &BTreeMap<Partition, Offset>,
        kept: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        let (inner, seen, ends) = (Arc::clone(&self.inner), seen.cloned(), ends.clone());
        self.host.change(away, async move { inner.rebuild(seen.as_ref(), &ends, kept).await }).await
    }

    async fn apply_retention(&self, kept: RetentionCutoffs) -> Result<(), StoreError> {
        self.host.call(away, self.inner.apply_retention(kept)).await
    }
}
