//! The compacted topic of minute summaries. Records are keyed by minute, so compaction keeps the last summary of each.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    producer::{FutureProducer, FutureRecord},
};

use super::{KafkaSettings, failed, logging::Logging};
use ping_ports::{LogError, MinuteSummary, MinuteTopic};

/// How long to wait for space in the producer's queue.
const ENQUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Publishes minute summaries.
pub struct KafkaMinutes {
    topic: String,
    config: ClientConfig,
    /// Created for the first summary.
    producer: Mutex<Option<FutureProducer<Logging>>>,
}

impl fmt::Debug for KafkaMinutes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaMinutes").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl KafkaMinutes {
    /// Does not connect yet: the first summary does. `None` when no topic is configured.
    #[must_use]
    pub fn new(settings: &KafkaSettings) -> Option<Self> {
        let topic = settings.minutes_topic.clone()?;
        let mut config = settings.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "5000");
        Some(Self { topic, config, producer: Mutex::new(None) })
    }

    fn producer(&self) -> Result<FutureProducer<Logging>, LogError> {
        let mut current = self.producer.lock();
        if let Some(producer) = current.as_ref() {
            return Ok(producer.clone());
        }
        let producer = FutureProducer::from_config_and_context(&self.config, Logging).map_err(failed)?;
        Ok(current.insert(producer).clone())
    }
}

#[async_trait]
impl MinuteTopic for KafkaMinutes {
    async fn publish(&self, minutes: &[MinuteSummary]) -> Result<(), LogError> {
        let producer = self.producer()?;
        for minute in minutes {
            let (key, value) = (minute.minute.0.to_string(), serde_json::to_string(minute).map_err(failed)?);
            let record = FutureRecord::to(&self.topic).key(&key).payload(&value);
            producer.send(record, ENQUEUE_TIMEOUT).await.map_err(|(error, _)| failed(error))?;
        }
        Ok(())
    }
}
