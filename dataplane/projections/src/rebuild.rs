//! Filling the cache from the store. The order is the point: ends of the log first, then the snapshot. What lies below the
//! ends was committed before it was published, so the snapshot has it; what lies above and was committed before the snapshot
//! is skipped by its mark.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::{CountError, CounterProjection};
use ping_core::{Generation, Mark, Marks, Minute, Positions};
use ping_ports::CacheSnapshot;

/// Installs a new generation if the cache still holds `seen`. False: somebody else was faster, look again.
pub(super) async fn rebuild(counters: &CounterProjection, seen: Option<&Generation>) -> Result<bool, CountError> {
    let bounds = counters.bounds.bounds().await?;
    let now = Minute::of(counters.clock.now());
    let touched = Duration::from_secs(60) * u32::try_from(counters.settings.window).unwrap_or(60);
    let snapshot = counters.totals.snapshot(now.back(counters.settings.window), touched).await?;
    let base = |last_seq| Mark { base: last_seq, partitions: BTreeMap::new() };
    let image = CacheSnapshot {
        positions: Positions {
            generation: Uuid::now_v7().to_string(),
            offsets: bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect(),
            marks: Marks(snapshot.writers.iter().map(|writer| (writer.writer, base(writer.last_seq))).collect()),
        },
        total: snapshot.total,
        minutes: snapshot.minutes,
        as_of: snapshot.at,
        now,
    };
    let installed = counters.cache.install(seen, &image).await?;
    if installed {
        tracing::info!(total = image.total, generation = image.positions.generation, "cache rebuilt from the store");
    }
    Ok(installed)
}
