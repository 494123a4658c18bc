//! The store and the cache of statuses go back to what they were.

use ping_memory::{MemoryCache, MemoryStatuses, MemoryStore};
use ping_ports::{Epoch, EventStore, SourceViews};
use tokio::time::{Instant, sleep};

use super::World;
use crate::{bugs::Bug, statuses::TIMES};

/// A copy that can be restored.
type Snapshot<T> = Box<dyn FnOnce(&T)>;

/// What may be restored.
#[derive(Default)]
pub(super) struct Snapshots {
    pub(super) cache: Option<Snapshot<MemoryCache>>,
    /// None from when the topic was created again until the views are of that topic: see [`crate::topic`].
    pub(super) store: Option<Snapshot<MemoryStore>>,
    /// With its time and its epoch.
    pub(super) statuses: Vec<(Instant, Epoch, Snapshot<MemoryStatuses>)>,
}

impl World {
    /// Makes a backup of the store, if its views are of the topic.
    pub(super) async fn back_up(&self, snapshots: &mut Snapshots) {
        let views = self.store.positions().await.unwrap();
        if views.is_none_or(|views| self.topic.is_of(&views.positions.generation)) {
            snapshots.store = Some(Box::new(self.store.save()));
        }
    }

    /// The store goes back to a backup, under running processors or while none runs.
    pub(super) async fn restore_backup(&mut self, backup: Snapshot<MemoryStore>) -> Result<(), String> {
        let stops = self.rng.chance(30);
        if stops {
            self.stop_processors();
        }
        self.restore_store(backup).await?;
        if stops {
            sleep(self.rng.millis(800)).await;
            self.start_processor();
        }
        Ok(())
    }

    /// A standby that lacks the last commits takes over.
    pub(super) async fn fail_over(&mut self, snapshots: &mut Snapshots) -> Result<(), String> {
        self.back_up(snapshots).await;
        let Some(standby) = snapshots.store.take() else { return Ok(()) };
        sleep(self.rng.millis(100)).await;
        self.restore_store(standby).await?;
        self.back_up(snapshots).await;
        Ok(())
    }

    /// The store goes back to `backup`. What was answered until now must hold for what it was.
    async fn restore_store(&mut self, backup: Snapshot<MemoryStore>) -> Result<(), String> {
        self.check_reading().await?;
        {
            let mut sent = self.sent.lock();
            sent.all_are_possible(self.clock.now());
            if let Some(violation) = sent.history.check().first() {
                return Err(violation.to_string());
            }
        }
        backup(&self.store);
        self.rng.store_was_restored();
        if self.rng.bug == Some(Bug::WriterIdsReused) {
            self.store.reissue_writer_numbers();
        }
        let ids: Vec<_> = self.sent.lock().ids.iter().copied().collect();
        let stored = self.store.find(&ids).await.unwrap();
        self.sent.lock().go_back(self.clock.now(), &stored);
        self.restores += 1;
        Ok(())
    }

    /// The cache of statuses goes back within its epoch, or else to an earlier one, to what it was more than a lease ago. Younger snapshots may
    /// change statuses for a moment: see the section "What remains" of ADR 32. False if there is no such snapshot.
    pub(super) fn restore_statuses(&mut self, snapshots: &mut Snapshots, within_epoch: bool) -> bool {
        let epoch = self.statuses.epoch();
        let is_usable = |(at, of, _): &(Instant, Epoch, _)| {
            let is_of_epoch = if within_epoch { *of == epoch } else { *of < epoch };
            is_of_epoch && at.elapsed() > TIMES.lease
        };
        let saved = snapshots.statuses.iter().enumerate().filter(|(_, saved)| is_usable(saved));
        let usable: Vec<_> = saved.map(|(place, _)| place).collect();
        // The first ones of an epoch may be empty.
        let pick = usize::try_from(self.rng.below(usable.len() as u64)).unwrap();
        let Some(place) = usable.get(pick) else { return false };
        let (_, _, restore) = snapshots.statuses.swap_remove(*place);
        restore(&self.statuses);
        if within_epoch {
            self.old_statuses += 1
        } else {
            self.earlier_epochs += 1
        }
        true
    }
}
