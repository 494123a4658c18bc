//! Reading single records, outside of any group.

use std::{collections::BTreeMap, time::Instant};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{KafkaSettings, QUERY_TIMEOUT, failed, log_consumer::record, logging::Logging};
use ping_core::Partition;
use ping_ports::{LogError, Record};

/// A client that reads single records. It connects at its first use, and fetches nothing in between.
pub(super) struct SingleRecords {
    topic: String,
    config: ClientConfig,
    client: Option<BaseConsumer<Logging>>,
}

impl SingleRecords {
    pub(super) fn new(settings: &KafkaSettings) -> Self {
        let mut config = settings.client();
        config
            // Without a group there is no assignment. It neither joins the group nor commits to it.
            .set("group.id", &settings.group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_uncommitted")
            // Not less than a batch: otherwise the partitions would be read one after the other.
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.wait.max.ms", "10");
        Self { topic: settings.topic.clone(), config, client: None }
    }

    /// The records at `offsets`.
    pub(super) fn read(&mut self, offsets: &BTreeMap<Partition, ping_core::Offset>) -> Result<Vec<Record>, LogError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => BaseConsumer::from_config_and_context(&self.config, Logging).map_err(failed)?,
        };
        let records = self.read_with(&client, offsets)?;
        // Not kept after an error: a new one reads the topic's metadata again.
        self.client = Some(client);
        Ok(records)
    }

    fn read_with(
        &self,
        client: &BaseConsumer<Logging>,
        offsets: &BTreeMap<Partition, ping_core::Offset>,
    ) -> Result<Vec<Record>, LogError> {
        let mut partitions = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            partitions.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).map_err(failed)?;
        }
        client.assign(&partitions).map_err(failed)?;
        let (deadline, mut found) = (Instant::now() + QUERY_TIMEOUT, BTreeMap::new());
        while found.len() < offsets.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)));
            }
            if let Some(message) = client.poll(left) {
                let record = record(&message.map_err(failed)?);
                if offsets.get(&record.partition) == Some(&record.offset) {
                    found.insert(record.partition, record);
                }
            }
        }
        client.unassign().map_err(failed)?;
        Ok(found.into_values().collect())
    }
}
