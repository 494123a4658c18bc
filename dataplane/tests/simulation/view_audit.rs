//! The audit of the views as a process sees it.

use std::sync::Arc;

use async_trait::async_trait;
use ping_core::{Day, Generation, Millis};
use ping_memory::MemoryStore;
use ping_ports::{Incarnation, Incarnations, RowDifference, StoreError, ViewAudit, ViewAuditState, ViewSums};
use ping_segments::{AuditedSegment, Family, merge};

use crate::{
    bugs::Bug,
    views::{FaultyViews, unavailable},
};

#[async_trait]
impl ViewAudit for FaultyViews {
    async fn view_sums(&self) -> Result<Option<ViewSums>, StoreError> {
        let mut sums = self.host.call(unavailable, self.inner.view_sums()).await?;
        if self.host.rng.bug == Some(Bug::SegmentsNotSummed)
            && let Some(sums) = sums.as_mut()
        {
            sums.held.clone_from(&sums.added);
        }
        Ok(sums)
    }

    async fn audited_segments(&self, after: i64, limit: usize) -> Result<Vec<AuditedSegment>, StoreError> {
        if self.host.rng.bug == Some(Bug::SegmentsNotAudited) {
            return Ok(Vec::new());
        }
        self.host.call(unavailable, self.inner.audited_segments(after, limit)).await
    }

    async fn differing_rows(&self, from: Day, to: Day) -> Result<Vec<RowDifference>, StoreError> {
        self.host.call(unavailable, self.inner.differing_rows(from, to)).await
    }

    async fn mark_views_suspect(&self, generation: &Generation) -> Result<(), StoreError> {
        let (inner, generation) = (Arc::clone(&self.inner), generation.clone());
        self.host.change(unavailable, async move { inner.mark_views_suspect(&generation).await }).await
    }

    async fn views_audited(&self, generation: &Generation, at: Millis) -> Result<(), StoreError> {
        let (inner, generation) = (Arc::clone(&self.inner), generation.clone());
        self.host.change(unavailable, async move { inner.views_audited(&generation, at).await }).await
    }

    async fn view_audit_state(&self) -> Result<ViewAuditState, StoreError> {
        self.host.call(unavailable, self.inner.view_audit_state()).await
    }
}

#[async_trait]
impl Incarnations for FaultyViews {
    async fn note_change(&self, of: Incarnation, phantoms: i64, at: Millis) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.host.change(unavailable, async move { inner.note_change(of, phantoms, at).await }).await
    }
}

/// What someone who has access to the database does to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It is gone.
    Delete,
    /// Its counts are doubled.
    Double,
}

/// Edits the segment at `place` among those with counts, which are all but those of unique sources; false when there is none.
pub fn edit(store: &MemoryStore, edit: Edit, place: usize) -> bool {
    let mut edited = false;
    store.edit_segments(|segments| {
        let counts = segments.iter().filter(|(_, segment)| segment.segment.place.family != Family::Minutes);
        let ids: Vec<_> = counts.map(|(id, _)| *id).collect();
        let Some(id) = ids.get(place % ids.len().max(1)) else { return };
        edited = true;
        match edit {
            Edit::Delete => drop(segments.remove(id)),
            Edit::Double => {
                let segment = &mut segments.get_mut(id).unwrap().segment;
                let doubled = merge(segment.place, [segment.data.as_slice(), segment.data.as_slice()]).unwrap();
                segment.data.clone_from(&doubled[0].data);
            }
        }
    });
    edited
}
