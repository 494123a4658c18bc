//! Reading the dead-letter topic, for people who decide what to do about its records.

use std::collections::BTreeSet;

use rdkafka::{
    Message, Offset as KafkaOffset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};

use super::{KafkaSettings, QUERY_TIMEOUT, blocking, failed, log_consumer::record, logging::Logging, topics};
use ping_core::{Millis, partition_number};
use ping_ports::{LogError, LogEvent};

/// A record in the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// When it was sent there, in milliseconds since the Unix epoch; none if Kafka did not note it.
    pub sent: Option<Millis>,
    /// Why it is not counted.
    pub reason: String,
    /// Where it was read: topic, partition and offset.
    pub place: String,
    /// Its event, or its value if that is not an event of a server.
    pub content: Result<LogEvent, Vec<u8>>,
}

/// Passes every record of the dead-letter topic to `each`, until `each` returns false. Stops at the present end of the topic.
///
/// # Errors
/// When Kafka does not answer, or refuses to read the topic.
pub async fn read_dead_letters(
    settings: &KafkaSettings,
    each: impl FnMut(StoredLetter) -> bool + Send + 'static,
) -> Result<(), LogError> {
    let settings = settings.clone();
    blocking(move || read(&settings, each)).await
}

fn read(settings: &KafkaSettings, mut each: impl FnMut(StoredLetter) -> bool) -> Result<(), LogError> {
    let topic = &settings.dead_letter_topic;
    let mut config = settings.client();
    // Without a group there is no assignment. It neither joins the group nor commits to it.
    config.set("group.id", &settings.group).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let client = BaseConsumer::from_config_and_context(&config, Logging).map_err(failed)?;
    let metadata = client.fetch_metadata(Some(topic), QUERY_TIMEOUT).map_err(failed)?;
    let mut left: BTreeSet<_> =
        (0..u64::from(topics::partitions_of(&metadata, topic)?)).map(partition_number).collect();
    let mut partitions = TopicPartitionList::new();
    for partition in &left {
        partitions.add_partition_offset(topic, *partition, KafkaOffset::Beginning).map_err(failed)?;
    }
    client.assign(&partitions).map_err(failed)?;
    while !left.is_empty() {
        match client.poll(QUERY_TIMEOUT) {
            None => return Err(failed(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))),
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = left.remove(&partition),
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(message)) => {
                if !each(letter(&message)) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn letter(message: &BorrowedMessage<'_>) -> StoredLetter {
    let header = |name| {
        let mut headers = message.headers().into_iter().flat_map(Headers::iter);
        let value = headers.find(|header| header.key == name).and_then(|header| header.value);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    StoredLetter {
        sent: message.timestamp().to_millis(),
        reason: header("reason"),
        place: format!("{}/{}/{}", header("topic"), header("partition"), header("offset")),
        content: record(message).body.map_err(|(_, value)| value),
    }
}
