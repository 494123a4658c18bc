//! The first and last offsets of the log.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
};

use super::{
    KafkaSettings, QUERY_TIMEOUT, blocking, failed, logging::Logging, single_records::SingleRecords,
    topics::partitions_of,
};
use ping_core::Partition;
use ping_ports::{Bounds, LogBounds, LogError, Record};

/// Log lines of librdkafka that one call takes off its queue.
const MAX_LOG_LINES_PER_CALL: usize = 100;

/// Reads the first and last offsets. It has a client of its own, which belongs to no group and fetches nothing.
#[derive(Clone)]
pub struct KafkaBounds(Arc<OffsetClient>);

struct OffsetClient {
    topic: String,
    client: BaseConsumer<Logging>,
    reader: Mutex<SingleRecords>,
}

impl fmt::Debug for KafkaBounds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("KafkaBounds").field(&self.0.topic).finish()
    }
}

impl KafkaBounds {
    /// Does not connect yet.
    ///
    /// # Errors
    /// When librdkafka does not accept the settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, LogError> {
        // The end is where the next record goes, even if a transaction before it is still open.
        let mut config = settings.client();
        config.set("isolation.level", "read_uncommitted");
        let client = BaseConsumer::from_config_and_context(&config, Logging).map_err(failed)?;
        let reader = Mutex::new(SingleRecords::new(settings));
        Ok(Self(Arc::new(OffsetClient { topic: settings.topic.clone(), client, reader })))
    }
}

impl OffsetClient {
    /// Sends three requests, for any number of partitions.
    fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        for _ in 0..MAX_LOG_LINES_PER_CALL {
            if self.client.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let metadata = self.client.fetch_metadata(Some(&self.topic), QUERY_TIMEOUT).map_err(failed)?;
        let partitions = partitions_of(&metadata, &self.topic)?;
        let partitions = Partition::try_from(partitions).map_err(failed)?;
        let low = self.offsets(partitions, Offset::Beginning)?;
        let end = self.offsets(partitions, Offset::End)?;
        let bounds = low.into_iter().zip(end).map(|((partition, low), (_, end))| (partition, Bounds { low, end }));
        Ok(bounds.collect())
    }

    /// Asks the leaders for all partitions at once. Instead of a time, the request may name the beginning or the end.
    fn offsets(&self, partitions: Partition, which: Offset) -> Result<BTreeMap<Partition, i64>, LogError> {
        let mut request = TopicPartitionList::with_capacity(partitions.unsigned_abs() as usize);
        for partition in 0..partitions {
            request.add_partition_offset(&self.topic, partition, which).map_err(failed)?;
        }
        let answer = self.client.offsets_for_times(request, QUERY_TIMEOUT).map_err(failed)?;
        let offset = |element: &TopicPartitionListElem<'_>| {
            element.error().map_err(failed)?;
            match element.offset() {
                Offset::Offset(offset) => Ok((element.partition(), offset)),
                _ => Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::NoOffset))),
            }
        };
        answer.elements().iter().map(offset).collect()
    }
}

#[async_trait]
impl LogBounds for KafkaBounds {
    async fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        let client = Arc::clone(&self.0);
        blocking(move || client.bounds()).await
    }

    async fn records_at(&self, offsets: &BTreeMap<Partition, ping_core::Offset>) -> Result<Vec<Record>, LogError> {
        let (client, offsets) = (Arc::clone(&self.0), offsets.clone());
        blocking(move || client.reader.lock().read(&offsets)).await
    }
}
