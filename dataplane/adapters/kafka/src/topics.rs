//! Creating topics.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};

use super::{KafkaSettings, QUERY_TIMEOUT, failed, logging::Logging};
use ping_ports::LogError;

/// Creates missing topics. Existing topics are not changed.
///
/// # Errors
/// When Kafka does not answer or rejects a topic.
pub async fn ensure_topics(settings: &KafkaSettings, partitions: u32, replication: u32) -> Result<(), LogError> {
    let partitions = i32::try_from(partitions).map_err(failed)?;
    let replication = i32::try_from(replication).map_err(failed)?;
    let admin = AdminClient::from_config_and_context(&settings.client(), Logging).map_err(failed)?;
    let mut topics = vec![
        NewTopic::new(&settings.topic, partitions, TopicReplication::Fixed(replication)),
        NewTopic::new(&settings.dead_letter_topic, 1, TopicReplication::Fixed(replication)),
    ];
    if let Some(minutes) = &settings.minutes_topic {
        // Compaction keeps the last summary of each minute.
        let topic = NewTopic::new(minutes, 1, TopicReplication::Fixed(replication));
        topics.push(topic.set("cleanup.policy", "compact"));
    }
    let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT)).operation_timeout(Some(QUERY_TIMEOUT));
    for result in admin.create_topics(&topics, &options).await.map_err(failed)? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
        }
    }
    Ok(())
}

/// The number of partitions of `topic` according to `metadata`.
pub(super) fn partitions_of(metadata: &Metadata, topic: &str) -> Result<u32, LogError> {
    let topic = metadata.topics().iter().find(|known| known.name() == topic);
    let Some(topic) = topic else { return Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic))) };
    if let Some(error) = topic.error() {
        return Err(failed(KafkaError::MetadataFetch(error.into())));
    }
    u32::try_from(topic.partitions().len()).map_err(failed)
}
