//! The faults that are injected, one at a time.

use ping_ports::LogBounds;
use tokio::time::Instant;

use super::{World, restores::Snapshots};

impl World {
    /// Does what goes wrong next, if anything.
    pub(super) async fn step(&mut self, snapshots: &mut Snapshots) -> Result<(), String> {
        let (statuses, epoch) = (&self.statuses, self.statuses.epoch());
        // Before its session has renewed a lease.
        let is_new = snapshots.statuses.last().is_some_and(|(_, last, _)| *last != epoch);
        snapshots.statuses.push((Instant::now(), epoch, Box::new(statuses.save())));
        if self.rng.chance(25) && self.restore_statuses(snapshots, true)
            || is_new && self.rng.chance(8) && self.restore_statuses(snapshots, false)
        {
            return Ok(());
        }
        if self.rng.chance(10) {
            snapshots.cache = Some(Box::new(self.cache.save()));
        } else if self.rng.chance(4) {
            if let Some(restore) = snapshots.cache.take() {
                restore(&self.cache);
            }
            snapshots.cache = Some(Box::new(self.cache.save()));
        } else if self.rng.chance(6) {
            self.back_up(snapshots).await;
        } else if self.rng.chance(3) {
            if let Some(backup) = snapshots.store.take() {
                self.restore_backup(backup).await?;
                self.back_up(snapshots).await;
            }
        } else if self.rng.chance(2) {
            self.fail_over(snapshots).await?;
        } else if self.rng.chance(3) {
            self.recreate_topic(snapshots).await?;
        } else {
            self.inject_fault().await;
        }
        Ok(())
    }

    pub(super) fn stop_processors(&mut self) {
        self.crashes += self.processors.len() as u64;
        self.processors.clear();
    }

    /// Injects a fault, or none.
    async fn inject_fault(&mut self) {
        let (servers, processors) = (self.servers.len() as u64, self.processors.len() as u64);
        match self.rng.below(24) {
            0 | 1 => {
                let victim = usize::try_from(self.rng.below(servers)).unwrap();
                self.lane_handles.lock().remove(victim);
                self.servers.remove(victim);
                self.crashes += 1;
                self.start_server();
            }
            2 | 3 => {
                let victim = usize::try_from(self.rng.below(servers)).unwrap();
                self.servers[victim].host.stall(self.rng.millis(1_500));
            }
            4 | 5 => {
                let victim = usize::try_from(self.rng.below(processors)).unwrap();
                self.processors.remove(victim);
                self.crashes += 1;
                self.start_processor();
            }
            6 | 7 => {
                let victim = usize::try_from(self.rng.below(processors)).unwrap();
                self.processors[victim].0.stall(self.rng.millis(1_500));
            }
            8 if processors < 3 => self.start_processor(),
            9 | 10 => self.log.rebalance(),
            11 => self.cache.clear(),
            12 => self.log.grow(4),
            13 => {
                let bounds = self.log.bounds().await.unwrap();
                for (partition, bounds) in bounds {
                    self.log.truncate(partition, bounds.low + (bounds.end - bounds.low) / 2);
                }
            }
            14 | 15 => {
                let victim = usize::try_from(self.rng.below(processors)).unwrap();
                self.processors[victim].0.cut_off(self.rng.millis(2_500));
            }
            16 => self.statuses.clear(),
            17 => self.full_until.fill(self.rng.millis(1_000)),
            _ => {}
        }
    }
}
