//! The topic is deleted and created again.

use std::{collections::BTreeMap, time::Duration};

use ping_core::{Offset, Partition};
use ping_ports::{CounterCache, LogBounds, SourceViews};
use tokio::time::{sleep, sleep_until};

use super::{World, restores::Snapshots};

/// How long it takes at most until each processor that is not stopped has asked for the topic's ends, or had an error.
const NOTICED: Duration = Duration::from_millis(400);

/// The offsets of a projection.
type Offsets = BTreeMap<Partition, Offset>;

impl World {
    /// Deletes the topic and creates it again. Does nothing if a projection has read nothing.
    pub(super) async fn recreate_topic(&mut self, snapshots: &mut Snapshots) -> Result<(), String> {
        let read = self.read_offsets().await;
        if read.iter().any(|offsets| offsets.values().all(|next| *next == 0)) {
            return Ok(());
        }
        // It soon grows past what it had when that was little.
        let is_small = read.iter().all(|offsets| offsets.values().sum::<Offset>() < 20);
        match self.rng.below(3) {
            _ if is_small => self.recreate_without_processors(&read).await?,
            0 => self.recreate_without_processors(&read).await?,
            1 if self.is_read_everywhere(&read).await => self.recreate_at_once().await,
            _ => self.recreate_slowly().await,
        }
        snapshots.store = None;
        self.recreations += 1;
        Ok(())
    }

    /// No processor runs until the topic has grown past `read`.
    async fn recreate_without_processors(&mut self, read: &[Offsets]) -> Result<(), String> {
        self.stop_processors();
        self.topic.delete();
        sleep(self.rng.millis(300)).await;
        self.topic.create(&self.log, &self.store).await;
        for _ in 0..30 {
            sleep(Duration::from_millis(50)).await;
            self.check_reading().await?;
            let bounds = self.log.bounds().await.unwrap();
            if read.iter().flatten().all(|(partition, next)| bounds[partition].end >= *next) {
                self.outgrown += 1;
                break;
            }
        }
        self.start_processor();
        Ok(())
    }

    /// Consumers have no error: only the ends show it. The topic takes no records until they are compared.
    async fn recreate_at_once(&mut self) {
        self.topic.delete();
        self.topic.create(&self.log, &self.store).await;
        self.topic.refuse_records(true);
        self.wait_until_noticed().await;
        self.topic.refuse_records(false);
    }

    /// Consumers have errors while there is no topic.
    async fn recreate_slowly(&mut self) {
        self.topic.delete();
        self.wait_until_noticed().await;
        self.topic.create(&self.log, &self.store).await;
    }

    /// Waits until every processor has run for long enough.
    async fn wait_until_noticed(&self) {
        if let Some(stalled_until) = self.processors.iter().filter_map(|(host, _)| host.stalled_until()).max() {
            sleep_until(stalled_until).await;
        }
        sleep(NOTICED + self.rng.millis(300)).await;
    }

    /// The offsets of the projections that have any.
    async fn read_offsets(&self) -> Vec<Offsets> {
        let counters = self.cache.positions().await.unwrap();
        let views = self.store.positions().await.unwrap().map(|views| views.positions);
        counters.into_iter().chain(views).map(|positions| positions.offsets).collect()
    }

    /// Whether each projection has read something of each partition that is not empty. The end of another partition shows nothing.
    async fn is_read_everywhere(&self, read: &[Offsets]) -> bool {
        let bounds = self.log.bounds().await.unwrap();
        let mut partitions = bounds.iter().filter(|(_, bounds)| bounds.end > 0);
        partitions.all(|(partition, _)| read.iter().all(|offsets| offsets.get(partition).is_some_and(|next| *next > 0)))
    }
}
