//! What a processor works with, and where its sessions start.

use std::sync::Arc;

use super::{
    error::CountError,
    metrics::CountMetrics,
    projection::Projection,
    settings::{CountSettings, LogPorts},
};
use ping_core::{Generation, Partition, Positions};

/// Rebuilds before a session gives up. Two suffice unless other processors rebuild at the same time; then the pause between
/// sessions resolves the race.
const REBUILDS: u32 = 3;

/// What a processor works with.
pub(super) struct Context<P> {
    pub(super) projection: Arc<P>,
    pub(super) ports: LogPorts,
    pub(super) settings: CountSettings,
    pub(super) metrics: Arc<CountMetrics>,
}

impl<P: Projection> Context<P> {
    /// The positions to read from, for the `assigned` partitions. Rebuilds the projection when it has no positions, or when the
    /// log no longer holds them.
    pub(super) async fn resume(&self, assigned: &[Partition]) -> Result<Positions, CountError> {
        for _ in 0..REBUILDS {
            let positions = self.projection.positions().await?;
            if let Some(positions) = &positions {
                let bounds = self.ports.bounds.bounds().await?;
                let next = |partition: &Partition| positions.offsets.get(partition).copied().unwrap_or(0);
                let readable = |partition: &Partition| {
                    bounds.get(partition).is_some_and(|bounds| (bounds.low..=bounds.end).contains(&next(partition)))
                };
                if assigned.iter().all(readable) {
                    let offsets = assigned.iter().map(|partition| (*partition, next(partition))).collect();
                    return Ok(Positions { offsets, ..positions.clone() });
                }
                tracing::warn!(?bounds, offsets = ?positions.offsets, "the log no longer holds the projection's positions");
            }
            self.rebuild(positions.map(|positions| positions.generation).as_ref()).await?;
        }
        Err(CountError::UnreadablePositions { assigned: assigned.to_vec(), rebuilds: REBUILDS })
    }

    /// Rebuilds the projection, unless another processor has replaced the generation `seen`.
    pub(super) async fn rebuild(&self, seen: Option<&Generation>) -> Result<(), CountError> {
        if self.projection.rebuild(seen).await? {
            self.metrics.rebuilds.inc();
        }
        Ok(())
    }
}
