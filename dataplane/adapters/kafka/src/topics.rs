//! The topics themselves.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};

use super::{ANSWER, KafkaSettings, failed, logging::Logging};
use ping_ports::LogError;

/// Makes the topics that are not there. One that exists stays as it is.
///
/// # Errors
/// When Kafka does not answer, or refuses.
pub async fn ensure_topics(settings: &KafkaSettings, partitions: u32, replication: u32) -> Result<(), LogError> {
    let partitions = i32::try_from(partitions).map_err(failed)?;
    let replication = i32::try_from(replication).map_err(failed)?;
    let admin = AdminClient::from_config_and_context(&settings.client(), Logging).map_err(failed)?;
    let mut topics = vec![
        NewTopic::new(&settings.topic, partitions, TopicReplication::Fixed(replication)),
        NewTopic::new(&settings.dead_letter_topic, 1, TopicReplication::Fixed(replication)),
    ];
    if let Some(minutes) = &settings.minutes_topic {
        // The last word on a minute stays.
        let topic = NewTopic::new(minutes, 1, TopicReplication::Fixed(replication));
        topics.push(topic.set("cleanup.policy", "compact"));
    }
    let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
    for result in admin.create_topics(&topics, &options).await.map_err(failed)? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
        }
    }
    Ok(())
}

/// How many partitions `metadata` says that `topic` has.
pub(super) fn partitions_of(metadata: &Metadata, topic: &str) -> Result<u32, LogError> {
    let topic = metadata.topics().iter().find(|known| known.name() == topic);
    let Some(topic) = topic else { return Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic))) };
    if let Some(error) = topic.error() {
        return Err(failed(KafkaError::MetadataFetch(error.into())));
    }
    u32::try_from(topic.partitions().len()).map_err(failed)
}
