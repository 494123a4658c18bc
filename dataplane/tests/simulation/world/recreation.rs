//! The topic is deleted and created again.

use std::{collections::BTreeMap, time::Duration};

use ping_core::{Offset, Partition};
use ping_ports::{CounterCache, LogBounds, SourceViews};
use tokio::time::{sleep, sleep_until};

use super::{World, restores::Snapshots};

/// How long it takes at most until each running processor has had an error of a topic that is deleted.
const NOTICED: Duration = Duration::from_millis(400);

impl World {
    /// Deletes the topic and creates it again: under running processors, or while none runs until it has grown past what they had read.
    /// Does nothing if they had read nothing.
    pub(super) async fn recreate_topic(&mut self, snapshots: &mut Snapshots) -> Result<(), String> {
        let read = self.read_offsets().await;
        if read.iter().any(|offsets| offsets.values().all(|next| *next == 0)) {
            return Ok(());
        }
        let stops = self.rng.chance(50);
        if stops {
            self.stop_processors();
        }
        self.topic.delete();
        // No processor may be stopped for the whole time.
        if let Some(stalled_until) = self.processors.iter().filter_map(|(host, _)| host.stalled_until()).max() {
            sleep_until(stalled_until).await;
        }
        sleep(self.rng.millis(300) + if stops { Duration::ZERO } else { NOTICED }).await;
        self.topic.create(&self.log, &self.store).await;
        snapshots.store = None;
        self.recreations += 1;
        if stops {
            if self.wait_until_outgrown(&read).await? {
                self.outgrown += 1;
            }
            self.start_processor();
        }
        Ok(())
    }

    /// The positions of the projections that have any.
    async fn read_offsets(&self) -> Vec<BTreeMap<Partition, Offset>> {
        let counters = self.cache.positions().await.unwrap();
        let views = self.store.positions().await.unwrap().map(|views| views.positions);
        counters.into_iter().chain(views).map(|positions| positions.offsets).collect()
    }

    /// Waits until the topic has grown past all of `read`, but not for long. True if it has.
    async fn wait_until_outgrown(&self, read: &[BTreeMap<Partition, Offset>]) -> Result<bool, String> {
        for _ in 0..30 {
            sleep(Duration::from_millis(50)).await;
            self.check_reading().await?;
            let bounds = self.log.bounds().await.unwrap();
            if read.iter().flatten().all(|(partition, next)| bounds[partition].end >= *next) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
