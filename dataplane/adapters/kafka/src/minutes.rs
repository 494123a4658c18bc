//! The compacted topic of minutes: one record each, by the minute, so that the last word stays.

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

/// Longest wait for a place in the queue.
const ROOM: Duration = Duration::from_secs(1);

/// The topic of minutes.
pub struct KafkaMinutes {
    topic: String,
    config: ClientConfig,
    /// Made when there is something to tell.
    producer: Mutex<Option<FutureProducer<Logging>>>,
}

impl fmt::Debug for KafkaMinutes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaMinutes").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl KafkaMinutes {
    /// Does not connect yet: the first minute does. None when nobody is to be told.
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
        let mut held = self.producer.lock();
        if let Some(producer) = held.as_ref() {
            return Ok(producer.clone());
        }
        let producer = FutureProducer::from_config_and_context(&self.config, Logging).map_err(failed)?;
        Ok(held.insert(producer).clone())
    }
}

#[async_trait]
impl MinuteTopic for KafkaMinutes {
    async fn publish(&self, minutes: &[MinuteSummary]) -> Result<(), LogError> {
        let producer = self.producer()?;
        for minute in minutes {
            let (key, value) = (minute.minute.0.to_string(), serde_json::to_string(minute).map_err(failed)?);
            let record = FutureRecord::to(&self.topic).key(&key).payload(&value);
            producer.send(record, ROOM).await.map_err(|(error, _)| failed(error))?;
        }
        Ok(())
    }
}
