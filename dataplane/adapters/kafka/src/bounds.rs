//! Where the log begins and ends.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
};

use super::{ANSWER, KafkaSettings, blocking, failed, logging::Logging, topics::partitions_of};
use ping_core::Partition;
use ping_ports::{Bounds, LogBounds, LogError};

/// Log lines of librdkafka taken off its queue at once.
const LINES: usize = 100;

/// Asks for the first and last offsets. A client of its own, that belongs to no group and fetches nothing.
#[derive(Clone)]
pub struct KafkaBounds(Arc<Asking>);

struct Asking {
    topic: String,
    client: BaseConsumer<Logging>,
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
        // The end is where the next record goes, whether or not somebody's transaction is open before it.
        let mut config = settings.client();
        config.set("isolation.level", "read_uncommitted");
        let client = BaseConsumer::from_config_and_context(&config, Logging).map_err(failed)?;
        Ok(Self(Arc::new(Asking { topic: settings.topic.clone(), client })))
    }
}

impl Asking {
    /// Three requests, however many partitions there are.
    fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        for _ in 0..LINES {
            if self.client.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let metadata = self.client.fetch_metadata(Some(&self.topic), ANSWER).map_err(failed)?;
        let partitions = partitions_of(&metadata, &self.topic)?;
        let partitions = Partition::try_from(partitions).map_err(failed)?;
        let low = self.offsets(partitions, Offset::Beginning)?;
        let end = self.offsets(partitions, Offset::End)?;
        let bounds = low.into_iter().zip(end).map(|((partition, low), (_, end))| (partition, Bounds { low, end }));
        Ok(bounds.collect())
    }

    /// Asks the leaders for all partitions at once: what the request calls a time may be the beginning or the end.
    fn offsets(&self, partitions: Partition, which: Offset) -> Result<BTreeMap<Partition, i64>, LogError> {
        let mut question = TopicPartitionList::with_capacity(partitions.unsigned_abs() as usize);
        for partition in 0..partitions {
            question.add_partition_offset(&self.topic, partition, which).map_err(failed)?;
        }
        let answer = self.client.offsets_for_times(question, ANSWER).map_err(failed)?;
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
        let asking = Arc::clone(&self.0);
        blocking(move || asking.bounds()).await
    }
}
